"""Replacing the scheduler's two keys while it does not run. Used by `zsched key`, which holds the database's lock.

Whenever a rotation is interrupted, the scheduler can start with what there is, and the same call goes on from there.

| key | steps | what is good in between |
|---|---|---|
| secret.key | new and old key in the file; secrets sealed anew; the new key alone | both keys open |
| curve.key | `curve.key.next`; access files; their keys bound in one turn; renamed to `curve.key` | the old key |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zsched.host import files
from zsched.model.types import KeyOrigin, WorkerId
from zsched.security import keys
from zsched.security.keys import Access
from zsched.security.vault import Vault
from zsched.store.contract import Store
from zsched.store.engine import Engine
from zsched.store.reseal import Resealed, reseal

CURVE: Final = "curve.key"
SECRET: Final = "secret.key"  # noqa: S105  (a file's name)
# The key that takes the place of CURVE when all is prepared for it.
NEXT: Final = "curve.key.next"


class NoKeyError(Exception):
    """There is nothing to replace. The sentence says what is missing."""


class UnknownWorkerError(Exception):
    """A worker for which an access file is wanted has no key."""


@dataclass(frozen=True, slots=True)
class Issue:
    """New access files: for these workers, into this folder, with this endpoint of the scheduler."""

    workers: tuple[WorkerId, ...]
    folder: Path
    endpoint: str


def rotate_secret(folder: Path, engine: Engine) -> Resealed:
    """Replace secret.key in the folder of a database. Raises NoKeyError, PrivateFileError, StoreError."""
    vault = Vault(folder / SECRET)
    if not vault.add_key():
        raise NoKeyError(f"there is no {folder / SECRET}: no job has had a secret yet")
    done = reseal(engine, vault.reseal)
    vault.drop_old_keys()
    return done


def rotate_curve(folder: Path, store: Store, issue: Issue, actor: str, now_ms: int) -> list[Path]:
    """Replace curve.key in the folder of a database, and the keys of workers with access files. Returns the new files.

    Raises NoKeyError, UnknownWorkerError, PrivateFileError, StoreError.
    """
    if not (folder / CURVE).exists():
        raise NoKeyError(f"there is no {folder / CURVE}: the scheduler makes it at its next start")
    for worker in issue.workers:
        if store.access.key_of(worker) is None:
            raise UnknownWorkerError(f"worker {worker} has no key; `zsched access list` shows those that have one")
    _make_folder(issue.folder)
    server_key = keys.own_pair(folder / NEXT).public
    issued = {issue.folder / f"{worker}.access": _issued(store, issue, worker, server_key) for worker in issue.workers}
    _bind(store, issued.values(), actor, now_ms)
    try:
        (folder / NEXT).rename(folder / CURVE)
        files.sync_folder(folder)
    except OSError as error:
        raise files.PrivateFileError(f"{folder / CURVE} can't be replaced: {error.strerror}") from None
    return list(issued)


def _make_folder(folder: Path) -> None:
    """Make a folder if there is none; nobody else can write in it. Raises PrivateFileError."""
    try:
        # A link of another user could say where it is made.
        files.resolve(folder)
        files.make_folder(folder)
        files.demand_unwritable(folder)
    except OSError as error:
        raise files.PrivateFileError(f"{folder} can't be made: {error.strerror}") from None


def _issued(store: Store, issue: Issue, worker: WorkerId, server_key: str) -> Access:
    """The worker's new access file: that of an interrupted rotation, or one that is made now."""
    path = issue.folder / f"{worker}.access"
    if path.exists():
        found = keys.read_access(path)
        if found.worker != worker:
            raise files.PrivateFileError(
                f"{path} is for a worker named {found.worker}: move it away, or name another folder"
            )
        known = store.access.key(found.pair.public)
        revoked = known is not None and known.revoked_ms is not None
        if (found.server_key, found.endpoint) == (server_key, issue.endpoint) and not revoked:
            return found
    made = Access(worker, issue.endpoint, server_key, keys.new_pair())
    files.write_private(path, keys.written_access(made))
    return made


def _bind(store: Store, issued: Iterable[Access], actor: str, now_ms: int) -> None:
    with _turn(store, now_ms):
        for access in issued:
            name = WorkerId(access.worker)
            bound = store.access.key_of(name)
            if bound is None or bound.public_key != access.pair.public:
                store.access.bind_key(name, access.pair.public, KeyOrigin.FILE, actor, now_ms)


@contextmanager
def _turn(store: Store, now_ms: int) -> Iterator[None]:
    """A transaction. What it leaves to be settled is settled."""
    store.begin()
    try:
        yield
        store.flush_counters(now_ms)
        store.commit()
    except BaseException:
        store.rollback()
        raise
