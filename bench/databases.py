"""Empty databases for a measurement: a file of SQLite, or a database of a PostgreSQL server."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from zsched.store.reader import EngineReader
from zsched.store.sqlite import engine as sqlite
from zsched.store.writer import Writer

NAME = "zsched_bench"


@dataclass(frozen=True, slots=True)
class Place:
    """An empty database. `open_writer` takes the time in ms. `url`: on PostgreSQL."""

    open_writer: Callable[[int], Writer]
    open_reader: Callable[[], EngineReader]
    url: str | None = None

    def settle(self) -> None:
        """Do at once what autovacuum and the checkpointer of PostgreSQL do within minutes of a large insert."""
        if self.url:
            import psycopg

            with psycopg.connect(self.url, autocommit=True) as operator:
                operator.execute("VACUUM (ANALYZE)")
                operator.execute("CHECKPOINT")


@contextmanager
def place(url: str | None) -> Iterator[Place]:
    """A database that exists within the scope. `url`: of a server whose role may create databases; None: SQLite."""
    if url is None:
        with tempfile.TemporaryDirectory(prefix="zsched-bench-") as folder:
            path = Path(folder) / "bench.db"
            yield Place(lambda now_ms: sqlite.open_writer(path, now_ms), lambda: sqlite.open_reader(path))
        return
    import psycopg

    from zsched.store.postgres import engine as postgres

    with psycopg.connect(url, autocommit=True) as operator:
        operator.execute(f"CREATE DATABASE {NAME} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
        try:
            own = urlunsplit(urlsplit(url)._replace(path=f"/{NAME}"))
            yield Place(lambda now_ms: postgres.open_writer(own, now_ms), lambda: postgres.open_reader(own), own)
        finally:
            operator.execute(f"DROP DATABASE {NAME} WITH (FORCE)")
