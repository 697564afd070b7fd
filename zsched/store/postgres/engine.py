"""The PostgreSQL engine: turns of the writer, and functions that open a database.

A turn is one transaction and few flights (session.py), whatever it holds: statements whose rows nobody needs are sent
without waiting. The error of such a statement may appear when the part of the turn that sent it is over. Then the turn
is given up, and the next turns wait at the end of each part.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import ClassVar, Final

from zsched.model.limits import PG_CAREFUL_TURNS, PG_IDLE_MS
from zsched.store.contract import StoreConstraint, StoreDeposed, StoreError, StoreMisplaced
from zsched.store.engine import Row
from zsched.store.postgres import dialect, migrations
from zsched.store.postgres.connection import SETTINGS, Connection
from zsched.store.postgres.dialect import Encoded, Statement
from zsched.store.postgres.outcome import resolve
from zsched.store.postgres.session import Call, LostError, error_of
from zsched.store.reader import EngineReader
from zsched.store.writer import Writer

# The tables whose ids the writer gives out: columns of `turn`.
_NUMBERED: Final = ("jobs", "runs", "events", "demands", "owners", "schedulers", "predecessors")
# The lock on `turn` excludes a second writer. A takeover changes the row of the epoch, and waits for us. `turn` comes
# first: a writer that waits for it must not hold the row that a takeover under way is about to change.
_BEGIN: Final = """
    SELECT epoch.epoch, turn.jobs, turn.runs, turn.events, turn.demands, turn.owners, turn.schedulers, turn.predecessors
    FROM epoch, turn FOR NO KEY UPDATE OF turn FOR SHARE OF epoch"""
_TURN: Final = """
    UPDATE turn SET mark = ?, jobs = ?, runs = ?, events = ?, demands = ?, owners = ?, schedulers = ?,
        predecessors = ?"""
_EPOCH: Final = "SELECT epoch FROM epoch"


class PostgresEngine(Connection):
    """Implements engine.Engine."""

    SETTINGS: ClassVar = (*SETTINGS, f"SET idle_in_transaction_session_timeout = {PG_IDLE_MS}")

    def __init__(self, url: str) -> None:
        """Connect. Raises StoreError."""
        super().__init__(url)
        self._turn = _Turn()
        self._in_turn = False
        # The epoch that `begin` demands.
        self._epoch: int | None = None
        self._identity: str | None = None
        # Marks of the turns of this engine begin with it.
        self._token = secrets.token_hex(8)
        self._turns = 0
        # Turns that wait at the end of each part.
        self._careful = 0
        self._changes = 0

    # --- who may write ---

    def fence(self, epoch: int) -> None:
        """From the next turn on, `begin` demands this epoch."""
        self._epoch = epoch

    def confirm_epoch(self) -> None:
        """Raise StoreDeposed if the stored epoch is not that of `fence`."""
        self._demand_epoch(self.execute(_EPOCH)[0][0])

    def _demand_epoch(self, stored: int) -> None:
        if self._epoch is not None and stored != self._epoch:
            raise StoreDeposed(f"another scheduler has taken over: the epoch is {stored}, not {self._epoch}")

    # --- turns ---

    def begin(self) -> None:
        assert not self._in_turn, "turns don't nest"
        if self._session.lost:
            self._reconnect()
        try:
            self._begin()
        except LostError:
            # It was lost between two turns, so nothing is undone.
            self._reconnect()
            self._begin()

    def _begin(self) -> None:
        self._in_turn, self._open = True, 1
        try:
            self._session.post("BEGIN")
            ((epoch, *last),) = self._run(*_prepare(_BEGIN))
            self._demand_epoch(epoch)
        except BaseException:
            with suppress(StoreError):
                self.rollback()
            raise
        self._turn = _Turn(dict(zip(_NUMBERED, last, strict=True)))
        self._turns += 1
        self._careful -= self._careful > 0

    def _reconnect(self) -> None:
        super()._reconnect()
        if self._identity is not None:
            # Not by `execute`, which would connect again when this session is lost too.
            ((found,),) = self._run(*_prepare("SELECT db FROM identity"))
            if found != self._identity:
                raise StoreMisplaced(f"PostgreSQL has the database {found} in the place of ours, {self._identity}")

    def _run(self, statement: Statement, encoded: Encoded) -> list[Row]:
        if not self._in_turn:
            return super()._run(statement, encoded)
        call = self._post(statement, encoded)
        self._session.wait()
        self._demand_success()
        if statement.writes:
            assert call.result is not None
            changed = call.result.command_tuples
            self._changes += changed or 0
            # A change of the schema counts no rows.
            self._turn.wrote |= changed != 0
        return self._session.rows(call)

    def _post(self, statement: Statement, encoded: Encoded) -> Call:
        turn = self._turn
        if statement.writes and turn.part and not turn.saved:
            turn.saved = True
            self._session.post("SAVEPOINT part", scope=turn.part)
        return self._session.post(statement.text, *encoded, scope=turn.part)

    def _demand_success(self) -> None:
        """Raise StoreError if a statement of the turn has failed."""
        failed = self._session.failed
        if failed is None:
            return
        error = error_of(failed)
        if isinstance(error, StoreConstraint) and failed.scope != self._turn.part:
            # It can't be undone alone.
            self._careful = PG_CAREFUL_TURNS
            raise StoreError(f"{error}: the whole turn is given up, because the part that caused this is over")
        raise error

    def send(self, statement: str, parameters: Sequence[object], rows: int) -> None:
        self._send(*_prepare(statement, parameters), rows)

    def sendmany(self, statement: str, parameters: Sequence[Sequence[object]]) -> None:
        if parameters:
            self._send(*_prepare_each(statement, parameters), len(parameters))

    def _send(self, statement: Statement, encoded: Encoded, rows: int) -> None:
        if not self._in_turn:
            self._run(statement, encoded)
            return
        self._post(statement, encoded)
        self._changes += rows
        self._turn.wrote |= rows > 0

    def executemany(self, statement: str, parameters: Iterable[Sequence[object]]) -> list[Row]:
        rows = list(parameters)
        return self._run(*_prepare_each(statement, rows)) if rows else []

    def execute_list(self, statement: str, rows: Sequence[Row], before: Row = (), after: Row = ()) -> list[Row]:
        return self._run(*_prepare_list(statement, rows, (*before, *after)))

    def send_list(self, statement: str, rows: Sequence[Row], before: Row, after: Row, changed: int) -> None:
        self._send(*_prepare_list(statement, rows, (*before, *after)), changed)

    @property
    def distant(self) -> bool:
        return True

    def take_ids(self, table: str, count: int) -> int:
        first = self._turn.ids[table] + 1
        self._turn.ids[table] += count
        return first

    def raise_ids(self, table: str, least: int, by: int) -> None:
        self._turn.ids[table] = max(self._turn.ids[table], least) + by
        self._turn.wrote = True

    def changes(self) -> int:
        return self._changes

    # --- parts of a turn ---

    def savepoint(self) -> None:
        self._turn.enter()

    def release(self) -> None:
        turn = self._turn
        if turn.saved:
            self._session.post("RELEASE part", scope=turn.part)
            if self._careful:
                self._session.wait()
                self._demand_success()
        turn.leave()

    def undo(self) -> None:
        turn, session = self._turn, self._session
        failed, session.failed = session.failed, None
        if failed is not None and (failed.scope != turn.part or not turn.saved):
            raise StoreError("the whole turn has to be undone")
        if turn.saved:
            session.post("ROLLBACK TO part", scope=turn.part)
            session.post("RELEASE part", scope=turn.part)
        turn.cut()

    # --- the end of a turn ---

    def commit(self) -> None:
        if not self._turn.wrote:
            # Nothing to make durable: costs no write of the server's log.
            self.rollback()
            return
        mark = f"{self._token}.{self._turns}"
        session = self._session
        try:
            session.post(*_plain(_TURN, (mark, *(self._turn.ids[name] for name in _NUMBERED))))
            session.warnings.clear()
            session.post("COMMIT")
            # The server has no timeout for it either.
            session.wait(None)
        except LostError as error:
            self._resolve(mark, str(error))
            return
        if session.failed is not None:
            failure = error_of(session.failed)
            if isinstance(failure, StoreConstraint):
                self._careful = PG_CAREFUL_TURNS
            with suppress(StoreError):
                self.rollback()
            raise failure
        self._leave_turn()
        if session.warnings:
            # Such as that the wait for a synchronous replica was cancelled.
            self._resolve(mark, "; ".join(session.warnings))

    def _leave_turn(self) -> None:
        self._in_turn, self._open = False, 0

    def _resolve(self, mark: str, why: str) -> None:
        """Find out whether a turn is stored. Returns if it is. Raises StoreError if not, StoreUnsure if unknown."""
        self._leave_turn()
        self._session.close()
        resolve(self._connect, mark, self._epoch, why)

    def rollback(self) -> None:
        if not self._in_turn:
            return
        self._leave_turn()
        session = self._session
        if session.lost:
            return
        session.drop_posted()
        session.post("ROLLBACK")
        # The server undoes the turn of a session that is lost.
        with suppress(LostError):
            session.wait()
        session.failed = None

    def shrink(self) -> bool:
        """Nothing: PostgreSQL's autovacuum frees space."""
        return False

    def verify(self) -> None:
        """Nothing to do: a new session compares the database's identity."""

    # --- opening ---

    def prepare(self, now_ms: int) -> None:
        """Check the database and bring the schema to this release's version. Raises StoreNewer, StoreForeign."""
        migrations.migrate(self, now_ms)
        (self._identity,) = self.execute("SELECT db FROM identity")[0]

    def overwrite_deleted(self) -> None:
        """Nothing: PostgreSQL overwrites old rows when it needs the space."""


class _Turn:
    """What a turn has done so far. `part`: the number of its present part, 0 outside. `saved`: it has a savepoint."""

    __slots__ = ("_before", "_parts", "ids", "part", "saved", "wrote")

    def __init__(self, ids: dict[str, int] | None = None) -> None:
        self.ids = ids or {}
        self.part = 0
        self.saved = False
        self.wrote = False
        self._parts = 0
        self._before = self.ids

    def enter(self) -> None:
        self._parts += 1
        self.part = self._parts
        self._before = self.ids.copy()

    def leave(self) -> None:
        self.part = 0
        self.saved = False

    def cut(self) -> None:
        self.ids = self._before
        self.leave()


def _prepare(statement: str, parameters: Sequence[object] = ()) -> tuple[Statement, Encoded]:
    return dialect.one(statement), dialect.encode(parameters)


def _prepare_each(statement: str, rows: Sequence[Sequence[object]]) -> tuple[Statement, Encoded]:
    chosen = dialect.each(statement)
    return chosen, dialect.encode_arrays(chosen.types, rows)


def _prepare_list(statement: str, rows: Sequence[Row], others: Row) -> tuple[Statement, Encoded]:
    chosen = dialect.listed(statement)
    arrays, formats = dialect.encode_arrays(chosen.types, rows)
    values, more = dialect.encode(others)
    return chosen, (arrays + values, formats + more)


def _plain(statement: str, parameters: Sequence[object]) -> tuple[str, list[bytes | None], list[int]]:
    return dialect.one(statement).text, *dialect.encode(parameters)


def open_engine(url: str, now_ms: int) -> PostgresEngine:
    """Open a database for the scheduler, check it, and migrate its schema. Raises StoreError."""
    engine = PostgresEngine(url)
    try:
        engine.prepare(now_ms)
    except BaseException:
        engine.close()
        raise
    return engine


def open_writer(url: str, now_ms: int) -> Writer:
    """Open a database for the scheduler, as the write side of the store. Raises as open_engine."""
    engine = open_engine(url, now_ms)
    try:
        return Writer(engine)
    except BaseException:
        engine.close()
        raise


def open_reader(url: str) -> EngineReader:
    """Open a database for reading, in the thread that uses it. Raises StoreError, StoreNewer.

    So a scheduler of an older release does not stand by.
    """
    connection = Connection(url)
    try:
        migrations.demand_known(connection)
    except BaseException:
        connection.close()
        raise
    return EngineReader(connection)
