"""A session with a PostgreSQL server, by libpq's pipeline mode: statements are sent without waiting for their results.

A *flight* is one wait for the server. It brings the results of all statements that were posted before. After an error
the server ignores all further statements of the flight.

Statements are sent at the wait, not before: libpq sends its buffer by itself when it has 64 KiB, without a sync. The
server would execute these and wait for more, and it bounds that wait only after a sync: a scheduler that stands still
then would keep its locks.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg import Error, conninfo, pq
from psycopg.adapt import Transformer
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from zsched.model.limits import PG_ANSWER_MS, PG_CONNECT_S, PG_KEEPALIVE_S
from zsched.store.contract import StoreError
from zsched.store.engine import Row
from zsched.store.postgres.errors import ends_session, field, store_error

# What libpq is given unless the URL names it.
_DEFAULTS: Final = {
    "application_name": "zsched",
    # A replica may have an old epoch, and would give out the lock too.
    "target_session_attrs": "read-write",
    "connect_timeout": PG_CONNECT_S,
    "keepalives_idle": PG_KEEPALIVE_S,
    "keepalives_interval": PG_KEEPALIVE_S,
    "keepalives_count": 3,
    "tcp_user_timeout": 4_000 * PG_KEEPALIVE_S,
}
_BINARY: Final = 1


class LostError(StoreError):
    """The session is lost. It is unknown which of the last statements the server has executed."""


class Call:
    """A statement that was sent. `prepares`: the statement that it prepares. `result`: None until it has arrived.

    `scope`: the part of the turn that it belongs to.
    """

    __slots__ = ("prepares", "result", "scope")

    def __init__(self, scope: int, prepares: str | None = None) -> None:
        self.scope = scope
        self.prepares = prepares
        self.result: PGresult | None = None


class Session:
    """One connection, used by one thread."""

    def __init__(self, url: str, defaults: Mapping[str, object] = _DEFAULTS) -> None:
        """Connect. `defaults`: parameters of libpq, in place of ours or besides them, unless the URL names them.

        Raises StoreError.
        """
        self.lost = False
        # Number of waits for the server.
        self.flights = 0
        # Warnings of the server. Their reader clears them.
        self.warnings: list[str] = []
        # The first call that failed, until its finder clears it.
        self.failed: Call | None = None
        # Calls that were posted, with statement, values and formats; and those that were sent.
        self._posted: list[tuple[Call, str, Sequence[bytes | None], Sequence[int]]] = []
        self._sent: deque[Call] = deque()
        # The names of the statements that are prepared.
        self._names: dict[str, bytes] = {}
        self._named = 0
        self._transformer = Transformer()
        # Owns the connection.
        self._owner = _connect(url, defaults)
        self._connection = self._owner.pgconn
        self._connection.notice_handler = self._note
        self._connection.nonblocking = 1
        self._connection.enter_pipeline_mode()
        self._poll = select.poll()
        self._poll.register(self._connection.socket, select.POLLIN)

    @property
    def server_version(self) -> int:
        return self._connection.server_version

    @property
    def backend_pid(self) -> int:
        return self._connection.backend_pid

    def _note(self, result: PGresult) -> None:
        if field(result, DiagnosticField.SEVERITY_NONLOCALIZED) == "WARNING":
            self.warnings.append(field(result, DiagnosticField.MESSAGE_PRIMARY))

    # --- send ---

    def post(
        self, statement: str, values: Sequence[bytes | None] = (), formats: Sequence[int] = (), scope: int = 0
    ) -> Call:
        """Have a statement with its parameters sent at the next wait."""
        call = Call(scope)
        self._posted.append((call, statement, values, formats))
        return call

    def drop_posted(self) -> None:
        """Forget the calls that were posted and not sent."""
        self._posted.clear()

    def _send_posted(self) -> None:
        """Raises LostError."""
        try:
            for call, statement, values, formats in self._posted:
                name = self._names.get(statement) or self._prepare(statement, call.scope)
                self._connection.send_query_prepared(name, values, formats, _BINARY)
                self._sent.append(call)
        except Error as error:
            raise self._lose(str(error)) from None
        self._posted.clear()

    def _prepare(self, statement: str, scope: int) -> bytes:
        self._named += 1
        name = self._names[statement] = b"z%d" % self._named
        self._connection.send_prepare(name, statement.encode())
        self._sent.append(Call(scope, statement))
        return name

    # --- wait ---

    def wait(self, timeout_ms: int | None = PG_ANSWER_MS) -> None:
        """Wait for the results of all calls. `failed` is then the first that failed. Raises LostError.

        It ends with a sync: only then the server bounds how long a transaction may be idle.
        """
        self._send_posted()
        self.post_end()
        try:
            self._send_all(timeout_ms)
            self.flights += 1
            while self._sent:
                self._receive(timeout_ms)
        except Error as error:
            raise self._lose(str(error)) from None

    def finish(self, timeout_ms: int = PG_ANSWER_MS) -> None:
        """The same, but raises StoreError if a call has failed, and forgets that."""
        self.wait(timeout_ms)
        failed, self.failed = self.failed, None
        if failed is not None:
            raise error_of(failed)

    def push(self) -> None:
        """Send the calls so far and their end, and don't wait. Raises LostError."""
        self._send_posted()
        try:
            self.post_end()
            self._connection.flush()
        except Error as error:
            raise self._lose(str(error)) from None

    def post_end(self) -> None:
        """Mark the end of the calls so far, after which a failure does not affect further calls. Raises LostError."""
        try:
            self._connection.pipeline_sync()
        except Error as error:
            raise self._lose(str(error)) from None
        self._sent.append(Call(0))

    def script(self, statements: str) -> None:
        """Execute statements without parameters, together. Raises StoreError."""
        self.finish()
        try:
            self._connection.exit_pipeline_mode()
            result = self._connection.exec_(statements.encode())
            self._connection.enter_pipeline_mode()
        except Error as error:
            raise self._lose(str(error)) from None
        if result.status == ExecStatus.FATAL_ERROR:
            raise store_error(result)

    def _send_all(self, timeout_ms: int | None) -> None:
        """Pass everything to the kernel. Reads meanwhile, so that the server can always send its results."""
        if not self._connection.flush():
            return
        both = select.poll()
        both.register(self._connection.socket, select.POLLIN | select.POLLOUT)
        while self._connection.flush():
            events = both.poll(timeout_ms)
            if not events:
                raise self._lose()
            if events[0][1] & ~select.POLLOUT:
                self._connection.consume_input()

    def _receive(self, timeout_ms: int | None) -> None:
        """Read the result of the next call. Raises Error, LostError."""
        last: PGresult | None = None
        while True:
            while self._connection.is_busy():
                if not self._poll.poll(timeout_ms):
                    raise self._lose()
                self._connection.consume_input()
            result = self._connection.get_result()
            if result is not None and result.status != ExecStatus.PIPELINE_SYNC:
                last = result
                continue
            call = self._sent.popleft()
            call.result = last or result
            self._examine(call)
            return

    def _examine(self, call: Call) -> None:
        result = call.result
        if result is None or result.status in (ExecStatus.FATAL_ERROR, ExecStatus.PIPELINE_ABORTED):
            if call.prepares is not None:
                self._names.pop(call.prepares, None)
            if result is None or self._connection.status != pq.ConnStatus.OK:
                raise self._lose()
            if result.status == ExecStatus.FATAL_ERROR:
                if ends_session(result):
                    raise self._lose(str(store_error(result)))
                self.failed = self.failed or call

    # --- results ---

    def rows(self, call: Call) -> list[Row]:
        """The rows of a call whose result has arrived."""
        result = call.result
        assert result is not None
        if not result.ntuples:
            return []
        self._transformer.set_pgresult(result, set_loaders=True, format=pq.Format.BINARY)
        return self._transformer.load_rows(0, result.ntuples, tuple)

    # --- the end ---

    def _lose(self, why: str = "") -> LostError:
        self.lost = True
        why = " ".join((why or self._connection.get_error_message()).split())
        return LostError(f"PostgreSQL: the session is lost: {why or 'the server does not answer'}")

    def close(self) -> None:
        self.lost = True
        with suppress(Error):
            self._owner.close()


def error_of(failed: Call) -> StoreError:
    """The error of a call that has failed."""
    assert failed.result is not None
    return store_error(failed.result)


def _connect(url: str, defaults: Mapping[str, object]) -> psycopg.Connection:
    try:
        given = conninfo.conninfo_to_dict(url)
    except Error as error:
        # Other messages may quote the password.
        why = " ".join(str(error).split())
        raise StoreError(f"invalid address of PostgreSQL{f': {why}' if 'query parameter' in why else ''}") from None
    # Our text is UTF-8 whatever the environment says.
    chosen: dict[str, Any] = {**_DEFAULTS, **defaults, **given, "client_encoding": "UTF8"}
    try:
        # Other threads go on meanwhile, which they would not with PGconn.connect.
        return psycopg.connect(conninfo.make_conninfo("", **chosen), autocommit=True)
    except Error as error:
        raise LostError(f"PostgreSQL: {' '.join(str(error).split())}") from None
