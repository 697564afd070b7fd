"""Moving a database: copy all rows into another one, compare checksums, and mark the database that must not be used.

Works between any two engines, while no scheduler uses either. Called by maintenance/move.py. Holds a bounded number of
rows in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from zsched.model.limits import COPY_BATCH_BYTES, COPY_PAGE_ROWS
from zsched.store import sql
from zsched.store.contract import StoreMoved
from zsched.store.engine import Engine, ReadEngine, Row


@dataclass(frozen=True, slots=True)
class Table:
    """A table that is copied. `key`: its rows are ordered by these columns. `generated`: columns that the database
    computes. `paged`: `key` is one positive number, and the rows are large.
    """

    name: str
    key: tuple[str, ...]
    generated: tuple[str, ...] = ()
    paged: bool = False


# In an order in which each row comes after those that it refers to. The other tables belong to a database itself: what
# runs on it, its schema's version, and the counters below.
TABLES: Final = (
    Table("identity", ("db",)),
    Table("epoch", ("epoch",)),
    Table("schedulers", ("epoch",)),
    Table("demands", ("demand_id",)),
    Table("owners", ("owner_id",)),
    Table("jobs", ("job_id",), ("status",), paged=True),
    Table("inputs", ("job_id",), paged=True),
    Table("entries", ("job_id", "first_entry")),
    Table("task_ranges", ("job_id", "first_task")),
    Table("files", ("job_id",), paged=True),
    Table("job_tags", ("tag", "tagged_id")),
    Table("unique_jobs", ("unique_key",)),
    Table("dependencies", ("child_id", "judged", "parent_id", "task")),
    Table("settled", ("settled_id", "first_task")),
    Table("queues", ("queue",)),
    Table("runs", ("run_id",)),
    Table("outputs", ("run_id",), paged=True),
    Table("artifacts", ("run_id",), paged=True),
    Table("fires", ("fired_id", "first_run")),
    Table("workers", ("worker_id",)),
    Table("totals", ("status",)),
    Table("events", ("event_id",)),
    Table("usage", ("kind", "day", "name")),
    Table("tokens", ("token_id",)),
    Table("keys", ("public_key",)),
    Table("idempotency", ("caller", "idem_key")),
    Table("predecessors", ("generation",)),
    Table("foreign_runs", ("worker_id", "db")),
)
# Tables whose last id counts, also if its row is gone. (The epoch counts the schedulers.)
NUMBERED: Final = ("jobs", "runs", "events", "demands", "owners", "predecessors")
# The counters of these tables, in a comparison.
COUNTERS: Final = "(last ids)"
# What a new database has rows in.
_BORN: Final = ("identity", "epoch", "totals")


@dataclass(frozen=True, slots=True)
class Sum:
    """The number of a table's rows, and a checksum over their values in the order of the key."""

    rows: int
    digest: str


class State(StrEnum):
    """Why no scheduler may use a database."""

    MOVED = "moved"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Mark:
    """A row of the table `transfer`, which describes it."""

    state: State
    db: str
    place: str
    at_ms: int


# --- marks ---


def mark_of(engine: ReadEngine) -> Mark | None:
    rows = engine.execute(sql.TRANSFER)
    return Mark(State(rows[0][0]), *rows[0][1:]) if rows else None


def set_mark(engine: Engine, mark: Mark | None) -> None:
    """Replace the mark, in a transaction of its own."""
    engine.begin()
    try:
        engine.execute(sql.END_TRANSFER)
        if mark is not None:
            engine.execute(sql.ADD_TRANSFER, (mark.state, mark.db, mark.place, mark.at_ms))
    except BaseException:
        engine.rollback()
        raise
    engine.commit()


def demand_unmarked(engine: ReadEngine, name: str) -> None:
    """Raise StoreMoved if no scheduler may use a database. `name`: its address."""
    mark = mark_of(engine)
    if mark is None:
        return
    if mark.state is State.UNFINISHED:
        raise StoreMoved(
            f"{name} is an unfinished copy: run `zsched db copy` from {mark.place} again, which also works after an"
            " interruption"
        )
    moment = datetime.fromtimestamp(mark.at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    raise StoreMoved(
        f"{name} was moved to {mark.place} at {moment}: set db to that, or copy it back into a new database with"
        f" `zsched db copy {mark.place} NEW`"
    )


def demand_finished(engine: ReadEngine) -> None:
    """Raise StoreMoved for an unfinished copy, whose rows no check has compared. A database that was moved is whole."""
    mark = mark_of(engine)
    if mark is not None and mark.state is State.UNFINISHED:
        raise StoreMoved(f"it is an unfinished copy of {mark.place}: use that")


# --- rows ---


def is_new(engine: ReadEngine) -> bool:
    """Whether a database was never used."""
    used = [table.name for table in TABLES if table.name not in _BORN]
    return not any(engine.execute(f"SELECT 1 FROM {name} LIMIT 1") for name in used)  # noqa: S608  (of constants)


def load(source: Engine, target: Engine) -> dict[str, Sum]:
    """Replace all rows of the target by those of the source, in one transaction. Returns the checksums of the rows that
    were read.
    """
    sums = {COUNTERS: _sum_of_counters(last := last_ids(source))}
    target.begin()
    try:
        for table in reversed(TABLES):
            target.execute(f"DELETE FROM {table.name}")  # noqa: S608  (of constants)
        for table in TABLES:
            sums[table.name] = _load_table(source, target, table)
        for name, number in last.items():
            target.raise_ids(name, number, 0)
    except BaseException:
        target.rollback()
        raise
    target.commit()
    # The epoch is that of the source now.
    target.fence(int(target.execute(sql.EPOCH)[0][0]))
    return sums


def sums_of(engine: Engine) -> dict[str, Sum]:
    """The checksums of all rows."""
    sums = {COUNTERS: _sum_of_counters(last_ids(engine))}
    return sums | {table.name: sum_of(engine, table) for table in TABLES}


def sum_of(engine: ReadEngine, table: Table) -> Sum:
    """The checksum of a table."""
    total = _Total()
    for row in _rows(engine, table, _all_columns(engine, table)):
        total.add(row)
    return total.sum()


def last_ids(engine: Engine) -> dict[str, int]:
    """The last id that was given out in each table."""
    engine.begin()
    try:
        return {name: engine.take_ids(name, 0) - 1 for name in NUMBERED}
    finally:
        engine.rollback()


def _load_table(source: ReadEngine, target: Engine, table: Table) -> Sum:
    columns = _all_columns(source, table)
    stored = [column for column in columns if column not in table.generated]
    places = ", ".join("?" * len(stored))
    insert = f"INSERT INTO {table.name} ({', '.join(stored)}) VALUES ({places})"  # noqa: S608  (of names in the schema)
    total = _Total()
    batch: list[Row] = []
    size = 0
    for row in _rows(source, table, columns):
        size += total.add(row)
        # The generated columns are the last.
        batch.append(row[: len(stored)])
        if size >= COPY_BATCH_BYTES or len(batch) == COPY_PAGE_ROWS:
            target.executemany(insert, batch)
            batch, size = [], 0
    if batch:
        target.executemany(insert, batch)
    return total.sum()


def _all_columns(engine: ReadEngine, table: Table) -> list[str]:
    """The columns in an order that is the same on all engines, the generated ones last."""
    return [*sorted(engine.columns(table.name) - set(table.generated)), *table.generated]


def _rows(engine: ReadEngine, table: Table, columns: Sequence[str]) -> Iterator[Row]:
    """All rows in the order of the key."""
    select = f"SELECT {', '.join(columns)} FROM {table.name}"  # noqa: S608  (of names in the schema)
    order = f"ORDER BY {', '.join(table.key)}"
    if not table.paged:
        yield from engine.iterate(f"{select} {order}")
        return
    place, rows = columns.index(table.key[0]), COPY_PAGE_ROWS // 16
    last = 0
    while page := engine.execute(f"{select} WHERE {table.key[0]} > ? {order} LIMIT ?", (last, rows)):
        yield from page
        last = page[-1][place]


# --- checksums ---


class _Total:
    """The checksum of the rows so far."""

    def __init__(self) -> None:
        self._rows = 0
        self._hash = hashlib.sha256()
        self._encode = msgspec.msgpack.Encoder().encode

    def add(self, row: Row) -> int:
        """Returns the size of the row in bytes."""
        data = self._encode([_storable(value) for value in row])
        self._hash.update(data)
        self._rows += 1
        return len(data)

    def sum(self) -> Sum:
        return Sum(self._rows, self._hash.hexdigest())


def _storable(value: object) -> object:
    """A value as every engine can store it: PostgreSQL's text has no NUL, and stores this in its place."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) and "\0" in value else value


def _sum_of_counters(last: Mapping[str, int]) -> Sum:
    total = _Total()
    for name in NUMBERED:
        total.add((name, last[name]))
    return total.sum()
