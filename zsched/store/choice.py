"""The choice of the engine by the setting `db`: the path of an SQLite database, or the URL of a PostgreSQL one."""

from __future__ import annotations

from pathlib import Path

from zsched.model.address import PostgresUrl
from zsched.store.contract import StoreUnsupported
from zsched.store.database import Database
from zsched.store.sqlite.database import SqliteDatabase


def database(db: Path | PostgresUrl, folder: Path) -> Database:
    """The database of a setting. `folder` holds keys, socket and lock.

    Raises StoreUnsupported if the engine's library is not installed.
    """
    if isinstance(db, PostgresUrl):
        raise StoreUnsupported(f"{db} needs the package psycopg: install zsched[postgres]; keys are in {folder}")
    return SqliteDatabase(db)
