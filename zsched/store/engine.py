"""What the store needs of a database engine: run the shared statements, and a few checks. sqlite/ and postgres/
implement it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Row = tuple[Any, ...]


class ReadEngine(Protocol):
    """One connection, used by one thread. Every method raises StoreError for an error of the database."""

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        """Run a statement to its end and return its rows."""

    def iterate(self, statement: str, parameters: Sequence[object] = ()) -> Generator[Row]:
        """Rows of a SELECT, each read when it is consumed, all of one moment.

        Close a generator that is not exhausted: it holds a read transaction until then.
        """

    def snapshot(self) -> AbstractContextManager[None]:
        """Scope in which all statements read the state of one moment."""

    def find_damage(self) -> list[str]:
        """A sentence for each damage of the file or its indexes, and for each row that refers to a missing row."""

    def columns(self, table: str) -> frozenset[str]:
        """The names of a table's columns; empty if it does not exist."""

    def close(self) -> None: ...


class Engine(ReadEngine, Protocol):
    """A connection that writes, in transactions."""

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

    def savepoint(self) -> None:
        """Begin a part of the transaction. Parts don't nest."""

    def release(self) -> None:
        """End the part. Raises StoreError if a statement of it has failed."""

    def undo(self) -> None:
        """End the part and undo its changes. Raises StoreError if only a rollback is possible."""

    def send(self, statement: str, parameters: Sequence[object], rows: int) -> None:
        """Run a statement that changes `rows` rows, and returns none.

        An engine may run it later. Then its error is raised by a later call, and that of a part that is over undoes the
        whole transaction.
        """

    @property
    def distant(self) -> bool:
        """Whether each statement whose rows are awaited is a round trip, so that it pays to read ahead."""

    def executemany(self, statement: str, parameters: Iterable[Sequence[object]]) -> list[Row]:
        """Run an UPDATE of one row, or an INSERT, once for each set of parameters. Returns the rows of all, in any
        order. No two sets may be of the same row.
        """

    def sendmany(self, statement: str, parameters: Sequence[Sequence[object]]) -> None:
        """The same for a statement that returns no rows. Each set changes one row. Errors as of `send`."""

    def execute_list(self, statement: str, rows: Sequence[Row], before: Row = (), after: Row = ()) -> list[Row]:
        """Run a statement that has `(VALUES (?, ...))`, with that list made of all the rows.

        `before`, `after`: the parameters around the list.
        """

    def send_list(self, statement: str, rows: Sequence[Row], before: Row, after: Row, changed: int) -> None:
        """The same for a statement that changes `changed` rows and whose rows nobody needs. Errors as of `send`."""

    def take_ids(self, table: str, count: int) -> int:
        """The first of `count` ids that no row of a table has had. Only in a transaction, which gives them out."""

    def raise_ids(self, table: str, least: int, by: int) -> None:
        """Leave a gap of ids: skip `by` after the last one given out, or after `least` if that is larger."""

    def changes(self) -> int:
        """Rows changed since the connection was opened."""

    def overwrite_deleted(self) -> None:
        """Overwrite all data that is changed or deleted from now on, where the engine can. Makes writes slower."""

    def shrink(self) -> bool:
        """Give a bounded part of the unused space back to the file system, where the database does not do so itself.
        Returns whether more is left. Within a transaction.
        """

    def verify(self) -> None:
        """Raise StoreMisplaced if the database was deleted, replaced or overwritten while it was open."""
