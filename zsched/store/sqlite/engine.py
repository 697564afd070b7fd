"""The SQLite engine, over APSW: opening, migrations, the file and its WAL, and SQLite's errors in our words.

What SQLite says differently from another engine stands here: pragmas, files, error classes. Settings that decide what a
commit means: WAL, `synchronous=FULL` (a commit is an fdatasync of the WAL: it survives a power cut), `busy_timeout`
(APSW's default is none). Page size and auto_vacuum must come before the first table.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from importlib import resources
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import quote

import apsw

from zsched.host import files
from zsched.store import sql
from zsched.store.contract import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreLoose,
    StoreMisplaced,
    StoreNewer,
    StoreUnsure,
)
from zsched.store.reader import EngineReader
from zsched.store.sqlite.head import APPLICATION_ID, BACKUP_ID, Head, belongs
from zsched.store.sqlite.lock import Companions, Lock, demand_own_files, how_to_restore, wal_has_frames
from zsched.store.writer import Writer

log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS: Final = 5_000

# Pages in the WAL from which on a commit also moves them into the database: 8 MB. The next commit then begins the WAL
# again, unless a reader still reads from it; with readers at all times it grows.
CHECKPOINT_PAGES: Final = 2_000

# Pages in the WAL from which on a commit waits for the readers, to begin it again: 32 MB. It waits this long at most,
# and after a wait without success not again before CHECKPOINT_PAGES more.
RESTART_PAGES: Final = 8_000
RESTART_WAIT_MS: Final = 100

# What the WAL keeps of its size when it is begun again: twice CHECKPOINT_PAGES. Overwriting its blocks is cheaper than
# allocating new ones.
WAL_BYTES_KEPT: Final = 16 * 1024 * 1024

_SYNC_ERRORS: Final = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)


# Pages that a copy reads at a time; between two such steps its caller can show that it is alive.
_COPY_PAGES: Final = 4_096


class SqliteEngine:
    """One connection. Implements engine.Engine."""

    def __init__(
        self, path: Path | str, *, read_only: bool = False, immutable: bool = False, lock: Lock | None = None
    ) -> None:
        """Open the database; a writer makes the file (0600) if there is none. Raises StoreError.

        A writer refuses a file that is not ours alone (StoreLoose). With its `lock`, `verify` watches the file.
        `immutable`: no program writes to the file, and it has no WAL; nothing is made beside it.
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
            self._connection = apsw.Connection(name, flags=flags)
            self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            # Otherwise SQLite makes a new plan whenever another LIMIT is bound: 0.1 ms for each claim.
            self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            self._wal_pages = 0
            self._restart_at_pages = RESTART_PAGES
            # Whether generations are kept, as `confirm` begins to.
            self._marks = False
            # The next commit that changes something begins a new generation (head.py).
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
            raise_ours(error)

    def _prepare(self) -> None:
        if not self.execute("SELECT count(*) FROM sqlite_master")[0][0]:
            self._connection.pragma("page_size", 4096)
            self._connection.pragma("auto_vacuum", 2)
        self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", "FULL")
        self._connection.pragma("foreign_keys", 1)
        self._connection.pragma("journal_size_limit", WAL_BYTES_KEPT)
        # SQLite's own checkpoint is part of COMMIT, which then fails although the turn is durable: a caller would
        # learn that nothing happened. This hook takes its place.
        self._connection.set_wal_hook(self._note_wal)

    def _note_wal(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except apsw.Error as error:
            raise_ours(error)
        except UnicodeDecodeError:
            raise _not_text() from None

    def iterate(self, statement: str, parameters: Sequence[object] = ()) -> Generator[tuple[Any, ...]]:
        try:
            with closing(self._connection.cursor()) as cursor:
                yield from cursor.execute(statement, parameters)
        except apsw.Error as error:
            raise_ours(error)
        except UnicodeDecodeError:
            raise _not_text() from None

    def executemany(self, statement: str, parameters: Iterable[Sequence[object]]) -> None:
        try:
            self._connection.executemany(statement, parameters)
        except apsw.Error as error:
            raise_ours(error)

    def begin(self) -> None:
        self.execute("BEGIN IMMEDIATE")
        self._changes_before = self._connection.total_changes()

    def commit(self) -> None:
        # Not for a turn that changes nothing: it can be stored on a full disk.
        advance = self._advance_due and self._connection.total_changes() != self._changes_before
        try:
            if advance:
                self._advance()
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            with suppress(StoreError):
                self.rollback()
            raise_ours(error)
        if advance:
            self._advance_due = False
        if self._wal_pages >= CHECKPOINT_PAGES:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Move the WAL into the database. Where that fails the commit stands all the same, and the next one tries
        again; only a failed sync is never tried again. Nothing is moved into a file that is not ours.
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
            if getattr(error, "extendedresult", 0) in _SYNC_ERRORS:
                raise_ours(error)
            log.warning("the WAL can't be moved into the database: %s", error)
            return
        # SQLite begins the WAL again with the next commit, unless a reader needs it still.
        self._advance_due = self._marks and (emptied or pages == moved)

    def _restart_wal(self) -> bool:
        """Wait until nothing reads the WAL, RESTART_WAIT_MS at most, and empty its file. False: a reader stayed."""
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

    def head(self) -> Head:
        """The header as this connection reads it, from the file and its WAL. Raises StoreError."""
        try:
            return self._head()
        except apsw.Error as error:
            raise_ours(error)

    def _head(self) -> Head:
        application_id, user_version, cookie = (
            int(self._connection.pragma(name)) for name in ("application_id", "user_version", "schema_version")
        )
        return Head(application_id, user_version & 0xFFFF_FFFF, cookie)

    def _advance(self) -> None:
        self._connection.pragma("user_version", self._head().advanced())

    def confirm(self) -> None:
        """Called once at each start, when the database has been checked and migrated: the file gets a generation that
        no copy of it has. The WAL gets the next one with the first commit that follows.
        """
        self._marks = True
        # First, so that file and WAL have the same schema.
        self._checkpoint()
        # A reader may need the WAL still. Then all stays as it was, until a later checkpoint.
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
        """Raises StoreMisplaced when the database's file was deleted, replaced or overwritten while it was open."""
        what = self._displaced()
        if what is not None:
            raise StoreMisplaced(f"{what} while the scheduler had it open")

    def _displaced(self) -> str | None:
        if self._lock is None or self._companions is None:
            return None
        what = self._lock.displaced()
        if what is not None:
            return f"{self._path} {what}"
        what = self._companions.displaced()
        if what is None and not belongs(self._lock.head(), self.head()):
            return f"{self._path} was overwritten"
        return what

    def copy_to(self, path: Path, on_step: Callable[[], None] = lambda: None) -> None:
        """Copy what is committed now into an empty file, in steps. Writers go on meanwhile.

        Raises StoreFull when there is no room for the copy, StoreError.
        """
        try:
            # The snapshot of the copy. Without it a commit between two steps would start the copy again.
            self._connection.execute("BEGIN; SELECT count(*) FROM sqlite_master")
            with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as target:
                target.pragma("synchronous", "OFF")
                copy = target.backup("main", self._connection, "main")
                try:
                    while not copy.done:
                        copy.step(_COPY_PAGES)
                        on_step()
                finally:
                    # The error of a step that failed has no text. That of `finish` has.
                    copy.finish()
        except apsw.Error as error:
            raise_ours(error)
        finally:
            self.rollback()

    def changes(self) -> int:
        return self._connection.total_changes()

    def overwrite_deleted(self) -> None:
        """Overwrite changed and deleted content in the file from now on, which makes writes slower."""
        self._connection.pragma("secure_delete", 1)

    def check(self) -> None:
        """Raise StoreCorrupt unless SQLite's quick_check finds the file sound."""
        found = self.execute("PRAGMA quick_check(1)")[0][0]
        if found != "ok":
            raise StoreCorrupt(f"the database is damaged: {found}")

    def migrate(self, now_ms: int) -> None:
        """Bring the schema to this release's version, each step in one transaction. Raises StoreNewer, StoreForeign."""
        steps = _schema_steps()
        head = self.head()
        version = head.schema
        if head.application_id == BACKUP_ID:
            raise StoreMisplaced(f"{self._path} is a backup: {how_to_restore(self._path, self._path)}")
        if head.application_id != APPLICATION_ID and self.execute("SELECT count(*) FROM sqlite_master")[0][0]:
            raise StoreForeign("the file is a database of another program: name another one")
        if version > len(steps):
            raise StoreNewer(f"the database has schema {version}, this release knows {len(steps)}: use a newer zsched")
        for number in range(version + 1, len(steps) + 1):
            self.begin()
            try:
                self.execute(steps[number - 1])
                if number == 1:
                    self.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    self.execute(sql.ADD_IDENTITY, (secrets.token_hex(16), now_ms))
                # Without a generation until `confirm`: the file has another schema than the WAL for a moment.
                self.execute(f"PRAGMA user_version = {number}")
            except BaseException:
                self.rollback()
                raise
            self.commit()

    def keep_wal(self, *, keep: bool = True) -> None:
        """Whether `close` leaves the WAL as it is. Otherwise it moves the WAL into the database and removes it."""
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(keep))

    def close(self) -> None:
        """Close the connection. Nothing is moved into a file that is not ours, nor is another file's WAL removed."""
        with suppress(apsw.Error, StoreError):
            if self._displaced() is not None:
                self.keep_wal()
        self._connection.close()

    def forsake(self) -> None:
        """Close a database that was copied elsewhere because its file was displaced. A file that was moved away gets
        what its WAL has, one that was overwritten gets nothing, and the WAL goes.
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
    """Make the database's file (0600) if there is none. Raises InsecureError when it is another user's, OSError."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    demand_own_files(path)


def demand_sound(lock: Lock) -> None:
    """Raises StoreMisplaced when the file is a backup, or its WAL was written for another file. Changes neither."""
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
    """As open_engine, behind the store's write side."""
    engine = open_engine(path, now_ms, lock)
    try:
        return Writer(engine)
    except BaseException:
        engine.close()
        raise


def open_engine(path: Path | str, now_ms: int, lock: Lock | None = None) -> SqliteEngine:
    """Open the database for the scheduler: checked, its schema brought up to date. Raises StoreError.

    With its `lock` it must be the file that the WAL beside it belongs to (StoreMisplaced), and `verify` watches it.
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
    """Open the database for reading, in the thread that will use it."""
    return EngineReader(SqliteEngine(path, read_only=True))


def _schema_steps() -> list[str]:
    """The numbered migrations, first to last."""
    folder = resources.files("zsched.store.sqlite") / "schema"
    return [
        file.read_text() for file in sorted(folder.iterdir(), key=lambda file: file.name) if file.name.endswith(".sql")
    ]


def _not_text() -> StoreCorrupt:
    return StoreCorrupt("the database is damaged: a text in it is not UTF-8")


def raise_ours(error: apsw.Error) -> NoReturn:
    """Raises the StoreError that an error of SQLite is."""
    sentence = f"SQLite: {error}"
    extended = getattr(error, "extendedresult", 0)
    if isinstance(error, apsw.IOError) and extended in _SYNC_ERRORS:
        raise StoreUnsure(sentence) from error
    if isinstance(error, apsw.CorruptError | apsw.NotADBError):
        raise StoreCorrupt(f"the database is damaged ({sentence})") from error
    for theirs, ours in (
        ((apsw.BusyError, apsw.LockedError), StoreBusy),
        ((apsw.FullError,), StoreFull),
    ):
        if isinstance(error, theirs):
            raise ours(sentence) from error
    raise StoreError(sentence) from error
