"""An SQLite database by its path. The process that holds its lock may write, so a scheduler leads from its start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from zsched.model.records import Instance
from zsched.store.check import Findings, check
from zsched.store.database import Tenure
from zsched.store.reader import EngineReader
from zsched.store.sqlite.engine import SqliteEngine, open_engine, open_reader
from zsched.store.sqlite.lock import Lock, folder_of
from zsched.store.transfer import demand_unmarked
from zsched.store.writer import Writer


@dataclass(frozen=True, slots=True)
class SqliteDatabase:
    """Implements database.Database."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    @property
    def folder(self) -> Path:
        return folder_of(self.path)

    @property
    def shared(self) -> bool:
        return False

    @contextmanager
    def hold(self) -> Iterator[SqliteHold]:
        with Lock(self.path) as lock:
            yield SqliteHold(lock)

    def open_reader(self) -> EngineReader:
        return open_reader(self.path)

    def check(self) -> Findings:
        with closing(SqliteEngine(self.path, read_only=True)) as engine:
            return check(engine)


@dataclass(frozen=True, slots=True)
class SqliteHold:
    """Implements database.Hold."""

    lock: Lock

    @property
    def folder(self) -> Path:
        return self.lock.folder

    def publish(self, own: Instance) -> None:
        """There is no other scheduler."""

    def keep(self) -> bool:
        return self.lock.keep()

    def lead(self, now_ms: int, *, marked: bool = False) -> Tenure:
        engine = open_engine(self.lock.path, now_ms, self.lock)
        try:
            if not marked:
                demand_unmarked(engine, str(self.lock.path))
            return Tenure(engine, Writer(engine))
        except BaseException:
            engine.close()
            raise
