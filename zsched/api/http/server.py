"""Waitress around the app: bounds, the address that a caller reached us by, and our error body also for what Waitress
refuses.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import waitress.channel
import waitress.server
import waitress.task
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import ClientDisconnected

from zsched.api.gate import LOCAL_ADDRESS, PEER_UID
from zsched.api.http.caller import SOCKET_ADDRESS, Caller, SocketCaller, TcpCaller
from zsched.api.http.crowd import ConnectionLimiter
from zsched.api.http.listeners import listen
from zsched.api.http.parser import Ahead, Parser
from zsched.api.http.unsent import Unsent
from zsched.api.ids import request_id
from zsched.api.problem import Problem, render
from zsched.model.limits import (
    ANSWER_S,
    BACKLOG_MAX,
    CONNECTIONS_MAX,
    HEADER_BYTES_MAX,
    LINE_INTERVAL_MS,
    REQUEST_BODY_BYTES_MAX,
    SOCKET_CONNECTIONS_MAX,
    UNSENT_BYTES_MAX,
)
from zsched.model.rate import Throttled
from zsched.scheduler.inbox import Inbox
from zsched.security import peer

# How long the server's thread waits for connections, at most: then it looks at their times again.
_POLL_S = 1.0

# How long it accepts nothing after an accept that failed.
_ACCEPT_PAUSE_S = 0.1

log = logging.getLogger(__name__)


class ServerError(Exception):
    """An error in the server's own thread, which is its cause."""


@dataclass(slots=True)
class Pause:
    """Until when a listener accepts nothing, by the steady clock."""

    until_s: float = 0.0
    line: Throttled = field(default_factory=lambda: Throttled(log, logging.WARNING, LINE_INTERVAL_MS))


class _Task(waitress.task.WSGITask):  # type: ignore[misc]
    """A request, with the address that the caller reached us by, and its answer in one piece."""

    # Waitress's own names, of which it says no types.
    wrote_header: bool
    has_body: bool
    content_length: int | None

    def get_environment(self) -> dict[str, Any]:
        environment: dict[str, Any] = super().get_environment()
        environment[LOCAL_ADDRESS] = self.channel.caller.local_address
        environment[PEER_UID] = self.channel.caller.uid
        return environment

    def write(self, data: bytes) -> None:
        """Head and body at once. By itself Waitress sends the head first and wakes the caller twice: many callers got a
        quarter fewer answers.
        """
        if self.wrote_header or not self.has_body or self.content_length != len(data):
            super().write(data)
            return
        answer = self.build_response_header() + data
        self.wrote_header = True
        self.content_bytes_written = len(data)
        self.channel.write_soon(answer)


class _ErrorTask(waitress.task.ErrorTask):  # type: ignore[misc]
    """A request that Waitress refuses, answered in the one error body."""

    def execute(self) -> None:
        error = self.request.error
        code = {413: "too_large", 431: "headers_too_large", 503: "unavailable"}.get(error.code, "invalid_request")
        called = request_id(self.request.headers.get("X_REQUEST_ID"))
        body, media = render(Problem(error.code, code, f"{error.reason}: {error.body}"), "", "", called)
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", media), ("X-Request-Id", called)]
        if error.code == 503:
            self.response_headers.append(("Retry-After", "1"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(waitress.channel.HTTPChannel):  # type: ignore[misc]
    """A connection. At most one request of it is read and not yet answered; what was sent ahead waits as bytes."""

    # Waitress's own names, of which it says no types.
    request: Parser | None
    connected: bool

    task_class = _Task
    error_task_class = _ErrorTask

    def __init__(
        self,
        inbox: Inbox,
        crowd: ConnectionLimiter,
        caller: Caller,
        server: Any,
        sock: socket.socket,
        *rest: Any,
        **named: Any,
    ) -> None:
        self.caller = caller
        self.home = caller.home
        self.by_socket = caller.local_address == SOCKET_ADDRESS
        self._inbox = inbox
        self.since_s = self.waits_s = self.owes_s = time.monotonic()
        self.begun = False
        self._served: Parser | None = None
        self._crowd = crowd
        super().__init__(server, sock, *rest, **named)
        self.outbufs = [Unsent()]
        # Waitress holds it when it sends "100 Continue", and that may find the connection closed: see del_channel.
        self.requests_lock = threading.RLock()
        crowd.enter(self)

    @property
    def in_work(self) -> bool:
        return bool(self.requests)

    @property
    def served(self) -> bool:
        # A thread may take its request out at any time.
        return self._served is not None and self._served in [*self.requests]

    @property
    def unsent_bytes(self) -> int:
        return int(self.total_outbufs_len)

    @property
    def held_bytes(self) -> int:
        held = [*self.requests, self.request]
        return sum(one.held_bytes for one in held if one is not None)

    def refuse(self) -> None:
        """Free the bodies that no thread has: their requests are answered 503. Without one the connection is closed."""
        with self.requests_lock:
            some = [one for one in (*self.requests, self.request) if one is not None and one is not self._served]
            bodies = [one for one in some if one.body_bytes]
            for one in bodies:
                one.discard_body()
        if not bodies:
            self.handle_close()

    def parser_class(self, adjustments: Any) -> Any:
        """What reads the next bytes: a request, or nothing while one is not answered. Called under `requests_lock`."""
        return Ahead(adjustments) if self.requests else Parser(adjustments)

    # Waitress asks each connection both questions before each round of its poll, so they are answered without its
    # own methods: with 32 callers the detour took a tenth of the scheduler's time. A connection that was closed in this
    # round is not polled, for another may have its descriptor by then.
    def readable(self) -> bool:
        """Whether more may be read. Asked also after an answer: then what was sent ahead is read first."""
        if not self._may_read():
            return False
        if isinstance(self.request, Ahead):
            # The thread that has just answered looks at it under the lock.
            with self.requests_lock:
                ahead, self.request = self.request.data, None
            self.received(ahead)
            return self._may_read()
        return True

    def _may_read(self) -> bool:
        return not (
            self.requests or self.total_outbufs_len or not self.connected or self.will_close or self.close_when_flushed
        )

    def writable(self) -> bool:
        return bool(self.total_outbufs_len or self.will_close or self.close_when_flushed) and self.connected

    def received(self, data: bytes) -> bool:
        # Empty lines before a request are none, and do not begin one again and again.
        if not self.begun:
            self.begun, self.since_s = True, time.monotonic()
        return bool(super().received(data))

    def write_soon(self, data: bytes) -> int:
        """Send what the socket takes at once, and keep the rest in memory; the crowd bounds what is kept. Called by the
        thread that serves the request, and never waits for the caller. Raises ClientDisconnected.
        """
        with self.outbuf_lock:
            if not self.connected:
                raise ClientDisconnected
            sent = 0
            if not self.total_outbufs_len:
                # What counts as unsent is polled, and the socket is most often ready: so only the rest counts.
                sent, _ = self._flush_exception(partial(self.send, data), do_close=False)
                self.last_activity, self.owes_s = time.time(), time.monotonic()
            if sent < len(data):
                self.outbufs[0].append(memoryview(data)[sent:])
                self.total_outbufs_len += len(data) - sent
                self.server.pull_trigger()
        return len(data)

    def service(self) -> None:
        request = self.requests[0]
        with self.requests_lock:
            self._served = request
        self.since_s = time.monotonic()
        # A call with this method may wait for long, and none looks at a body.
        if getattr(request, "command", None) == "GET":
            request.close()
        with self._inbox.serving(self):
            super().service()
        with self.requests_lock:
            # Another thread may serve the next request by now.
            if self._served is request:
                self._served = None
        self.begun = False
        self.since_s = self.waits_s = time.monotonic()

    def del_channel(self, map: Any = None) -> None:  # noqa: A002  (Waitress's name)
        super().del_channel(map)
        self._crowd.leave(self)
        # The queue of the threads keeps this connection until its turn comes, but not what was to be served.
        with self.requests_lock:
            for one in [*self.requests, self.request]:
                if one is not None and one is not self._served:
                    one.close()


class _SocketListener(waitress.server.UnixWSGIServer):  # type: ignore[misc]
    """Waitress's listener on a Unix socket, with an address in words where Waitress has a path."""

    def getsockname(self) -> tuple[str, int]:
        return SOCKET_ADDRESS, 0

    def fix_addr(self, _: object) -> tuple[str, int]:
        return SOCKET_ADDRESS, 0


class Server:
    """The REST server, in threads of its own from `start` to `stop`."""

    def __init__(
        self,
        app: Any,
        inbox: Inbox,
        host: str,
        port: int,
        threads: int,
        by_socket: socket.socket | None = None,
        crowd: ConnectionLimiter | None = None,
    ) -> None:
        """Bind; port 0 takes any free one. `by_socket` is a Unix socket that listens, and becomes the server's.

        The inbox learns of every POST that comes in. Raises ListenError.
        """
        sockets = listen(host, port)
        adjustments = Adjustments(
            sockets=sockets,
            threads=threads,
            ident=None,
            backlog=BACKLOG_MAX,
            clear_untrusted_proxy_headers=False,
            max_request_body_size=REQUEST_BODY_BYTES_MAX,
            max_request_header_size=HEADER_BYTES_MAX,
            # The crowd sees to both; these are never reached.
            connection_limit=2 * (CONNECTIONS_MAX + SOCKET_CONNECTIONS_MAX),
            channel_timeout=2 * ANSWER_S,
            outbuf_high_watermark=2 * UNSENT_BYTES_MAX,
        )
        # One line for each request that waits for a thread, and callers decide how many do.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._open: dict[int, Any] = {}
        self._tasks = waitress.task.ThreadedTaskDispatcher()
        self._tasks.set_thread_count(threads)
        self._all = [
            (waitress.server.TcpWSGIServer if one is not by_socket else _SocketListener)(
                app,
                map=self._open,
                _sock=one,
                dispatcher=self._tasks,
                adj=adjustments,
                bind_socket=False,
                sockinfo=(one.family, one.type, one.proto, one.getsockname()),
            )
            for one in (*sockets, *([by_socket] if by_socket is not None else []))
        ]
        self._crowd = crowd = crowd or ConnectionLimiter()
        self._pauses: list[Pause] = []
        self._kernel = _kernel()
        for listener in self._all:
            # Waitress has no hooks at these places, so they are put in front of its own methods.
            listener.add_task = partial(_add_task, inbox, listener.add_task)
            pause = Pause()
            self._pauses.append(pause)
            listener.channel_class = partial(_channel, inbox, crowd, self._kernel)
            is_socket = isinstance(listener, _SocketListener)
            most = max(1, crowd.accepted_max(is_socket) // (1 if is_socket else len(sockets)))
            listener.handle_accept = partial(_accept_some, listener, pause, most)
            listener.readable = partial(_is_open, listener.readable, pause, partial(crowd.has_room, is_socket))
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._poll, name="rest", daemon=True)

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._all[0].effective_port)

    def start(self) -> None:
        self._thread.start()

    def check(self) -> None:
        """Raises ServerError when the server's thread has ended by an error, so that nobody is served any more."""
        if self._failure is not None:
            raise ServerError("the thread of REST has ended") from self._failure

    def replace_socket(self, by_socket: socket.socket) -> None:
        """Listen on this Unix socket in place of the earlier one. Connections that are open are served on."""

        def replace() -> None:
            for listener in self._all:
                if isinstance(listener, _SocketListener):
                    # Not the listener's `close`: it goes on.
                    listener.del_channel()
                    listener.socket.close()
                    listener.set_socket(by_socket)

        self._in_thread(replace)

    def close_door(self) -> None:
        """Accept no more connections; those that are open are served on."""
        self._in_thread(lambda: [wasyncore.dispatcher.close(listener) for listener in self._all])

    def stop(self) -> None:
        """Wait for requests under way, a second at most, and end."""
        self._tasks.shutdown(cancel_pending=True, timeout=1)
        # The thread may be awake already and close all, its trigger too, before it is woken for that.
        with suppress(OSError):
            self._in_thread(lambda: wasyncore.close_all(self._open))
        self._thread.join(1)
        if self._failure is not None:
            wasyncore.close_all(self._open)
        if self._kernel is not None:
            self._kernel.close()

    def _poll(self) -> None:
        try:
            while self._open:
                now_s = time.monotonic()
                self._crowd.thin(now_s)
                paused = any(pause.until_s > now_s for pause in self._pauses)
                wasyncore.poll2(_ACCEPT_PAUSE_S if paused else _POLL_S, self._open)
        except Exception as error:
            self._failure = error

    def _in_thread(self, act: Callable[[], object]) -> None:
        """Do something in the server's own thread, which alone may touch its connections."""
        self._all[0].trigger.pull_trigger(act)


def _accept_some(listener: Any, pause: Pause, most: int) -> None:
    """Accept what waits, up to a number, where Waitress accepts one in each round of its poll: so that a crowd is seen
    as one.

    When no descriptor is left for a connection, it waits a while: the listening socket stays readable, and asking it
    again and again would take all the time there is.
    """
    for _ in range(most):
        try:
            connection, address = listener.socket.accept()
        except BlockingIOError:
            return
        except OSError as error:
            now_s = time.monotonic()
            pause.line.write(int(now_s * 1_000), "can't accept connections for a while: %s", error.strerror)
            pause.until_s = now_s + _ACCEPT_PAUSE_S
            return
        listener.set_socket_options(connection)
        listener.channel_class(listener, connection, listener.fix_addr(address), listener.adj, map=listener._map)


def _kernel() -> peer.SockDiag | None:
    """The socket for looking up the users of callers over loopback. Open from the start, before descriptors run out."""
    try:
        return peer.SockDiag()
    except OSError:
        return None


def _channel(
    inbox: Inbox,
    crowd: ConnectionLimiter,
    kernel: peer.SockDiag | None,
    listener: Any,
    connection: socket.socket,
    *rest: Any,
    **named: Any,
) -> _Channel:
    """The connection that was accepted, with its caller."""
    is_socket = connection.family == socket.AF_UNIX
    caller: Caller = SocketCaller(connection) if is_socket else TcpCaller(connection, rest[0], kernel)
    return _Channel(inbox, crowd, caller, listener, connection, *rest, **named)


def _is_open(readable: Callable[[], bool], pause: Pause, has_room: Callable[[], bool]) -> bool:
    """Whether a listener takes newcomers. Asked before each round of the poll."""
    return has_room() and (not pause.until_s or time.monotonic() >= pause.until_s) and readable()


def _add_task(inbox: Inbox, add_task: Callable[[_Channel], None], channel: _Channel) -> None:
    """A connection has a complete request: Waitress hands it to one of its threads."""
    # A request that could not be parsed has no command.
    if getattr(channel.requests[0], "command", None) == "POST":
        inbox.expect(channel)
    add_task(channel)
