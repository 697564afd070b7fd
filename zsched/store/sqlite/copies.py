"""Copies of a database: a backup that says what it is, and the database that a restore makes of one.

A backup is an SQLite database of its own kind (BACKUP_ID in its header), so that no scheduler opens it by mistake. It
has two more tables: `backup` (one row: where it comes from) and `backup_keys` (the files that a scheduler needs beside
the database).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import apsw

from zsched.store import sql
from zsched.store.contract import NO_LINEAGE, Lineage, Restoration, StoreError, StoreForeign, StoreMisplaced
from zsched.store.sqlite.engine import SqliteEngine, raise_ours
from zsched.store.sqlite.head import APPLICATION_ID, BACKUP_ID, belongs
from zsched.store.sqlite.lock import demand_name, how_to_restore, read_head, wal_has_frames
from zsched.store.writer import Writer

_TABLES: Final = """
    CREATE TABLE backup (
        db      TEXT    NOT NULL,
        made_ms INTEGER NOT NULL,
        path    TEXT    NOT NULL,
        host    TEXT    NOT NULL,
        version TEXT    NOT NULL
    ) STRICT;
    CREATE TABLE backup_keys (name TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT, WITHOUT ROWID;"""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a backup comes from: the database's identity, when it was made, the database's path and host, and the
    release that made it.
    """

    db: str
    made_ms: int
    path: str
    host: str
    version: str


@dataclass(frozen=True, slots=True)
class Content:
    """What a backup holds beside the tables. `origin` is None, and there are no keys, in a plain copy of a database."""

    origin: Origin | None = None
    keys: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def source(path: Path, *, still: bool = False) -> Iterator[SqliteEngine]:
    """Open a database to copy it, together with its WAL; no scheduler is disturbed. Raises StoreError.

    `still`: no program writes to it, so nothing needs to be made beside it when it has no WAL.
    """
    try:
        # Closed last: closing a descriptor of the file drops the locks that SQLite holds on it.
        # A FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"can't open {path}: {error.strerror}") from None
    try:
        if read_head(descriptor) is None:
            raise StoreForeign(f"{path} is no database: name another file")
        demand_name(path, descriptor)
        with closing(SqliteEngine(path, read_only=True, immutable=still and not wal_has_frames(path))) as engine:
            engine.keep_wal()
            head = engine.head()
            # Read after the other: a scheduler at work may have moved its WAL into the file in between.
            if not belongs(read_head(descriptor), head):
                raise StoreMisplaced(
                    f"{path} is not the file that its WAL {path}-wal was written for: {how_to_restore(path)}"
                )
            if head.application_id not in (APPLICATION_ID, BACKUP_ID):
                raise StoreForeign(f"{path} is a database of another program: name another file")
            yield engine
    except OSError as error:
        raise StoreError(f"can't read {path}: {error.strerror}") from None
    finally:
        os.close(descriptor)


def make_backup(
    engine: SqliteEngine,
    target: Path,
    content: Callable[[str], Content],
    *,
    on_step: Callable[[], None] = lambda: None,
) -> bool:
    """Copy a database into an empty file, and mark it as a backup. `content` is called with the identity found, after
    the copy. Returns whether SQLite finds the copy sound. Raises StoreError.
    """
    engine.copy_to(target, on_step)
    with _opened(target) as connection:
        # One file, which can be read from a folder that can't be written.
        connection.pragma("journal_mode", "delete")
        connection.pragma("synchronous", "OFF")
        [(identity,)] = connection.execute("SELECT db FROM identity").fetchall()
        found = content(str(identity))
        assert found.origin is not None
        origin = found.origin
        with connection:
            connection.execute(_TABLES)
            connection.execute(
                "INSERT INTO backup VALUES (?, ?, ?, ?, ?)",
                (origin.db, origin.made_ms, origin.path, origin.host, origin.version),
            )
            connection.executemany("INSERT INTO backup_keys VALUES (?, ?)", list(found.keys.items()))
            connection.pragma("application_id", BACKUP_ID)
        return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]


def read_content(engine: SqliteEngine) -> Content:
    """What a backup says of itself. Raises StoreError."""
    if engine.head().application_id != BACKUP_ID:
        return Content()
    [row] = engine.execute("SELECT db, made_ms, path, host, version FROM backup")
    return Content(Origin(*row), dict(engine.execute("SELECT name, content FROM backup_keys")))


def lineage(path: Path) -> Lineage:
    """What the database that a restore replaces has been, and which ids it has given out. Nothing is known of one that
    can't be read.
    """
    try:
        with source(path, still=True) as engine:
            store = Writer(engine)
            dbs = (*reversed(store.predecessors()), store.identity)
            ids = {str(name): int(seq) for name, seq in engine.execute(sql.COUNTERS)}
            return Lineage(dbs, ids, int(engine.execute(sql.LEASE_GIVEN)[0][0]))
    except StoreError:
        return NO_LINEAGE


def make_successor(copy: Path, how: Restoration) -> int:
    """Turn the copy of a backup, or of a database, into a database that a scheduler opens. Returns how many of its runs
    were running, and are lost now. Raises StoreError.
    """
    with _opened(copy) as connection:
        # Keys leave no trace in free pages.
        connection.pragma("secure_delete", 1)
        with connection:
            connection.execute("DROP TABLE IF EXISTS backup; DROP TABLE IF EXISTS backup_keys")
            connection.pragma("application_id", APPLICATION_ID)
    with closing(SqliteEngine(copy)) as engine:
        engine.check()
        engine.migrate(how.now_ms)
        store = Writer(engine)
        store.begin()
        # Of a database that has nothing to do with the backup, the fleet's runs are foreign.
        akin = not {store.identity, *store.predecessors()}.isdisjoint(how.replaced.dbs)
        lost = store.succeed(secrets.token_hex(16), how if akin else replace(how, replaced=NO_LINEAGE))
        store.flush_counters(how.now_ms)
        store.commit()
    with _opened(copy) as connection:
        # Neither header of a WAL that is left beside the place of the restored file can belong to it.
        schema = connection.pragma("user_version") & 0xFF
        connection.pragma("user_version", (1 + secrets.randbelow((1 << 22) - 1)) << 8 | schema)
        connection.pragma("schema_version", 1_000 + secrets.randbelow(1 << 30))
    return lost


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    """A file that no other program knows. SQLite's errors are ours."""
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
            yield connection
    except apsw.Error as error:
        raise_ours(error)
