"""Rotation of the scheduler's two keys while it does not run. Used by `zsched key`, which holds the database's lock.

After an interruption at any point the scheduler can start, and the same call completes the rotation.

| key | steps | valid in between |
|---|---|---|
| secret.key | write both keys; reseal all secrets; keep only the new key | both keys |
| curve.key | write `curve.key.next`, access files; bind their keys in one turn; rename to `curve.key` | the old key |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zsched.host import files
from zsched.model.access import KeyOrigin
from zsched.model.types import WorkerId
from zsched.security import keys
from zsched.security.keys import Access
from zsched.security.vault import Vault
from zsched.store.contract import Store, Transactions
from zsched.store.engine import Engine
from zsched.store.reseal import Resealed, reseal

CURVE: Final = "curve.key"
SECRET: Final = "secret.key"  # noqa: S105  (a file's name)
# The new key, renamed to CURVE in the last step.
NEXT: Final = "curve.key.next"


class NoKeyError(Exception):
    """There is no key to replace."""


class UnknownWorkerError(Exception):
    """An access file was requested for a worker that has no key."""


@dataclass(frozen=True, slots=True)
class Issue:
    """Request of new access files: the workers, the folder for the files, and the scheduler's endpoint in them."""

    workers: tuple[WorkerId, ...]
    folder: Path
    endpoint: str


def rotate_secret(folder: Path, engine: Engine) -> Resealed:
    """Replace secret.key in the folder of a database. Raises NoKeyError, PrivateFileError, StoreError."""
    vault = Vault(folder / SECRET)
    if not vault.add_key():
        raise NoKeyError(f"there is no {folder / SECRET}: no job has had a secret yet")
    resealed = reseal(engine, vault.reseal)
    vault.drop_old_keys()
    return resealed


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
        raise files.PrivateFileError(f"can't replace {folder / CURVE}: {error.strerror}") from None
    return list(issued)


def _make_folder(folder: Path) -> None:
    """Create a folder that only its owner can write in, if it is missing. Raises PrivateFileError."""
    try:
        # Refuses another user's link, which could choose the place.
        files.resolve(folder)
        files.make_folder(folder)
        files.demand_unwritable(folder)
    except OSError as error:
        raise files.PrivateFileError(f"can't create the folder {folder}: {error.strerror}") from None


def _issued(store: Store, issue: Issue, worker: WorkerId, server_key: str) -> Access:
    """The worker's new access file: from an interrupted rotation, else created now. Raises KeyFileError."""
    path = issue.folder / f"{worker}.access"
    if path.exists():
        present = keys.read_access(path)
        if present.worker != worker:
            raise files.PrivateFileError(
                f"{path} is for a worker named {present.worker}: move it away, or name another folder"
            )
        known = store.access.key(present.pair.public)
        revoked = known is not None and known.revoked_ms is not None
        if (present.server_key, present.endpoint) == (server_key, issue.endpoint) and not revoked:
            return present
    access = Access(worker, issue.endpoint, server_key, keys.new_pair())
    files.write_private(path, keys.written_access(access))
    return access


def _bind(store: Store, issued: Iterable[Access], actor: str, now_ms: int) -> None:
    with _turn(store, now_ms):
        for access in issued:
            name = WorkerId(access.worker)
            bound = store.access.key_of(name)
            if bound is None or bound.public_key != access.pair.public:
                store.access.bind_key(name, access.pair.public, KeyOrigin.FILE, actor, now_ms)


@contextmanager
def _turn(store: Transactions, now_ms: int) -> Iterator[None]:
    """A transaction whose counters and events are written at its end."""
    store.begin()
    try:
        yield
        store.flush_counters(now_ms)
        store.commit()
    except BaseException:
        store.rollback()
        raise
