"""What the programs need of a database: its address, the right to write, readers, a check. sqlite/ and postgres/
implement it, and choice.py chooses.

A scheduler holds its folder, so that no second process uses the same keys and socket. Then it tries to lead: to get the
right to write. On SQLite the process that holds the folder leads. On PostgreSQL one of several schedulers does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from zsched.model.records import Instance
from zsched.store.check import Findings
from zsched.store.engine import Engine
from zsched.store.reader import EngineReader
from zsched.store.writer import Writer


@dataclass(frozen=True, slots=True)
class Tenure:
    """The right to write, as long as this process has it, and the connection that writes. `release` gives it up."""

    engine: Engine
    store: Writer
    release: Callable[[], None] = lambda: None

    def close(self) -> None:
        """Close the connection and give the right up; uncommitted changes are lost."""
        try:
            self.engine.close()
        finally:
            self.release()


class Hold(Protocol):
    """A database whose folder this process holds."""

    @property
    def folder(self) -> Path:
        """The folder of keys, socket and lock, with links resolved."""

    def publish(self, own: Instance) -> None:
        """Let the other schedulers of the database know of this one, now and at regular intervals."""

    def keep(self) -> bool:
        """Create the folder and its lock again if they were removed; returns whether they were.

        Raises StoreLocked, PrivateFileError, OSError.
        """

    def lead(self, now_ms: int, *, marked: bool = False) -> Tenure | None:
        """Try to get the right to write: open the database, check it and migrate its schema. None: another process has
        that right.

        Raises StoreError; StoreMoved if no scheduler may use the database, unless `marked` says that it may be such a
        database.
        """


class Database(Protocol):
    """A database by its address. Nothing is opened yet."""

    @property
    def name(self) -> str:
        """The address for messages, without a password."""

    @property
    def folder(self) -> Path:
        """The folder of keys, socket and lock."""

    @property
    def shared(self) -> bool:
        """Whether several schedulers may use the database: one leads, and the others stand by."""

    def hold(self) -> AbstractContextManager[Hold]:
        """Hold the folder. Raises StoreLocked while another process does, StoreLoose, StoreError."""

    def open_reader(self) -> EngineReader:
        """Open the database for reading, in the thread that uses it. Raises StoreError."""

    def check(self) -> Findings:
        """Compare the tables with the events. Raises StoreError."""
