"""The SQLite engine, over APSW: opening, the lock, migrations, and SQLite's errors in our words.

What SQLite says differently from another engine stands here: pragmas, files, error classes. Settings that decide what a
commit means: WAL, `synchronous=FULL` (a commit is an fdatasync of the WAL: it survives a power cut), `busy_timeout`
(APSW's default is none). Page size and auto_vacuum must come before the first table.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import stat
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, suppress
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn

import apsw

from zsched import files
from zsched.store import sql
from zsched.store.contract import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreLoose,
    StoreNewer,
    StoreUnsure,
)
from zsched.store.reader import EngineReader
from zsched.store.writer import Writer

log = logging.getLogger(__name__)

BUSY_TIMEOUT_MS: Final = 5_000

# Pages in the WAL from which on a commit also moves them into the database: 8 MB. The next commit then begins the WAL
# anew, unless a reader still reads from it; with readers at all times it grows.
CHECKPOINT_PAGES: Final = 2_000

# Pages in the WAL from which on a commit waits for the readers, to begin it anew: 32 MB. It waits this long at most,
# and after a wait in vain not again before CHECKPOINT_PAGES more.
RESTART_PAGES: Final = 8_000
RESTART_WAIT_MS: Final = 100

# What the file keeps of its size when it is begun anew: twice CHECKPOINT_PAGES. To write over blocks that it has is
# cheaper than to get new ones.
WAL_BYTES_KEPT: Final = 16 * 1024 * 1024

# In the file's head: `file` and we ourselves know by it whose database it is. The letters "zsch".
APPLICATION_ID: Final = 0x7A736368

_SYNC_ERRORS: Final = (apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC)


# What SQLite keeps beside a database, and believes as it believes the database.
_BESIDE: Final = ("-wal", "-shm", "-journal")


def _make_own(path: Path) -> None:
    """Make the database's file (0600) if there is none. Raises InsecureError when it is another user's, OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    files.demand_own(path, found)
    if found.st_nlink > 1:
        log.warning("%s has %d names (hard links): a scheduler of another name has another lock", path, found.st_nlink)
    for suffix in _BESIDE:
        beside = path.with_name(path.name + suffix)
        with suppress(FileNotFoundError):
            found = beside.lstat()
            files.demand_own(beside, found)
            # One that others can read says no more than a copy of the database would, and may be part of such a copy.
            if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                files.demand_private(beside, found)
    if path.parent.stat().st_mode & stat.S_IWOTH:
        log.warning("everybody may write in %s: keep the database in a folder of its owner alone", path.parent)


class Lock:
    """The exclusive right to a database: an flock on `lock` in the folder beside it, held until `close` or the
    process's end.

    The folder is the database's own name with `.d`, links resolved, and no setting: two schedulers that name the same
    file find the same lock.
    """

    def __init__(self, db: Path) -> None:
        """Make the folder (0700) if needed and take the lock.

        Raises StoreLocked when another process has it, StoreLoose when the folder is not ours alone, StoreError when it
        can't be used.
        """
        data_dir = db.with_name(f"{db.name}.d")
        try:
            resolved = files.resolve(db)
            data_dir = files.resolve(resolved.with_name(f"{resolved.name}.d"))
            data_dir.mkdir(mode=0o700, exist_ok=True)
            self._descriptor = files.open_lock(data_dir)
        except files.InsecureError as error:
            raise StoreLoose(str(error)) from None
        except OSError as error:
            raise StoreError(f"can't use the folder {data_dir}: {error.strerror}") from None
        self.folder = data_dir
        path = data_dir / "lock"
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._descriptor, 32).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise StoreLocked(f"another scheduler (process {holder or 'unknown'}) holds {path}") from None
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SqliteEngine:
    """One connection. Implements engine.Engine."""

    def __init__(self, path: Path | str, *, read_only: bool = False) -> None:
        """Open the database; a writer makes the file (0600) if there is none. Raises StoreError.

        A writer refuses a file that is not ours alone (StoreLoose).
        """
        flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        try:
            if path != ":memory:":
                path = files.resolve(Path(path))
                if not read_only:
                    _make_own(path)
            self._connection = apsw.Connection(str(path), flags=flags)
            self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)
            # Otherwise SQLite makes a new plan whenever another LIMIT is bound: 0.1 ms for each claim.
            self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
            self._wal_pages = 0
            self._restart_at_pages = RESTART_PAGES
            if not read_only:
                self._prepare()
                if path != ":memory:":
                    files.demand_private(Path(path), os.stat(path))
        except files.InsecureError as error:
            raise StoreLoose(str(error)) from None
        except OSError as error:
            raise StoreError(f"can't open the database {path}: {error.strerror}") from None
        except apsw.Error as error:
            _raise_ours(error)

    def _prepare(self) -> None:
        if not self.execute("SELECT count(*) FROM sqlite_master")[0][0]:
            self._connection.pragma("page_size", 4096)
            self._connection.pragma("auto_vacuum", 2)
        self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", "FULL")
        self._connection.pragma("foreign_keys", 1)
        self._connection.pragma("journal_size_limit", WAL_BYTES_KEPT)
        # SQLite's own checkpoint is part of COMMIT, which then fails although the turn is durable: a caller would be
        # told that nothing happened. This hook takes its place.
        self._connection.set_wal_hook(self._note_wal)

    def _note_wal(self, _connection: apsw.Connection, _database: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except apsw.Error as error:
            _raise_ours(error)
        except UnicodeDecodeError:
            raise _not_text() from None

    def iterate(self, statement: str, parameters: Sequence[object] = ()) -> Generator[tuple[Any, ...]]:
        try:
            with closing(self._connection.cursor()) as cursor:
                yield from cursor.execute(statement, parameters)
        except apsw.Error as error:
            _raise_ours(error)
        except UnicodeDecodeError:
            raise _not_text() from None

    def executemany(self, statement: str, parameters: Iterable[Sequence[object]]) -> None:
        try:
            self._connection.executemany(statement, parameters)
        except apsw.Error as error:
            _raise_ours(error)

    def begin(self) -> None:
        self.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        try:
            self._connection.execute("COMMIT")
        except apsw.Error as error:
            with suppress(StoreError):
                self.rollback()
            _raise_ours(error)
        if self._wal_pages >= CHECKPOINT_PAGES:
            self._checkpoint()

    def _checkpoint(self) -> None:
        """Move the WAL into the database. Where that fails the commit stands all the same, and the next one tries
        again; only a failed sync is never tried again.
        """
        try:
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if self._wal_pages < RESTART_PAGES:
                self._restart_at_pages = RESTART_PAGES
            elif self._wal_pages >= self._restart_at_pages:
                self._restart_at_pages = self._wal_pages + CHECKPOINT_PAGES
                self._restart_wal()
        except apsw.Error as error:
            if getattr(error, "extendedresult", 0) in _SYNC_ERRORS:
                _raise_ours(error)
            log.warning("the WAL can't be moved into the database: %s", error)

    def _restart_wal(self) -> None:
        """Wait until nobody reads from the WAL, RESTART_WAIT_MS at most, and empty its file."""
        self._connection.set_busy_timeout(RESTART_WAIT_MS)
        try:
            with suppress(apsw.BusyError):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            self._connection.set_busy_timeout(BUSY_TIMEOUT_MS)

    def rollback(self) -> None:
        if self._connection.in_transaction:
            self.execute("ROLLBACK")

    def changes(self) -> int:
        return self._connection.total_changes()

    def overwrite_deleted(self) -> None:
        """From now on nothing of what is changed or deleted stays in the file, which makes writes slower."""
        self._connection.pragma("secure_delete", 1)

    def check(self) -> None:
        """Raise StoreCorrupt unless SQLite's quick_check finds the file sound."""
        found = self.execute("PRAGMA quick_check(1)")[0][0]
        if found != "ok":
            raise StoreCorrupt(f"the database is damaged: {found}")

    def migrate(self, now_ms: int) -> None:
        """Bring the schema to this release's version, each step in one transaction. Raises StoreNewer, StoreForeign."""
        steps = _schema_steps()
        version = self.execute("PRAGMA user_version")[0][0]
        ours = self.execute("PRAGMA application_id")[0][0] == APPLICATION_ID
        if not ours and self.execute("SELECT count(*) FROM sqlite_master")[0][0]:
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
                self.execute(f"PRAGMA user_version = {number}")
            except BaseException:
                self.rollback()
                raise
            self.commit()

    def close(self) -> None:
        self._connection.close()


def open_writer(path: Path | str, now_ms: int) -> Writer:
    """Open the database for the scheduler: checked, its schema brought up to date. Raises StoreError."""
    engine = SqliteEngine(path)
    try:
        engine.check()
        engine.migrate(now_ms)
        return Writer(engine)
    except BaseException:
        engine.close()
        raise


def open_reader(path: Path | str) -> EngineReader:
    """Open the database for reading, in the thread that will use it."""
    return EngineReader(SqliteEngine(path, read_only=True))


def _schema_steps() -> list[str]:
    """The numbered migrations, first to last."""
    folder = resources.files("zsched.store") / "schema"
    return [
        file.read_text() for file in sorted(folder.iterdir(), key=lambda file: file.name) if file.name.endswith(".sql")
    ]


def _not_text() -> StoreCorrupt:
    return StoreCorrupt("the database is damaged: a text in it is no text")


def _raise_ours(error: apsw.Error) -> NoReturn:
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
