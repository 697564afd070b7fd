"""The body of a request until it is served, and its chunked encoding."""

from __future__ import annotations

import io
from typing import Any

import waitress.receiver

from zsched.api.http.upload import Upload
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
        """Bytes received, kept or discarded."""
        return self._length

    def append(self, data: bytes) -> None:
        if not self._discarded:
            self._file.write(data)
        self._length += len(data)

    def discard(self) -> None:
        """Free the received bytes, and drop those that follow."""
        self._discarded = True
        self._file = io.BytesIO()

    def getfile(self) -> io.BytesIO:
        """The whole body, to be read once. Reading it all at once makes no copy."""
        # This trims the buffer. Only then can `read` return it without a copy.
        self._file.getvalue()
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file = io.BytesIO()
        self._length = 0


class Chunks(waitress.receiver.ChunkedReceiver):  # type: ignore[misc]
    """Waitress's receiver. Raises TooManyChunksError if there are too many chunks for their bytes."""

    buf: Body | Upload

    def __init__(self, buf: Body | Upload) -> None:
        super().__init__(buf)
        self._control_line = b""
        self._lines = 0

    @property
    def control_line(self) -> Any:
        return self._control_line

    @control_line.setter
    def control_line(self, line: bytes) -> None:
        """Waitress keeps an incomplete first line of a chunk here, and clears it when the line is complete. It skips
        empty lines, which take as much time as a chunk, so these count too.
        """
        self._control_line = line
        if not line:
            self._lines += 1
            if self._lines > CHUNKS_MAX + len(self.buf) // KIB:
                raise TooManyChunksError
