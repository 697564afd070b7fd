"""The body of a request until it has been served, and chunks as a body may come in."""

from __future__ import annotations

import io
from typing import Any

import waitress.receiver

from zsched.model.limits import CHUNKS_MAX, KIB


class TooManyChunksError(Exception):
    """A chunked body has more chunks than its size allows."""


class Body:
    """A body in memory. It replaces Waitress's buffer, which moves a large body to a temporary file: that takes a
    descriptor, and room on a disk. Has the methods that Waitress's parser uses.
    """

    def __init__(self) -> None:
        self._file = io.BytesIO()
        self._length = 0
        self._discarded = False

    def __len__(self) -> int:
        """Bytes that have come, kept or discarded."""
        return self._length

    def append(self, data: bytes) -> None:
        if not self._discarded:
            self._file.write(data)
        self._length += len(data)

    def discard(self) -> None:
        """Free the bytes that have come, and drop those that still come."""
        self._discarded = True
        self._file = io.BytesIO()

    def getfile(self) -> io.BytesIO:
        """The whole body, to be read once. Reading all of it at once makes no copy."""
        # This cuts the memory to what is used. Only then `read` can return it as it is.
        self._file.getvalue()
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file = io.BytesIO()
        self._length = 0


class Chunks(waitress.receiver.ChunkedReceiver):  # type: ignore[misc]
    """Waitress's receiver, which raises TooManyChunksError when there are too many chunks for what they bring."""

    buf: Body

    def __init__(self, buf: Body) -> None:
        super().__init__(buf)
        self._control_line = b""
        self._lines = 0

    @property
    def control_line(self) -> Any:
        return self._control_line

    @control_line.setter
    def control_line(self, line: bytes) -> None:
        """Waitress keeps the beginning of a chunk's first line here, and sets it to nothing when the line is complete.
        It skips an empty line, which takes as much time as a chunk, so these count too.
        """
        self._control_line = line
        if not line:
            self._lines += 1
            if self._lines > CHUNKS_MAX + len(self.buf) // KIB:
                raise TooManyChunksError
