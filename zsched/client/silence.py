"""A socket that notices a hung server while a call waits, without a limit for slow answers.

http.py uses it where a list has other schedulers. When nothing has been sent or received for a while, it asks for a
sign of life; only without one does the wait end. Nothing else tells a slow scheduler from one that is stopped.
"""

from __future__ import annotations

import errno
import io
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from zsched.model.limits import TRY_SILENT_GAP_S, TRY_SILENT_S_MAX

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class Watched:
    """A connected socket as http.client uses it. `limit_s`: the longest wait for the next byte."""

    __slots__ = ("_alive", "_limit_s", "_socket")

    def __init__(self, connected: socket.socket, limit_s: float, alive: Callable[[], bool]) -> None:
        """`alive` asks the server for a sign of life; it returns soon, and raises nothing."""
        self._socket = connected
        self._limit_s = limit_s
        self._alive = alive

    def fileno(self) -> int:
        return self._socket.fileno()

    def settimeout(self, limit_s: float) -> None:
        self._limit_s = limit_s

    def close(self) -> None:
        self._socket.close()

    def sendall(self, data: ReadableBuffer) -> None:
        """Raises OSError."""
        left = memoryview(data)
        while left:
            left = left[self._move(self._socket.send, left) :]

    def makefile(self, _mode: str) -> io.BufferedReader:
        """The received bytes. Reading raises OSError."""
        return io.BufferedReader(_Reader(self._socket, self._move))

    def _move(self, step: Callable[[memoryview], int], buffer: memoryview) -> int:
        """Send or receive some bytes; returns their number. Raises OSError, TimeoutError for a hung server too."""
        now_s = time.monotonic()
        until_s, gap_s = now_s + self._limit_s, TRY_SILENT_S_MAX
        while True:
            self._socket.settimeout(max(0.001, min(gap_s, until_s - now_s)))
            try:
                return step(buffer)
            except TimeoutError as error:
                now_s = time.monotonic()
                # The kernel's own timeout has an errno, and the connection is gone.
                if error.errno is not None or now_s >= until_s:
                    raise
            if not self._alive():
                raise TimeoutError(errno.ETIMEDOUT, "it has stopped answering")
            now_s, gap_s = time.monotonic(), TRY_SILENT_GAP_S


class _Reader(io.RawIOBase):
    """The receiving side. It keeps the socket open after the connection is closed, as a socket's own file does."""

    def __init__(
        self, connected: socket.socket, move: Callable[[Callable[[memoryview], int], memoryview], int]
    ) -> None:
        self._socket = connected
        self._move = move
        self._hold = connected.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        return self._move(self._socket.recv_into, memoryview(buffer))

    def close(self) -> None:
        self._hold.close()
        super().close()
