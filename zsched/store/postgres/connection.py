"""A connection that reads: single statements, lists, states of one moment. It replaces a session that is lost."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import ClassVar, Final

from zsched.model.limits import PG_FETCH_ROWS, PG_KEEPALIVE_S, PG_LOCK_MS, PG_STATEMENT_MS
from zsched.store.contract import StoreError
from zsched.store.engine import Row
from zsched.store.postgres import dialect
from zsched.store.postgres.dialect import Encoded, Statement
from zsched.store.postgres.session import Call, LostError, Session, error_of

# The server probes idle connections, as the client does. Otherwise it would keep the locks of a turn after the
# scheduler's host has disappeared.
_ALIVE: Final = (
    f"SET tcp_keepalives_idle = {PG_KEEPALIVE_S}",
    f"SET tcp_keepalives_interval = {PG_KEEPALIVE_S}",
    "SET tcp_keepalives_count = 3",
    f"SET tcp_user_timeout = {4_000 * PG_KEEPALIVE_S}",
)
# Each statement follows indexes from row to row, also where the planner would rather read a small table as a whole: a
# plan is made once, and the table grows. No statement reads enough rows to be worth the start of parallel workers.
SETTINGS: Final = (
    *_ALIVE,
    f"SET statement_timeout = {PG_STATEMENT_MS}",
    f"SET lock_timeout = {PG_LOCK_MS}",
    "SET jit = off",
    "SET enable_seqscan = off",
    "SET enable_bitmapscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    "SET plan_cache_mode = force_generic_plan",
    "SET max_parallel_workers_per_gather = 0",
    "SET client_min_messages = warning",
)

# References of rows that another row needs: table, its key, column, parent, the parent's key.
_REFERENCES: Final = (
    ("jobs", "job_id", "demand_id", "demands", "demand_id"),
    ("jobs", "job_id", "owner_id", "owners", "owner_id"),
    ("runs", "run_id", "job_id", "jobs", "job_id"),
    ("runs", "run_id", "demand_id", "demands", "demand_id"),
    ("outputs", "run_id", "run_id", "runs", "run_id"),
    ("inputs", "job_id", "job_id", "jobs", "job_id"),
)
_ORPHANS: Final = """
    SELECT child.{key} FROM {table} AS child LEFT JOIN {parent} AS parent ON parent.{parent_key} = child.{column}
    WHERE child.{column} IS NOT NULL AND parent.{parent_key} IS NULL ORDER BY child.{key} LIMIT 20"""
_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_COLUMNS: Final = """
    SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass(?) AND attnum > 0 AND NOT attisdropped"""


class Connection:
    """Implements engine.ReadEngine."""

    SETTINGS: ClassVar[tuple[str, ...]] = (*SETTINGS, "SET default_transaction_read_only = on")

    def __init__(self, url: str) -> None:
        """Connect. Raises StoreError."""
        self._url = url
        # Lists and snapshots that are open, and share one transaction.
        self._open = 0
        self._session = self._connect()

    def _connect(self) -> Session:
        session = Session(self._url)
        try:
            for setting in self.SETTINGS:
                session.post(setting)
            session.finish()
        except BaseException:
            session.close()
            raise
        return session

    @property
    def session(self) -> Session:
        return self._session

    def close(self) -> None:
        self._session.close()

    # --- single statements ---

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        chosen, encoded = dialect.one(statement), dialect.encode(parameters)
        if self._open:
            return self._run(chosen, encoded)
        if self._session.lost:
            self._reconnect()
        try:
            return self._run(chosen, encoded)
        except LostError:
            if chosen.writes:
                raise
        self._reconnect()
        return self._run(chosen, encoded)

    def _reconnect(self) -> None:
        """Replace a lost session. Raises StoreError."""
        self._session.close()
        self._session = self._connect()

    def _run(self, statement: Statement, encoded: Encoded) -> list[Row]:
        """Execute a statement, outside a transaction as a transaction of its own."""
        call = self._post(statement, encoded)
        session = self._session
        session.wait()
        if session.failed is not None:
            error = error_of(session.failed)
            if not self._open:
                session.failed = None
            raise error
        return session.rows(call)

    def _post(self, statement: Statement, encoded: Encoded) -> Call:
        return self._session.post(statement.text, *encoded)

    # --- lists ---

    def iterate(self, statement: str, parameters: Sequence[object] = ()) -> Generator[Row]:
        with self.snapshot():
            # Lists that are open together have names of their own.
            name = f"list{self._open}"
            declared = Statement(f"DECLARE {name} NO SCROLL CURSOR FOR {dialect.one(statement).text}", False)
            fetch = Statement(f"FETCH {PG_FETCH_ROWS} FROM {name}", False)
            fetched = self._begin_list(declared, dialect.encode(parameters), fetch)
            while True:
                yield from fetched
                if len(fetched) < PG_FETCH_ROWS:
                    break
                fetched = self._run(fetch, ([], []))
            self._session.post(f"CLOSE {name}")

    def _begin_list(self, declared: Statement, encoded: Encoded, fetch: Statement) -> list[Row]:
        """The first rows of a list."""
        self._post(declared, encoded)
        try:
            return self._run(fetch, ([], []))
        except LostError:
            # Earlier lists would be of another moment.
            if self._open > 1:
                raise
        self._reconnect()
        self._session.post(_SNAPSHOT)
        self._post(declared, encoded)
        return self._run(fetch, ([], []))

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def _enter(self) -> None:
        if not self._open:
            if self._session.lost:
                self._reconnect()
            self._session.post(_SNAPSHOT)
        self._open += 1

    def _leave(self) -> None:
        self._open -= 1
        if self._open:
            return
        with suppress(StoreError):
            self._session.failed = None
            self._session.post("ROLLBACK")
            self._session.push()

    # --- what the schema says ---

    def find_damage(self) -> list[str]:
        return [
            f"row {row} of {table} refers to a missing row of {parent}"
            for table, key, column, parent, parent_key in _REFERENCES
            for (row,) in self.execute(
                _ORPHANS.format(table=table, key=key, column=column, parent=parent, parent_key=parent_key)
            )
        ]

    def columns(self, table: str) -> frozenset[str]:
        return frozenset(name for (name,) in self.execute(_COLUMNS, (table,)))
