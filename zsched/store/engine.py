"""What a database engine does for the store: run the shared statements, and nothing more. sqlite/ has one."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, Protocol

Row = tuple[Any, ...]


class Engine(Protocol):
    """One connection, used by one thread. Every method raises StoreError for what is the database's fault."""

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run a statement to its end and return its rows."""

    def iterate(self, statement: str, parameters: Sequence[object] = ()) -> Generator[Row]:
        """Rows of a SELECT, each read when it is taken, all of one moment. Close it when not all of them are taken: it
        holds a read transaction until then.
        """

    def executemany(self, statement: str, parameters: Iterable[Sequence[object]]) -> None:
        """Run a statement that returns nothing once for each set of parameters."""

    def begin(self) -> None:
        """Open a transaction as the only writer."""

    def commit(self) -> None:
        """Make it durable; on an error it is rolled back."""

    def rollback(self) -> None:
        """Give it up; nothing happens when none is open."""

    def changes(self) -> int:
        """Rows changed since the connection was opened."""

    def verify(self) -> None:
        """Raises StoreMisplaced when the database was deleted or replaced while it was open."""

    def close(self) -> None: ...
