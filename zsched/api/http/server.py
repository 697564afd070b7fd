"""The REST server: Waitress's listeners and threads around the app, with the bounds of model/limits/.

Waitress lacks two things that a service needs. It repeats an accept that failed for want of a descriptor at once, which
takes a whole CPU: here accepting pauses. And an error in its poll ends its thread: here `check` reports that to the
loop, and the scheduler ends, so that its service manager restarts it.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import waitress.server
import waitress.task
from waitress import wasyncore
from waitress.adjustments import Adjustments

from zsched.api.http.caller import SOCKET_ADDRESS, Caller, SocketCaller, TcpCaller
from zsched.api.http.channel import Channel
from zsched.api.http.crowd import ConnectionLimiter
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

# The longest wait of the server's thread. Then it checks the times of connections again.
_POLL_S = 1.0

# The pause after a failed accept.
_ACCEPT_PAUSE_S = 0.1

log = logging.getLogger(__name__)


class ServerError(Exception):
    """The server's thread has ended; its error is the cause."""


@dataclass(slots=True)
class Pause:
    """The end of a listener's pause, by the steady clock."""

    until_s: float = 0.0
    line: Throttled = field(default_factory=lambda: Throttled(log, logging.WARNING, LINE_INTERVAL_MS))


class _SocketListener(waitress.server.UnixWSGIServer):  # type: ignore[misc]
    """Waitress's listener on a Unix socket, with SOCKET_ADDRESS instead of a path."""

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
        sockets: Sequence[socket.socket],
        threads: int,
        by_socket: socket.socket | None = None,
        limiter: ConnectionLimiter | None = None,
    ) -> None:
        """`sockets` listen by TCP, `by_socket` is a Unix socket that listens; all become the server's.

        The inbox learns of every POST that comes in.
        """
        adjustments = Adjustments(
            sockets=sockets,
            threads=threads,
            ident=None,
            backlog=BACKLOG_MAX,
            clear_untrusted_proxy_headers=False,
            max_request_body_size=REQUEST_BODY_BYTES_MAX,
            max_request_header_size=HEADER_BYTES_MAX,
            # crowd.py has lower limits for these; they are never reached.
            connection_limit=2 * (CONNECTIONS_MAX + SOCKET_CONNECTIONS_MAX),
            channel_timeout=2 * ANSWER_S,
            outbuf_high_watermark=2 * UNSENT_BYTES_MAX,
        )
        # It would log each request that waits for a thread, so callers could fill the log.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        self._open: dict[int, Any] = {}
        self._tasks = waitress.task.ThreadedTaskDispatcher()
        self._tasks.set_thread_count(threads)
        self._threads = self._threads_started = threads
        self._growing = threading.Lock()
        self._all = [
            (waitress.server.TcpWSGIServer if listening is not by_socket else _SocketListener)(
                app,
                map=self._open,
                _sock=listening,
                dispatcher=self._tasks,
                adj=adjustments,
                bind_socket=False,
                sockinfo=(listening.family, listening.type, listening.proto, listening.getsockname()),
            )
            for listening in (*sockets, *([by_socket] if by_socket is not None else []))
        ]
        self._limiter = limiter = limiter or ConnectionLimiter()
        self._pauses: list[Pause] = []
        self._kernel = _kernel()
        for listener in self._all:
            # Waitress has no hooks for these: replace its methods.
            listener.add_task = partial(_add_task, inbox, listener.add_task)
            pause = Pause()
            self._pauses.append(pause)
            listener.channel_class = partial(_channel, inbox, limiter, self._kernel)
            is_socket = isinstance(listener, _SocketListener)
            accepted_max = max(1, limiter.accepted_max(is_socket) // (1 if is_socket else len(sockets)))
            listener.handle_accept = partial(_accept_some, listener, pause, accepted_max)
            listener.readable = partial(_is_open, listener.readable, pause, partial(limiter.has_room, is_socket))
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._poll, name="rest", daemon=True)

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._all[0].effective_port)

    def start(self) -> None:
        self._thread.start()

    def keep_threads_free(self, waiting: int) -> None:
        """Keep half of the threads free for short calls while this many callers wait. Thread-safe.

        The number never falls again: a thread that ends takes its connection to the database with it, and the next
        waiting caller would have to open one.
        """
        with self._growing:
            count = max(1, self._threads // 2) + waiting
            if count > self._threads_started:
                self._tasks.set_thread_count(count)
                self._threads_started = count

    def check(self) -> None:
        """Raises ServerError if the server's thread has ended by an error, so that no call is served any more."""
        if self._failure is not None:
            raise ServerError("the thread of REST has ended") from self._failure

    def replace_socket(self, by_socket: socket.socket) -> None:
        """Listen on this Unix socket instead of the earlier one. Open connections stay."""

        def replace() -> None:
            for listener in self._all:
                if isinstance(listener, _SocketListener):
                    # Not the listener's `close`: the listener stays.
                    listener.del_channel()
                    listener.socket.close()
                    listener.set_socket(by_socket)

        self._in_thread(replace)

    def close_door(self) -> None:
        """Accept no more connections; open ones stay."""
        self._in_thread(lambda: [wasyncore.dispatcher.close(listener) for listener in self._all])

    def stop(self) -> None:
        """Wait for requests under way, a second at most, and end."""
        self._tasks.shutdown(cancel_pending=True, timeout=1)
        # The thread may be awake and close everything, including its trigger, before it gets this.
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
                self._limiter.thin(now_s)
                paused = any(pause.until_s > now_s for pause in self._pauses)
                wasyncore.poll2(_ACCEPT_PAUSE_S if paused else _POLL_S, self._open)
        except Exception as error:
            self._failure = error

    def _in_thread(self, act: Callable[[], object]) -> None:
        """Call a function in the server's thread, which alone may touch its connections."""
        self._all[0].trigger.pull_trigger(act)


def _accept_some(listener: Any, pause: Pause, accepted_max: int) -> None:
    """Accept up to `accepted_max` waiting connections. Waitress would accept one in each round of its poll, and the
    limiter could not choose among a crowd.

    If no descriptor is left, accepting pauses: the listening socket stays readable, and polling it would take a whole
    CPU.
    """
    for _ in range(accepted_max):
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
    limiter: ConnectionLimiter,
    kernel: peer.SockDiag | None,
    listener: Any,
    connection: socket.socket,
    *rest: Any,
    **named: Any,
) -> Channel:
    """The channel of an accepted connection."""
    is_socket = connection.family == socket.AF_UNIX
    caller: Caller = SocketCaller(connection) if is_socket else TcpCaller(connection, rest[0], kernel)
    return Channel(inbox, limiter, caller, listener, connection, *rest, **named)


def _is_open(readable: Callable[[], bool], pause: Pause, has_room: Callable[[], bool]) -> bool:
    """Whether a listener accepts. Called before each round of the poll."""
    return has_room() and (not pause.until_s or time.monotonic() >= pause.until_s) and readable()


def _add_task(inbox: Inbox, add_task: Callable[[Channel], None], channel: Channel) -> None:
    """A connection has a complete request: Waitress passes it to one of its threads."""
    # A request that could not be parsed has no command.
    request = channel.requests[0]
    if getattr(request, "command", None) == "POST" and request.upload is None:
        inbox.expect(channel)
    add_task(channel)
