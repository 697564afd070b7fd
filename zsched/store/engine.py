"""What the store needs of a database engine: run the shared statements, and a few checks. sqlite/ implements it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, Protocol

Row = tuple[Any, ...]


class Engine(Protocol):
    """One connection, used by one thread. Every method raises StoreError for an error of the database."""

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run a statement to its end and return its rows."""

    def iterate(self, statement: str, parameters: Sequence[object] = ()) -> Generator[Row]:
        """Rows of a SELECT, each read when it is consumed, all of one moment.

        Close a generator that is not exhausted: it holds a read transaction until then.
        """

    def executemany(self, statement: str, parameters: Iterable[Sequence[object]]) -> list[Row]:
        """Run a statement once for each set of parameters. Returns the rows of all, in their order."""

    def begin(self) -> None:
        """Open a transaction as the only writer."""

    def commit(self) -> None:
        """Make the transaction durable; on an error it is rolled back."""

    def rollback(self) -> None:
        """Undo the transaction. Does nothing when none is open."""

    def changes(self) -> int:
        """Rows changed since the connection was opened."""

    def verify(self) -> None:
        """Raise StoreMisplaced if the database was deleted, replaced or overwritten while it was open."""

    def find_damage(self) -> list[str]:
        """A sentence for each damage of the file or its indexes, and for each row that refers to a missing row."""

    def columns(self, table: str) -> frozenset[str]:
        """The names of a table's columns; empty if it does not exist."""

    def close(self) -> None: ...
