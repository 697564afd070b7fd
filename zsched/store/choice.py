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
    if isinstance(db, Path):
        return SqliteDatabase(db)
    try:
        # Imported late: most installations lack the library.
        from zsched.store.postgres.database import PostgresDatabase
    except ImportError as error:
        raise StoreUnsupported(f"can't use {db}: {error}; install it with pip install 'psycopg[binary]'") from None
    return PostgresDatabase(db, folder)
