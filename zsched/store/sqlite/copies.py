"""Copies of a database: a backup, and the database that a restore makes from it.

A backup is an SQLite database with BACKUP_ID in its header, so that no scheduler opens it by mistake. It has two more
tables: `backup` (one row: its origin) and `backup_keys` (the key files that a scheduler needs next to the database).
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
from zsched.store.sqlite.engine import SqliteEngine
from zsched.store.sqlite.errors import raise_store_error
from zsched.store.sqlite.head import APPLICATION_ID, BACKUP_ID, belongs
from zsched.store.sqlite.lock import demand_name, how_to_restore, read_head, wal_has_frames
from zsched.store.transfer import demand_finished
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
    """Origin of a backup: the database's identity, path and host, when it was made, and by which release."""

    db: str
    made_ms: int
    path: str
    host: str
    version: str


@dataclass(frozen=True, slots=True)
class Content:
    """What a backup holds besides the database's tables. A plain copy of a database has no origin and no keys."""

    origin: Origin | None = None
    keys: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def source(path: Path, *, still: bool = False) -> Iterator[SqliteEngine]:
    """Open a database to copy it, together with its WAL, without disturbing a scheduler. Raises StoreError.

    `still`: no program writes to it, so SQLite creates no file next to it unless it has a WAL.
    """
    try:
        # Closed last, because closing a descriptor of the file drops SQLite's locks on it. O_NONBLOCK: opening a FIFO
        # would block.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise StoreError(f"can't open {path}: {error.strerror}") from None
    try:
        if read_head(descriptor) is None:
            raise StoreForeign(f"{path} is not a database: name another file")
        demand_name(path, descriptor)
        with closing(SqliteEngine(path, read_only=True, immutable=still and not wal_has_frames(path))) as engine:
            engine.keep_wal()
            head = engine.head()
            # Read after `head`: a running scheduler may have moved its WAL into the file in between.
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
    """Copy a database into an empty file, and mark it as a backup. Raises StoreError.

    `content` is called after the copy, with the database's identity. Returns whether SQLite's quick_check of the copy
    succeeds.
    """
    engine.copy_to(target, on_step)
    with _opened(target) as connection:
        # A single file, readable in a read-only folder.
        connection.pragma("journal_mode", "delete")
        connection.pragma("synchronous", "OFF")
        [(identity,)] = connection.execute("SELECT db FROM identity").fetchall()
        made = content(str(identity))
        origin = made.origin
        assert origin is not None
        with connection:
            connection.execute(_TABLES)
            connection.execute(
                "INSERT INTO backup VALUES (?, ?, ?, ?, ?)",
                (origin.db, origin.made_ms, origin.path, origin.host, origin.version),
            )
            connection.executemany("INSERT INTO backup_keys VALUES (?, ?)", list(made.keys.items()))
            connection.pragma("application_id", BACKUP_ID)
        return connection.execute("PRAGMA quick_check(1)").fetchall() == [("ok",)]


def read_content(engine: SqliteEngine) -> Content:
    """The origin and the keys in a backup; empty for a plain copy of a database. Raises StoreError."""
    if engine.head().application_id != BACKUP_ID:
        return Content()
    [row] = engine.execute("SELECT db, made_ms, path, host, version FROM backup")
    return Content(Origin(*row), dict(engine.execute("SELECT name, content FROM backup_keys")))


def lineage(path: Path) -> Lineage:
    """Lineage of the database that a restore replaces; NO_LINEAGE if it can't be read."""
    try:
        with source(path, still=True) as engine:
            store = Writer(engine)
            dbs = (*reversed(store.predecessors()), store.identity)
            ids = {str(name): int(seq) for name, seq in engine.execute("SELECT name, seq FROM sqlite_sequence")}
            return Lineage(dbs, ids, int(engine.execute(sql.LEASE_GIVEN)[0][0]))
    except StoreError:
        return NO_LINEAGE


def make_successor(copy: Path, how: Restoration) -> int:
    """Turn the copy of a backup or database into a database that a scheduler opens. Raises StoreError.

    Returns the number of its running runs, which are lost now.
    """
    with _opened(copy) as connection:
        # The keys must not remain in free pages.
        connection.pragma("secure_delete", 1)
        with connection:
            connection.execute("DROP TABLE IF EXISTS backup; DROP TABLE IF EXISTS backup_keys")
            connection.pragma("application_id", APPLICATION_ID)
    with closing(SqliteEngine(copy)) as engine:
        engine.check()
        engine.migrate(how.now_ms)
        demand_finished(engine)
        store = Writer(engine)
        store.begin()
        # If the replaced database is not related to the backup, its workers' runs are foreign.
        related = not {store.identity, *store.predecessors()}.isdisjoint(how.replaced.dbs)
        lost = store.succeed(secrets.token_hex(16), how if related else replace(how, replaced=NO_LINEAGE))
        store.flush_counters(how.now_ms)
        store.commit()
    with _opened(copy) as connection:
        # A WAL that remains next to the restored file must not match its header.
        schema = connection.pragma("user_version") & 0xFF
        connection.pragma("user_version", (1 + secrets.randbelow((1 << 22) - 1)) << 8 | schema)
        connection.pragma("schema_version", 1_000 + secrets.randbelow(1 << 30))
    return lost


@contextmanager
def _opened(path: Path) -> Iterator[apsw.Connection]:
    """Open a file that no other program uses. SQLite's errors become StoreErrors."""
    try:
        with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
            yield connection
    except apsw.Error as error:
        raise_store_error(error)
