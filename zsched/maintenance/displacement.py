"""A database under a running scheduler whose file is deleted, replaced or overwritten, or whose folder loses files.

The loop calls FileWatch after its turns. Removed files are created again. A displaced database can't be: the scheduler
ends, and what is committed is saved as a backup.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from zsched.host.files import PrivateFileError
from zsched.maintenance import backup
from zsched.model.limits import FILE_CHECK_MS
from zsched.model.types import Now
from zsched.store.contract import StoreError, StoreLocked, StoreMisplaced
from zsched.store.engine import Engine
from zsched.store.sqlite.engine import SqliteEngine
from zsched.store.sqlite.lock import how_to_restore

log = logging.getLogger(__name__)


class FileWatch:
    """Checks the database's file and its folder, at most once in FILE_CHECK_MS."""

    def __init__(self, verify: Callable[[], None], recreate_files: Callable[[], Sequence[str]]) -> None:
        """`verify` raises StoreMisplaced. `recreate_files` creates removed files again and returns their names. It
        raises PrivateFileError, StoreLocked, OSError.
        """
        self._verify = verify
        self._recreate_files = recreate_files
        self._next_ms = 0
        # The failure that was logged last; empty when there is none.
        self._failure = ""

    def look(self, mono_ms: int) -> None:
        """Raises StoreMisplaced."""
        if mono_ms < self._next_ms:
            return
        self._next_ms = mono_ms + FILE_CHECK_MS
        self._verify()
        failure = ""
        try:
            if names := self._recreate_files():
                log.error("files were removed from the database's folder, and are written again: %s", ", ".join(names))
        except (PrivateFileError, StoreLocked, OSError) as error:
            failure = str(error)
        if failure and failure != self._failure:
            log.error("files were removed from the database's folder, and can't be written again: %s", failure)
        self._failure = failure


def find(engine: SqliteEngine, error: StoreError) -> StoreMisplaced | None:
    """The displacement that caused an error, or None. A file copied over the database may be read, and found damaged,
    before the watch looks at it.
    """
    if isinstance(error, StoreMisplaced):
        return error
    try:
        engine.verify()
    except StoreMisplaced as displaced:
        return displaced
    except StoreError:
        pass
    return None


@contextmanager
def rescued(engine: Engine, clock: Callable[[], Now], alive: Callable[[int], None]) -> Iterator[None]:
    """While it lasts, a StoreError that comes of a displaced file saves first what is committed.

    `alive` is called during the copy, with the steady clock. Raises StoreError.
    """
    try:
        yield
    except StoreError as error:
        # Other databases have no file of ours.
        displaced = find(engine, error) if isinstance(engine, SqliteEngine) else None
        if displaced is None:
            raise
        assert isinstance(engine, SqliteEngine)
        raise rescue(engine, displaced, clock().wall_ms, lambda: alive(clock().mono_ms)) from None


def rescue(engine: SqliteEngine, error: StoreMisplaced, now_ms: int, on_step: Callable[[], None]) -> StoreMisplaced:
    """Save what is committed of a displaced database. Returns the error with the place of the copy and the remedy."""
    db = engine.path
    try:
        saved, sound = backup.rescue(engine, db, now_ms, on_step)
    except (StoreError, OSError, PrivateFileError) as failure:
        return StoreMisplaced(
            f"{error}, and no copy could be saved: {failure}; its WAL {db}-wal is left as it is; restore a backup:"
            f" {how_to_restore(db)}"
        )
    remedy = how_to_restore(db, saved)
    if not sound:
        return StoreMisplaced(
            f"{error}: what could be saved is in {saved}, and is damaged; restore a backup instead, or {remedy}"
        )
    engine.forsake()
    return StoreMisplaced(f"{error}: all that was acknowledged is in {saved}; {remedy}")
