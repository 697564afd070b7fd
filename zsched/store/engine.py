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

    def fence(self, epoch: int) -> None:
        """From the next transaction on, `begin` checks that the stored epoch is this one.

        Where a lock excludes all other writers, this does nothing.
        """

    def confirm_epoch(self) -> None:
        """Check the same outside a transaction, by reading the epoch now. Raises StoreDeposed if it is another."""

    def begin(self) -> None:
        """Open a transaction as the only writer. Raises StoreDeposed if the stored epoch is not that of `fence`."""

    def commit(self) -> None:
        """Make the transaction durable; on an error it is rolled back."""

    def rollback(self) -> None:
        """Undo the transaction. Does nothing when none is open."""

    def changes(self) -> int:
        """Rows changed since the connection was opened."""

    def overwrite_deleted(self) -> None:
        """Overwrite all data that is changed or deleted from now on, where the engine can. Makes writes slower."""

    def verify(self) -> None:
        """Raise StoreMisplaced if the database was deleted, replaced or overwritten while it was open."""

    def find_damage(self) -> list[str]:
        """A sentence for each damage of the file or its indexes, and for each row that refers to a missing row."""

    def columns(self, table: str) -> frozenset[str]:
        """The names of a table's columns; empty if it does not exist."""

    def close(self) -> None: ...
