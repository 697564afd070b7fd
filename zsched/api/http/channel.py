"""A connection of REST: Waitress's channel, which reads one request at a time, and its tasks, which answer one.

Waitress has no hooks for the bounds of crowd.py, for answers that never block a thread, or for our error body. So these
classes override its methods and set its private names; setup.cfg pins its minor version.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from functools import partial
from typing import Any

import waitress.channel
import waitress.task
from waitress.channel import ClientDisconnected

from zsched.api.gate import LOCAL_ADDRESS, PEER_UID
from zsched.api.headers import common_headers, request_id
from zsched.api.http.caller import SOCKET_ADDRESS, Caller
from zsched.api.http.crowd import ConnectionLimiter
from zsched.api.http.parser import Ahead, Parser
from zsched.api.http.unsent import Unsent
from zsched.api.http.upload import UPLOAD, Upload, UploadError
from zsched.api.problem import Problem, render
from zsched.scheduler.inbox import Inbox


class Task(waitress.task.WSGITask):  # type: ignore[misc]
    """A request that a thread serves, with what the gate needs of its connection, and its answer in one piece."""

    # Attributes of Waitress, which has no type hints.
    wrote_header: bool
    has_body: bool
    content_length: int | None

    def get_environment(self) -> dict[str, Any]:
        environment: dict[str, Any] = super().get_environment()
        environment[LOCAL_ADDRESS] = self.channel.caller.local_address
        environment[PEER_UID] = self.channel.caller.uid
        environment[UPLOAD] = self.request.upload
        return environment

    def build_response_header(self) -> bytes:
        upload: Upload | None = self.request.upload
        # A caller that waited keeps its body then (RFC 9110, 10.1.1), and its next request would be taken for the body.
        if upload is not None and (upload.is_kept_back or upload.is_broken):
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header

    def write(self, data: bytes) -> None:
        """Send head and body at once. Waitress would send the head first and wake the caller twice: with many callers
        that gave a quarter fewer answers.
        """
        if self.wrote_header or not self.has_body or self.content_length != len(data):
            super().write(data)
            return
        answer = self.build_response_header() + data
        self.wrote_header = True
        self.content_bytes_written = len(data)
        self.channel.write_soon(answer)


class ErrorTask(waitress.task.ErrorTask):  # type: ignore[misc]
    """The answer to a request that Waitress refuses, with our error body."""

    def execute(self) -> None:
        error = self.request.error
        code = {413: "too_large", 431: "headers_too_large", 503: "unavailable"}.get(error.code, "invalid_request")
        called = request_id(self.request.headers.get("X_REQUEST_ID"))
        body, media = render(Problem(error.code, code, f"{error.reason}: {error.body}"), "", "", called)
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", media), *common_headers(called).items()]
        if error.code == 503:
            self.response_headers.append(("Retry-After", "1"))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(waitress.channel.HTTPChannel):  # type: ignore[misc]
    """A connection. At most one request is parsed and unanswered; pipelined bytes wait unparsed."""

    # Attributes of Waitress, which has no type hints.
    request: Parser | None
    requests: list[Parser]
    connected: bool

    task_class = Task
    error_task_class = ErrorTask

    def __init__(
        self,
        inbox: Inbox,
        limiter: ConnectionLimiter,
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
        # The length of a body is unknown: no request can follow.
        self._broken = False
        self._limiter = limiter
        super().__init__(server, sock, *rest, **named)
        self.outbufs = [Unsent()]
        # Reentrant: Waitress holds it while it sends "100 Continue", which may close the connection: see del_channel.
        self.requests_lock = threading.RLock()
        limiter.enter(self)

    @property
    def in_work(self) -> bool:
        return bool(self.requests)

    @property
    def served(self) -> bool:
        # A thread may remove its request at any time.
        return self._served is not None and self._served in [*self.requests]

    @property
    def unsent_bytes(self) -> int:
        return int(self.total_outbufs_len)

    @property
    def held_bytes(self) -> int:
        return sum(request.held_bytes for request in self._all())

    def _all(self) -> list[Parser]:
        """The requests that hold bytes, each once: a thread may serve one that is still received."""
        return [*dict.fromkeys(request for request in (*self.requests, self.request) if request is not None)]

    def refuse(self) -> None:
        """Free the bodies that no thread serves; their requests are answered 503. Without such a body, close."""
        with self.requests_lock:
            bodies = [request for request in self._all() if request is not self._served and request.body_bytes]
            for request in bodies:
                request.discard_body()
        if not bodies:
            self.handle_close()

    def parser_class(self, adjustments: Any) -> Any:
        """The parser of the next bytes: of a request, or one that only keeps them. Called under `requests_lock`."""
        return Ahead(adjustments) if self.requests else Parser(adjustments)

    # Waitress calls both methods for each connection before each round of its poll. Its own ones took a tenth of the
    # scheduler's time with 32 callers. A connection that was closed in this round is not polled, because another may
    # have its descriptor by then.
    def readable(self) -> bool:
        """Whether more may be read. After an answer, pipelined bytes are parsed first."""
        if not self._may_read():
            return False
        if isinstance(self.request, Ahead):
            # The thread that has just answered reads it under the lock.
            with self.requests_lock:
                ahead, self.request = self.request.data, None
            self.received(ahead)
            return self._may_read()
        return True

    def _may_read(self) -> bool:
        request = self.request
        if self._broken:
            return False
        if request is not None and request.empty and request.upload is not None:
            # The thread reads it, or has answered and does not want the rest, which the caller may send all the same.
            return request.upload.has_room and self.connected and not (self.will_close or self.close_when_flushed)
        return not (
            self.requests or self.total_outbufs_len or not self.connected or self.will_close or self.close_when_flushed
        )

    def writable(self) -> bool:
        return bool(self.total_outbufs_len or self.will_close or self.close_when_flushed) and self.connected

    def received(self, data: bytes) -> bool:
        # Empty lines before a request do not restart its time limit.
        now_s = time.monotonic()
        if not self.begun:
            self.begun, self.since_s = True, now_s
        with self.requests_lock:
            before = self.request
            received = bool(super().received(data))
            request = self.request
            if before is not None and before.empty and before.upload is not None:
                # Its own time limits are those of the thread that reads it.
                self.since_s = now_s if self.requests else self.since_s
                self._broken = before.error is not None
            elif request is not None and request.upload is not None and not self.requests:
                self._serve_early(request, request.upload)
            if self._broken and not self.requests:
                self.handle_close()
        return received

    def _serve_early(self, request: Parser, upload: Upload) -> None:
        """Let a thread serve a request whose body is still to come."""
        upload.go_on = self.server.pull_trigger
        if request.wants_continue:
            upload.ask = self._continue
        # Waitress drops an empty request when it is complete: the thread has it.
        request.empty = True
        self.requests.append(request)
        self.server.add_task(self)

    def _continue(self) -> None:
        """Let the caller send its body. Called by the thread that serves the request."""
        with suppress(ClientDisconnected):
            self.write_soon(b"HTTP/1.1 100 Continue\r\n\r\n")

    def write_soon(self, data: bytes) -> int:
        """Send what the socket takes at once, and keep the rest in memory, within the limit of crowd.py. Called by the
        thread that serves the request; never waits for the caller. Raises ClientDisconnected.
        """
        with self.outbuf_lock:
            if not self.connected:
                raise ClientDisconnected
            sent = 0
            if not self.total_outbufs_len:
                # Unsent bytes are polled for, and the socket is mostly ready: so count only the rest.
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
        # A GET may wait for long, and none reads its body.
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
        self._limiter.leave(self)
        # The queue of the threads keeps this connection until its turn comes. Free its requests now.
        with self.requests_lock:
            for request in self._all():
                if request.upload is not None:
                    request.upload.finish(UploadError(400, "The connection was closed before the body was complete"))
                if request is not self._served:
                    request.close()
