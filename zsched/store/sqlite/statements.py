"""What an SQLite connection runs: the shared statements, savepoints, and ids."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from itertools import chain
from typing import Final

import apsw

from zsched.store.engine import Row
from zsched.store.sqlite.errors import invalid_text, raise_store_error

# Rows in one VALUES list: more gain nothing, and their parameters are fewer than SQLite allows.
ROWS_PER_LIST: Final = 100


class Statements:
    """The part of engine.Engine that is about statements."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        # The last id that the transaction has given out, by table.
        self._ids: dict[str, int] = {}

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except apsw.Error as error:
            raise_store_error(error)
        except UnicodeDecodeError:
            raise invalid_text() from None

    def iterate(self, statement: str, parameters: Sequence[object] = ()) -> Generator[Row]:
        try:
            with closing(self._connection.cursor()) as cursor:
                yield from cursor.execute(statement, parameters)
        except apsw.Error as error:
            raise_store_error(error)
        except UnicodeDecodeError:
            raise invalid_text() from None

    def executemany(self, statement: str, parameters: Iterable[Sequence[object]]) -> list[Row]:
        try:
            return self._connection.executemany(statement, parameters).fetchall()
        except apsw.Error as error:
            raise_store_error(error)

    def sendmany(self, statement: str, parameters: Sequence[Sequence[object]]) -> None:
        begin = 0
        if "VALUES (" in statement:
            # A list costs less per row; a shorter one would be a statement that SQLite has not prepared yet.
            while begin + ROWS_PER_LIST <= len(parameters):
                batch = parameters[begin : begin + ROWS_PER_LIST]
                self.execute(_for_rows(statement, ROWS_PER_LIST), list(chain.from_iterable(batch)))
                begin += ROWS_PER_LIST
        self.executemany(statement, parameters[begin:] if begin else parameters)

    def send(self, statement: str, parameters: Sequence[object], rows: int) -> None:
        self.execute(statement, parameters)

    def execute_list(self, statement: str, rows: Sequence[Row], before: Row = (), after: Row = ()) -> list[Row]:
        found: list[Row] = []
        for begin in range(0, len(rows), ROWS_PER_LIST):
            batch = rows[begin : begin + ROWS_PER_LIST]
            found += self.execute(_for_rows(statement, len(batch)), (*before, *chain.from_iterable(batch), *after))
        return found

    def send_list(self, statement: str, rows: Sequence[Row], before: Row, after: Row, changed: int) -> None:
        self.execute_list(statement, rows, before, after)

    @property
    def distant(self) -> bool:
        return False

    def take_ids(self, table: str, count: int) -> int:
        last = self._ids.get(table)
        if last is None:
            stored = self.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,))
            # A table that never had a row has no counter.
            last = stored[0][0] if stored else 0
        # SQLite raises the counter when the row is inserted.
        self._ids[table] = last + count
        return last + 1

    def raise_ids(self, table: str, least: int, by: int) -> None:
        if not self.execute(
            "UPDATE sqlite_sequence SET seq = max(seq, ?) + ? WHERE name = ? RETURNING 1", (least, by, table)
        ):
            self.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, least + by))
        self._ids.clear()

    def savepoint(self) -> None:
        self.execute("SAVEPOINT part")

    def release(self) -> None:
        self.execute("RELEASE part")

    def undo(self) -> None:
        self._ids.clear()
        self.execute("ROLLBACK TO part")
        self.execute("RELEASE part")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        self.execute("BEGIN")
        try:
            yield
        finally:
            self.execute("ROLLBACK")

    def changes(self) -> int:
        return self._connection.total_changes()

    def columns(self, table: str) -> frozenset[str]:
        return frozenset(name for (name,) in self.execute("SELECT name FROM pragma_table_info(?)", (table,)))


@lru_cache(maxsize=4 * ROWS_PER_LIST)
def _for_rows(statement: str, count: int) -> str:
    """The same statement with `count` rows in its VALUES list."""
    head, values, rest = statement.partition("VALUES ")
    row = rest[: rest.index(")") + 1]
    return head + values + ", ".join([row] * count) + rest[len(row) :]
