"""The REST server: Waitress's listeners and threads around the app, with the bounds of model/limits.py.

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
    JOBS_BODY_BYTES_MAX,
    LINE_INTERVAL_MS,
    SOCKET_CONNECTIONS_MAX,
    UNSENT_BYTES_MAX,
)
from zsched.model.rate import Throttled
from zsched.scheduler.inbox import Inbox
from zsched.security import peer

# Waitress reads a body to its end before the app sees the request; a little more than the largest that any endpoint
# takes lets the endpoint itself say what its bound is.
_BODY_BYTES_MAX = JOBS_BODY_BYTES_MAX + 1024 * 1024

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
        sockets: Sequence[socket.socket],
        threads: int,
        by_socket: socket.socket | None = None,
        crowd: ConnectionLimiter | None = None,
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
            max_request_body_size=_BODY_BYTES_MAX,
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
) -> Channel:
    """The connection that was accepted, with its caller."""
    is_socket = connection.family == socket.AF_UNIX
    caller: Caller = SocketCaller(connection) if is_socket else TcpCaller(connection, rest[0], kernel)
    return Channel(inbox, crowd, caller, listener, connection, *rest, **named)


def _is_open(readable: Callable[[], bool], pause: Pause, has_room: Callable[[], bool]) -> bool:
    """Whether a listener takes newcomers. Asked before each round of the poll."""
    return has_room() and (not pause.until_s or time.monotonic() >= pause.until_s) and readable()


def _add_task(inbox: Inbox, add_task: Callable[[Channel], None], channel: Channel) -> None:
    """A connection has a complete request: Waitress hands it to one of its threads."""
    # A request that could not be parsed has no command.
    if getattr(channel.requests[0], "command", None) == "POST":
        inbox.expect(channel)
    add_task(channel)
