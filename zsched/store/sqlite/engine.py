"""The SQLite engine over APSW: a connection, its file and WAL, and functions that open one.

Everything specific to SQLite belongs in this folder: pragmas, files, error classes. These settings decide what a commit
means: WAL, `synchronous=FULL` (a commit is an fdatasync of the WAL and survives a power cut), `busy_timeout` (else APSW
does not wait). Page size and auto_vacuum must be set before the first table exists.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

import apsw

from zsched.host import files
from zsched.store.contract import StoreCorrupt, StoreError, StoreLoose, StoreMisplaced
from zsched.store.reader import EngineReader
from zsched.store.sqlite import migrations
from zsched.store.sqlite.errors import is_sync_error, raise_store_error
from zsched.store.sqlite.head import BACKUP_ID, Head, belongs
from zsched.store.sqlite.lock import Companions, Lock, demand_own_files, how_to_restore, wal_has_frames
from zsched.store.sqlite.statements import Statements
from zsched.store.writer import Writer

log = logging.getLogger(__name__)

# How long a statement waits for another process that holds the database, until it raises StoreBusy.
BUSY_TIMEOUT_MS: Final = 5_000

# Pages in the WAL at which a commit also runs a checkpoint, which moves them into the database: 8 MB. The next commit
# then restarts the WAL, unless a reader still needs it; while readers are always active, the WAL grows.
CHECKPOINT_PAGES: Final = 2_000

# Pages in the WAL at which a commit waits for the readers, to restart the WAL: 32 MB. It waits at most RESTART_WAIT_MS,
# and if that fails, not again before CHECKPOINT_PAGES more.
RESTART_PAGES: Final = 8_000
RESTART_WAIT_MS: Final = 100

# Size to which a restarted WAL is truncated: twice CHECKPOINT_PAGES. Overwriting allocated blocks is cheaper than
# allocating new ones.
WAL_BYTES_KEPT: Final = 16 * 1024 * 1024

# Unused pages that one step gives back to the file system, and those that stay for new rows: 8 MB.
SHRINK_PAGES: Final = 256
FREE_PAGES_KEPT: Final = 2_000

# Prepared statements that a connection keeps. APSW drops a statement that is not used in this number of executions, and
# a small turn has about 90. With APSW's usual 100, preparing took a fifth of the scheduler's time.
STATEMENTS_KEPT: Final = 400

# Pages that a copy reads in one step. Between steps its caller can send signs of life.
_COPY_PAGES: Final = 4_096


class SqliteEngine(Statements):
    """One connection. Implements engine.Engine."""

    def __init__(
        self, path: Path | str, *, read_only: bool = False, immutable: bool = False, lock: Lock | None = None
    ) -> None:
        """Open the database; a writer creates the file (0600) if it is missing. Raises StoreError.

        A writer refuses a file to which other users have access (StoreLoose). With its `lock`, `verify` watches the
        file. `immutable`: no process writes to the file, and it has no WAL; no file is created next to it.
        """
        self._lock = lock
        self._companions: Companions | None = None
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        try:
            if path != ":memory:":
                path = files.resolve(Path(path))
                if not read_only:
                    _make_own(path)
            self._path = Path(path)
            name = str(path)
            if immutable:
                flags |= apsw.SQLITE_OPEN_URI
                name = f"file:{quote(name)}?immutable=1"
            super().__init__(apsw.Connection(name, flags=flags, statementcachesize=STATEMENTS_KEPT))
            self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            # Without it SQLite makes a new plan whenever another LIMIT is bound: 0.1 ms for each claim.
            self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            self._wal_pages = 0
            self._restart_at_pages = RESTART_PAGES
            # Whether the file carries generations (head.py), from `confirm` on.
            self._marks = False
            # Whether the next commit that changes something advances the generation.
            self._advance_due = False
            self._changes_before = 0
            if not read_only:
                self._prepare()
                if path != ":memory:":
                    files.demand_private(Path(path), os.stat(path))
        except files.InsecureError as error:
            raise StoreLoose(str(error)) from None
        except OSError as error:
            raise StoreError(f"can't open the database {path}: {error.strerror}") from None
        except apsw.Error as error:
            raise_store_error(error)

    def _prepare(self) -> None:
        """Set the pragmas of a writer. Those that readers need too stand in __init__."""
        if not self.execute("SELECT count(*) FROM sqlite_master")[0][0]:
            self._connection.pragma("page_size", 4096)
            self._connection.pragma("auto_vacuum", 2)
        self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", "FULL")
        self._connection.pragma("foreign_keys", 1)
        self._connection.pragma("journal_size_limit", WAL_BYTES_KEPT)
        # SQLite's automatic checkpoint is part of COMMIT. If it fails, COMMIT fails although the turn is durable, and a
        # caller would get a false error. This hook replaces it.
        self._connection.set_wal_hook(self._note_wal)

    def _note_wal(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def fence(self, epoch: int) -> None:
        """The lock excludes all other writers."""

    def confirm_epoch(self) -> None:
        """The lock excludes all other writers."""

    def begin(self) -> None:
        self._ids.clear()
        self.execute("BEGIN IMMEDIATE")
        self._changes_before = self._connection.total_changes()

    def commit(self) -> None:
        # Not in a turn that changes nothing: such a turn succeeds on a full disk.
        advance = self._advance_due and self._connection.total_changes() != self._changes_before
        try:
            if advance:
                self._advance()
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            with suppress(StoreError):
                self.rollback()
            raise_store_error(error)
        if advance:
            self._advance_due = False
        if self._wal_pages >= CHECKPOINT_PAGES:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Move the WAL into the database, unless its file was displaced.

        If it fails, the commit remains valid, and the next commit tries again. Only a failed sync is never tried again.
        """
        if self._displaced() is not None:
            return
        try:
            pages, moved = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            emptied = False
            if self._wal_pages < RESTART_PAGES:
                self._restart_at_pages = RESTART_PAGES
            elif self._wal_pages >= self._restart_at_pages:
                self._restart_at_pages = self._wal_pages + CHECKPOINT_PAGES
                emptied = self._restart_wal()
        except apsw.Error as error:
            if is_sync_error(error):
                raise_store_error(error)
            log.warning("checkpoint failed, the next commit tries again: %s", error)
            return
        # The next commit restarts the WAL, unless a reader still needs it.
        self._advance_due = self._marks and (emptied or pages == moved)

    def _restart_wal(self) -> bool:
        """Wait up to RESTART_WAIT_MS until no reader needs the WAL, and truncate it. False: a reader still needs it."""
        self._connection.set_busy_timeout(RESTART_WAIT_MS)
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.BusyError:
            return False
        finally:
            self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        return True

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self.execute("ROLLBACK")

    # --- the file and its WAL ---

    @property
    def path(self) -> Path:
        return self._path

    def head(self) -> Head:
        """The header as this connection reads it, from the file and its WAL. Raises StoreError."""
        try:
            return self._head()
        except apsw.Error as error:
            raise_store_error(error)

    def _head(self) -> Head:
        application_id, user_version, cookie = (
            int(self._connection.pragma(name)) for name in ("application_id", "user_version", "schema_version")
        )
        return Head(application_id, user_version & 0xFFFF_FFFF, cookie)

    def _advance(self) -> None:
        self._connection.pragma("user_version", self._head().advanced())

    def confirm(self) -> None:
        """Give the file a generation that none of its copies has. Called once per start, after check and migration.

        The WAL gets the next generation with the first commit that follows.
        """
        self._marks = True
        # First, so that file and WAL have the same schema.
        self._checkpoint()
        # If a reader still needs the WAL, nothing changes until a later checkpoint.
        if self._advance_due:
            self.begin()
            try:
                self._advance()
            except BaseException:
                self.rollback()
                raise
            self.commit()
            self._checkpoint()
        if self._lock is not None:
            self._companions = Companions(self._path)

    def verify(self) -> None:
        """Raise StoreMisplaced if the database's file was deleted, replaced or overwritten while it was open."""
        displaced = self._displaced()
        if displaced is not None:
            raise StoreMisplaced(f"{displaced} while the scheduler had it open")

    def _displaced(self) -> str | None:
        """What happened to the file or its WAL, as the start of a sentence; None while both are in place."""
        if self._lock is None or self._companions is None:
            return None
        predicate = self._lock.displaced()
        if predicate is not None:
            return f"{self._path} {predicate}"
        companion = self._companions.displaced()
        if companion is None and not belongs(self._lock.head(), self.head()):
            return f"{self._path} was overwritten"
        return companion

    def copy_to(self, path: Path, on_step: Callable[[], None] = lambda: None) -> None:
        """Copy the present committed state into an empty file, in steps; writers are not blocked.

        Raises StoreFull if there is no space for the copy, StoreError.
        """
        try:
            # A snapshot: without it a commit between two steps would restart the copy.
            self._connection.execute("BEGIN; SELECT count(*) FROM sqlite_master")
            with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as target:
                target.pragma("synchronous", "OFF")
                copy = target.backup("main", self._connection, "main")
                try:
                    while not copy.done:
                        copy.step(_COPY_PAGES)
                        on_step()
                finally:
                    # The error of a failed step has no text, that of `finish` has.
                    copy.finish()
        except apsw.Error as error:
            raise_store_error(error)
        finally:
            self.rollback()

    def overwrite_deleted(self) -> None:
        """Overwrite all data that is changed or deleted from now on. Makes writes slower."""
        self._connection.pragma("secure_delete", 1)

    def shrink(self) -> bool:
        """Give up to SHRINK_PAGES unused pages at the end of the file back, but keep some for new rows."""
        (free,) = self.execute("PRAGMA freelist_count")[0]
        if free <= FREE_PAGES_KEPT:
            return False
        self.execute(f"PRAGMA incremental_vacuum({min(SHRINK_PAGES, free - FREE_PAGES_KEPT)})")
        return bool(free - SHRINK_PAGES > FREE_PAGES_KEPT)

    def check(self) -> None:
        """Raise StoreCorrupt unless SQLite's quick_check succeeds."""
        result = self.execute("PRAGMA quick_check(1)")[0][0]
        if result != "ok":
            raise StoreCorrupt(f"the database is damaged: {result}")

    def find_damage(self) -> list[str]:
        results = self.execute("PRAGMA integrity_check(20)")
        damage = [f"the file: {result}" for (result,) in results if result != "ok"]
        for table, row, parent, _ in self.execute("PRAGMA foreign_key_check"):
            damage.append(f"row {row} of {table} refers to a missing row of {parent}")
        return damage

    def migrate(self, now_ms: int) -> None:
        """Bring the schema to this release's version. Raises StoreNewer, StoreForeign, StoreMisplaced for a backup."""
        migrations.migrate(self, self._path, self.head(), now_ms)

    def keep_wal(self, *, keep: bool = True) -> None:
        """Whether `close` keeps the WAL as it is. Otherwise it moves the WAL into the database and removes it."""
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(keep))

    def close(self) -> None:
        """Close the connection. If the file was displaced, the WAL is neither moved nor removed."""
        with suppress(apsw.Error, StoreError):
            if self._displaced() is not None:
                self.keep_wal()
        self._connection.close()

    def forsake(self) -> None:
        """Close a displaced database that has been copied elsewhere, and remove its WAL.

        The WAL is first moved into a file that was moved or replaced, but not into one that was overwritten.
        """
        assert self._lock is not None
        assert self._companions is not None
        moved = self._lock.displaced() is not None
        self.keep_wal()
        if moved:
            with suppress(apsw.Error):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        self._connection.close()
        self._companions.remove()


def _make_own(path: Path) -> None:
    """Create the database's file (0600) if it is missing. Raises InsecureError if another user owns it, OSError."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    demand_own_files(path)


def demand_sound(lock: Lock) -> None:
    """Raise StoreMisplaced if the file is a backup, or its WAL was written for another file. Changes neither."""
    file = lock.head()
    if file is not None and file.application_id == BACKUP_ID:
        raise StoreMisplaced(f"{lock.path} is a backup: {how_to_restore(lock.path, lock.path)}")
    # SQLite removes the WAL of an empty file.
    if wal_has_frames(lock.path) and (file is None or not belongs(file, together(lock.path))):
        raise StoreMisplaced(
            f"{lock.path} is not the file that its WAL {lock.path}-wal was written for, as after a copy over it:"
            f" {how_to_restore(lock.path)}"
        )


def together(path: Path) -> Head:
    """The header that SQLite reads from a file and its WAL. Changes neither. Raises StoreError."""
    with closing(SqliteEngine(path, read_only=True)) as engine:
        engine.keep_wal()
        return engine.head()


def open_writer(path: Path | str, now_ms: int, lock: Lock | None = None) -> Writer:
    """Open the database for the scheduler, as the write side of the store. Raises as open_engine."""
    engine = open_engine(path, now_ms, lock)
    try:
        return Writer(engine)
    except BaseException:
        engine.close()
        raise


def open_engine(path: Path | str, now_ms: int, lock: Lock | None = None) -> SqliteEngine:
    """Open the database for the scheduler, check it, and migrate its schema. Raises StoreError.

    With its `lock`, the file must belong to the WAL next to it (StoreMisplaced), and `verify` watches it.
    """
    if lock is not None:
        demand_sound(lock)
    engine = SqliteEngine(path, lock=lock)
    try:
        engine.keep_wal()
        engine.check()
        engine.migrate(now_ms)
        engine.confirm()
        engine.keep_wal(keep=False)
    except BaseException:
        engine.close()
        raise
    return engine


def open_reader(path: Path | str) -> EngineReader:
    """Open the database for reading, in the thread that uses it."""
    return EngineReader(SqliteEngine(path, read_only=True))
