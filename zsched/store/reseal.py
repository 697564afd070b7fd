"""Reseal all secrets of a database while no scheduler uses it. Called by maintenance/rotation.py.

Processes the jobs in transactions of bounded size. After an interruption some secrets are sealed by the new key, the
others by the old one; another call with both keys reseals them all.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from zsched.model.fields import read_variables, variables_text
from zsched.model.limits import RESEAL_JOBS_MAX
from zsched.store import sql
from zsched.store.contract import KEY_CHECK
from zsched.store.engine import Engine, Row

_SEALED: Final = """
    SELECT job_id, secret_env FROM jobs WHERE job_id > ? AND secret_env IS NOT NULL ORDER BY job_id LIMIT ?"""
_RESEAL: Final = "UPDATE jobs SET secret_env = ? WHERE job_id = ?"


@dataclass(slots=True)
class Resealed:
    """Number of jobs with secrets, and of those with a secret that no key opens, which stay as they are."""

    jobs: int = 0
    unopened: int = 0


def reseal(engine: Engine, seal: Callable[[str, str], str]) -> Resealed:
    """Replace each sealed secret by the result of `seal(name, sealed value)`. Raises StoreError.

    A job stays as it is if `seal` raises ValueError, or if its stored variables are invalid.
    """
    resealed = Resealed()
    last = 0
    while page := engine.execute(_SEALED, (last, RESEAL_JOBS_MAX)):
        last = page[-1][0]
        engine.begin()
        try:
            for row in page:
                _reseal_job(engine, row, seal, resealed)
        except BaseException:
            engine.rollback()
            raise
        engine.commit()
    _reseal_check(engine, seal)
    return resealed


def _reseal_check(engine: Engine, seal: Callable[[str, str], str]) -> None:
    """Reseal the value by which other schedulers find out whether they have the same key."""
    [(sealed,)] = engine.execute(sql.KEY_CHECK)
    if sealed is not None:
        engine.begin()
        with suppress(ValueError):
            engine.execute(sql.SET_KEY_CHECK, (seal(KEY_CHECK, sealed),))
        engine.commit()


def _reseal_job(engine: Engine, row: Row, seal: Callable[[str, str], str], resealed: Resealed) -> None:
    job_id, stored = row
    resealed.jobs += 1
    try:
        sealed = {name: seal(name, value) for name, value in read_variables(stored).items()}
    except ValueError:
        resealed.unopened += 1
        return
    engine.execute(_RESEAL, (variables_text(sealed), job_id))
