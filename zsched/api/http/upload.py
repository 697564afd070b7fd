"""A request body that a thread reads while it is received: for bodies that are too large for memory.

The server's thread appends what arrives, and stops reading the connection while too much is waiting. The thread that
serves the request reads it, and so decides, before most of the body was sent, whether the caller may send it at all.
"""

from __future__ import annotations

import io
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from zsched.model.limits import UPLOAD_AHEAD_BYTES_MAX, UPLOAD_S_MAX, UPLOAD_SILENT_S_MAX

# The key of the WSGI environment.
UPLOAD: Final = "zsched.upload"


class UploadError(Exception):
    """The rest of the body will not come; the message says why. `status`: the HTTP status of the answer."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Upload:
    """Such a body. Has the methods that Waitress's receivers use. `read` is for the serving thread, the others are for
    the server's.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._parts: deque[bytes] = deque()
        self._length = 0
        self._waiting_bytes = 0
        # The body is complete, or will not be; and nobody reads it any more.
        self._ended = False
        self._error: UploadError | None = None
        self._dropped = False
        self._begun_s: float | None = None
        # Called by `read`: before it waits for the first time, and when there is room again.
        self.ask: Callable[[], None] = _nothing
        self.go_on: Callable[[], None] = _nothing

    def __len__(self) -> int:
        """Bytes received."""
        return self._length

    @property
    def held_bytes(self) -> int:
        """Bytes in memory."""
        return self._waiting_bytes

    @property
    def has_room(self) -> bool:
        """Whether more may be received."""
        return self._waiting_bytes < UPLOAD_AHEAD_BYTES_MAX

    @property
    def is_kept_back(self) -> bool:
        """Whether the caller waits for our word before it sends the body."""
        return self.ask is not _nothing and not self._ended

    @property
    def is_broken(self) -> bool:
        """Whether an error has ended the body."""
        return self._error is not None

    def append(self, data: bytes) -> None:
        with self._changed:
            self._length += len(data)
            if not self._dropped:
                self._parts.append(data)
                self._waiting_bytes += len(data)
                self._changed.notify()

    def finish(self, error: UploadError | None = None) -> None:
        """The body is complete, or an error ends it."""
        with self._changed:
            self._ended = True
            self._error = self._error or error
            self._changed.notify()

    def discard(self) -> None:
        """Drop what has been received, and what follows."""
        with self._changed:
            self._dropped = True
            self._parts.clear()
            self._waiting_bytes = 0

    close = discard

    def getfile(self) -> io.BytesIO:
        """An empty file, as `wsgi.input`."""
        return io.BytesIO()

    def read(self) -> bytes:
        """Wait for the next bytes; empty at the end. Raises UploadError."""
        with self._changed:
            now_s = time.monotonic()
            if self._begun_s is None:
                self._begun_s = now_s
            left_s = self._begun_s + UPLOAD_S_MAX - now_s
        if not self._parts and not self._ended:
            self.ask()
            self.ask = _nothing
        with self._changed:
            wait_s = min(left_s, UPLOAD_SILENT_S_MAX)
            if left_s <= 0 or not self._changed.wait_for(lambda: self._parts or self._ended, wait_s):
                raise UploadError(408, "The body has not come in time: send it faster, or in several requests")
            if self._error is not None:
                raise self._error
            full = not self.has_room
            data = b"".join(self._parts)
            self._parts.clear()
            self._waiting_bytes = 0
        if full:
            self.go_on()
        return data


def _nothing() -> None:
    pass
