"""The outputs of live runs: pipes in the guard's epoll, redaction and capture. Used by `runs` and `live`."""

from __future__ import annotations

import os
import select
from collections.abc import Collection
from typing import Final

from zsched.model.limits import FRAME_FROM_WORKER_BYTES_MAX
from zsched.protocol import RunOrder
from zsched.worker.process.capture import Capture
from zsched.worker.process.redact import Redactor, patterns

# Bytes of one read: the default size of a pipe. A job that writes without end gets one read a turn, like all others.
_READ_BYTES: Final = 64 * 1024
# The largest pipe (fs.pipe-max-size): read at most when the last process that could write has ended.
_DRAIN_BYTES_MAX: Final = 1024 * 1024
# Output kept of one stream at most, whatever an order asks for: a result with both streams fits a frame.
_KEPT_BYTES_MAX: Final = FRAME_FROM_WORKER_BYTES_MAX // 2 - 64 * 1024


class OutputPipe:
    """One output of a run: the pipe, None when closed, and its captured output. Secrets are redacted before capture."""

    __slots__ = ("_redactor", "capture", "fd")

    def __init__(self, fd: int, bytes_max: int, secrets: Collection[str]) -> None:
        self.fd: int | None = fd
        self.capture = Capture(bytes_max)
        self._redactor = Redactor(patterns(secrets)) if secrets else None

    def feed(self, data: bytes) -> None:
        self.capture.feed(data if self._redactor is None else self._redactor.feed(data))

    def end(self) -> None:
        """The output is complete."""
        if self._redactor is not None:
            self.capture.feed(self._redactor.end())


class Pipes:
    """The open output pipes, by descriptor."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self._open: dict[int, OutputPipe] = {}
        # A pipe was closed by its writers since this was last reset.
        self.any_closed = False

    def watch(self, fd: int, order: RunOrder) -> OutputPipe:
        """Read this pipe from now on."""
        bytes_max = min(order.output_bytes_max, _KEPT_BYTES_MAX)
        pipe = self._open[fd] = OutputPipe(fd, bytes_max, (order.secret_env or {}).values())
        self._epoll.register(fd, select.EPOLLIN)
        return pipe

    def on_readable(self, fd: int) -> bool:
        """Read from a pipe once. False: the descriptor is not an output's."""
        pipe = self._open.get(fd)
        if pipe is None:
            return False
        self._read(pipe)
        return True

    def finish(self, pipe: OutputPipe) -> None:
        """Read what a pipe still holds, and close it. No process that could write is left."""
        drained = 0
        while pipe.fd is not None and drained < _DRAIN_BYTES_MAX and (count := self._read(pipe)):
            drained += count
        if pipe.fd is not None:
            self._close(pipe)

    def _read(self, pipe: OutputPipe) -> int:
        """Returns the number of bytes read: 0 when the pipe is empty, or closed by its writers."""
        assert pipe.fd is not None
        try:
            data = os.read(pipe.fd, _READ_BYTES)
        except BlockingIOError:
            return 0
        if data:
            pipe.feed(data)
        else:
            self._close(pipe)
            self.any_closed = True
        return len(data)

    def _close(self, pipe: OutputPipe) -> None:
        assert pipe.fd is not None
        # Before the close: a child that is being spawned may hold the pipe for a moment, and its events would go on.
        self._epoll.unregister(pipe.fd)
        os.close(pipe.fd)
        del self._open[pipe.fd]
        pipe.fd = None
        pipe.end()
