"""Seal all secrets of a database anew, while no scheduler has it. Called by maintenance/rotation.py.

Works through the jobs in transactions of bounded size. When it is interrupted, some secrets are sealed by the new key
and the others by the old one; called again with both keys, it seals all of them anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from zsched.model.fields import read_variables, variables_text
from zsched.model.limits import RESEAL_JOBS_MAX
from zsched.store.engine import Engine, Row

_SEALED: Final = """
    SELECT job_id, secret_env FROM jobs WHERE job_id > ? AND secret_env IS NOT NULL ORDER BY job_id LIMIT ?"""
_RESEAL: Final = "UPDATE jobs SET secret_env = ? WHERE job_id = ?"


@dataclass(slots=True)
class Resealed:
    """How many jobs have secrets, and which of them have some that no key opens. Those stay as they are."""

    jobs: int = 0
    unopened: int = 0


def reseal(engine: Engine, seal: Callable[[str, str], str]) -> Resealed:
    """Replace each secret by what `seal` makes of its name and its sealed value. Raises StoreError.

    A job stays as it is when `seal` raises ValueError, or when what is stored are no variables.
    """
    done = Resealed()
    last = 0
    while page := engine.execute(_SEALED, (last, RESEAL_JOBS_MAX)):
        last = page[-1][0]
        engine.begin()
        try:
            for row in page:
                _reseal_job(engine, row, seal, done)
        except BaseException:
            engine.rollback()
            raise
        engine.commit()
    return done


def _reseal_job(engine: Engine, row: Row, seal: Callable[[str, str], str], done: Resealed) -> None:
    job_id, stored = row
    done.jobs += 1
    try:
        sealed = {name: seal(name, value) for name, value in read_variables(stored).items()}
    except ValueError:
        done.unopened += 1
        return
    engine.execute(_RESEAL, (variables_text(sealed), job_id))
