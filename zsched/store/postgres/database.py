"""A database on PostgreSQL by its URL. Several schedulers share it: the one that holds the lock leads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from zsched.model.address import PostgresUrl
from zsched.model.records import Instance
from zsched.store.check import Findings, check
from zsched.store.database import Tenure
from zsched.store.folder import FolderLock
from zsched.store.postgres.connection import Connection
from zsched.store.postgres.engine import open_engine, open_reader
from zsched.store.postgres.leader import Candidate
from zsched.store.reader import EngineReader
from zsched.store.transfer import demand_unmarked
from zsched.store.writer import Writer


@dataclass(frozen=True, slots=True)
class PostgresDatabase:
    """Implements database.Database."""

    url: PostgresUrl
    folder: Path

    @property
    def name(self) -> str:
        return str(self.url)

    @property
    def shared(self) -> bool:
        return True

    @contextmanager
    def hold(self) -> Iterator[PostgresHold]:
        with closing(FolderLock(self.folder)) as lock, closing(Candidate(self.url)) as candidate:
            yield PostgresHold(self.url, lock, candidate)

    def open_reader(self) -> EngineReader:
        return open_reader(self.url.conninfo)

    def check(self) -> Findings:
        with closing(Connection(self.url.conninfo)) as connection:
            return check(connection)


@dataclass(frozen=True, slots=True)
class PostgresHold:
    """Implements database.Hold."""

    url: PostgresUrl
    lock: FolderLock
    candidate: Candidate

    @property
    def folder(self) -> Path:
        return self.lock.folder

    def publish(self, own: Instance) -> None:
        self.candidate.publish(own)

    def keep(self) -> bool:
        return self.lock.keep()

    def lead(self, now_ms: int, *, marked: bool = False) -> Tenure | None:
        if not self.candidate.try_lock():
            return None
        try:
            engine = open_engine(self.url.conninfo, now_ms)
            try:
                if not marked:
                    demand_unmarked(engine, str(self.url))
                return Tenure(engine, Writer(engine), self.candidate.release)
            except BaseException:
                engine.close()
                raise
        except BaseException:
            self.candidate.release()
            raise
