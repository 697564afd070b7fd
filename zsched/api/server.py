"""Waitress around the app: bounds, the address that a caller reached us by, and our error body also for what Waitress
refuses.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import waitress.channel
import waitress.server
import waitress.task
from waitress import wasyncore
from waitress.channel import ClientDisconnected

from zsched import peer
from zsched.api.crowd import Crowd
from zsched.api.gate import LOCAL_ADDRESS, PEER_UID
from zsched.api.ids import request_id
from zsched.api.parser import Parser
from zsched.api.problem import Problem, render
from zsched.api.unsent import Unsent
from zsched.inbox import Inbox
from zsched.limits import (
    ACCEPTED_MAX,
    ANSWER_S,
    CONNECTIONS_MAX,
    HEADER_BYTES_MAX,
    JOBS_BODY_BYTES_MAX,
    UNSENT_BYTES_MAX,
)

# Waitress reads a body to its end before the app sees the request; a little more than the largest that any endpoint
# takes lets the endpoint itself say what its bound is.
_BODY_BYTES_MAX = JOBS_BODY_BYTES_MAX + 1024 * 1024

# How long it accepts nothing after an accept that failed.
_ACCEPT_PAUSE_S = 1.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Pause:
    """Until when a listener accepts nothing, by the steady clock."""

    until_s: float = 0.0


class _Task(waitress.task.WSGITask):  # type: ignore[misc]
    """A request, with the address that the caller reached us by, and its answer in one piece."""

    # Waitress's own names, of which it says no types.
    wrote_header: bool
    has_body: bool
    content_length: int | None

    def get_environment(self) -> dict[str, Any]:
        environment: dict[str, Any] = super().get_environment()
        environment[LOCAL_ADDRESS] = self.channel.local_address
        environment[PEER_UID] = self.channel.peer_uid
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
    """A connection."""

    parser_class = Parser
    task_class = _Task
    error_task_class = _ErrorTask

    def __init__(self, inbox: Inbox, crowd: Crowd, server: Any, sock: Any, *rest: Any, **named: Any) -> None:
        # Asked once for each connection, while it certainly exists.
        local = sock.getsockname()
        self.local_address = local[0]
        self._local_port = local[1]
        self._inbox = inbox
        self._peer_uid: tuple[int | None] | None = None
        self.since_s = self.waits_s = self.owes_s = time.monotonic()
        self.begun = False
        self.unfinished_bytes = 0
        self._crowd = crowd
        super().__init__(server, sock, *rest, **named)
        self.outbufs = [Unsent()]
        self.home = peer.home(self.addr[0])
        crowd.enter(self)

    @property
    def in_work(self) -> bool:
        return bool(self.requests)

    @property
    def unsent_bytes(self) -> int:
        return int(self.total_outbufs_len)

    def peer_uid(self) -> int | None:
        """The user at the other end, which is on this host; None when that can't be told. Asked of the kernel once."""
        if self._peer_uid is None:
            caller, ours = peer.end(*self.addr[:2]), peer.end(self.local_address, self._local_port)
            self._peer_uid = (peer.uid_of(caller, ours),)
        return self._peer_uid[0]

    # One that was closed in this round of the poll is not polled, for another may have its descriptor by then.
    def readable(self) -> bool:
        return self.connected and bool(super().readable())

    def writable(self) -> bool:
        return self.connected and bool(super().writable())

    def received(self, data: bytes) -> bool:
        # Empty lines before a request are none, and do not begin one again and again.
        if not self.begun:
            self.begun, self.since_s = True, time.monotonic()
        taken = bool(super().received(data))
        self._crowd.holds(self, self.request.body_bytes_received if self.request is not None and self.connected else 0)
        return taken

    def write_soon(self, data: bytes) -> int:
        """Send what the socket takes at once, and keep the rest in memory; the crowd bounds what is kept. Called by the
        thread that serves the request, and never waits for the caller. Raises ClientDisconnected.
        """
        with self.outbuf_lock:
            if not self.connected:
                raise ClientDisconnected
            if not self.total_outbufs_len:
                self.owes_s = time.monotonic()
            self.outbufs[0].append(data)
            self.total_outbufs_len += len(data)
            _, failed = self._flush_exception(self._flush_some, do_close=False)
            if failed or self.total_outbufs_len:
                self.server.pull_trigger()
        return len(data)

    def service(self) -> None:
        self.since_s = time.monotonic()
        with self._inbox.serving(self):
            super().service()
        self.begun = False
        self.since_s = self.waits_s = time.monotonic()

    def del_channel(self, map: Any = None) -> None:  # noqa: A002  (Waitress's name)
        super().del_channel(map)
        self._crowd.leave(self)
        # A body that has not come whole may lie in a file.
        if self.request is not None:
            self.request.close()


class ListenError(Exception):
    """A port can't be bound. The sentence names its setting."""


class Server:
    """The REST server, in threads of its own from `start` to `stop`."""

    def __init__(self, app: Any, inbox: Inbox, host: str, port: int, threads: int) -> None:
        """Bind; port 0 takes any free one. The inbox is told of every POST that comes in. Raises ListenError."""
        opened: dict[int, Any] = {}
        try:
            self._server = waitress.server.create_server(
                app,
                map=opened,
                host=host,
                port=port,
                threads=threads,
                ident=None,
                clear_untrusted_proxy_headers=False,
                max_request_body_size=_BODY_BYTES_MAX,
                max_request_header_size=HEADER_BYTES_MAX,
                # The crowd sees to both; these are never reached.
                connection_limit=2 * CONNECTIONS_MAX,
                channel_timeout=2 * ANSWER_S,
                outbuf_high_watermark=2 * UNSENT_BYTES_MAX,
                asyncore_use_poll=True,
            )
        # Waitress says ValueError for a host that has no address.
        except (OSError, ValueError) as error:
            # What it had opened until then, it leaves open.
            wasyncore.close_all(opened)
            raise ListenError(f"can't listen for REST on {host}:{port} (host, port): {error}") from None
        self._all = _listeners(self._server)
        crowd = Crowd()
        for listener in self._all:
            listener.channel_class = partial(_Channel, inbox, crowd)
            # Waitress has no hooks at these places, so they are put in front of its own methods.
            listener.add_task = partial(_add_task, inbox, listener.add_task)
            pause = Pause()
            listener.handle_accept = partial(_accept_all, listener, pause)
            listener.readable = partial(_is_open, listener.readable, pause, crowd)
        self._thread = threading.Thread(target=self._server.run, name="rest", daemon=True)

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self._all[0].effective_port)

    def start(self) -> None:
        self._thread.start()

    def close_door(self) -> None:
        """Accept no more connections; those that are open are served on."""
        self._in_thread(lambda: [wasyncore.dispatcher.close(listener) for listener in self._all])

    def stop(self) -> None:
        """Wait for requests under way, a second at most, and end."""
        listener = self._all[0]
        listener.task_dispatcher.shutdown(cancel_pending=True, timeout=1)
        # The thread may be awake already and close all, its trigger too, before it is woken for that.
        with suppress(OSError):
            self._in_thread(lambda: wasyncore.close_all(listener._map))
        self._thread.join(1)

    def _in_thread(self, act: Callable[[], object]) -> None:
        """Do something in the server's own thread, which alone may touch its connections."""
        self._all[0].trigger.pull_trigger(act)


def _accept_all(listener: Any, pause: Pause) -> None:
    """Accept what waits, where Waitress accepts one in each round of its poll: so that a crowd is seen as one.

    When no descriptor is left for a connection, it waits a while: the listening socket stays readable, and asking it
    again and again would take all the time there is.
    """
    for _ in range(ACCEPTED_MAX):
        try:
            connection, address = listener.socket.accept()
        except BlockingIOError:
            return
        except OSError as error:
            log.warning("can't accept connections for a while: %s", error.strerror)
            pause.until_s = time.monotonic() + _ACCEPT_PAUSE_S
            return
        listener.set_socket_options(connection)
        listener.channel_class(listener, connection, listener.fix_addr(address), listener.adj, map=listener._map)


def _is_open(readable: Callable[[], bool], pause: Pause, crowd: Crowd) -> bool:
    """Whether a listener takes newcomers. Asked before each round of the poll, when connections may be closed."""
    now_s = time.monotonic()
    return crowd.thin(now_s) and now_s >= pause.until_s and readable()


def _add_task(inbox: Inbox, add_task: Callable[[_Channel], None], channel: _Channel) -> None:
    """A connection has a complete request: Waitress hands it to one of its threads."""
    # A request that could not be parsed has no command.
    if getattr(channel.requests[0], "command", None) == "POST":
        inbox.expect(channel)
    add_task(channel)


def _listeners(server: Any) -> list[Any]:
    """Waitress makes one listener, or for a name with several addresses a list behind one front."""
    if isinstance(server, waitress.server.MultiSocketServer):
        return [one for one in server.map.values() if isinstance(one, waitress.server.BaseWSGIServer)]
    return [server]
