"""The captured output of a stream: its first and last bytes, and its length. Pure."""

from __future__ import annotations

from collections import deque

from zsched.protocol import Output


class Capture:
    """Keeps at most `bytes_max` of a stream of any length, half from its start and half from its end.

    It takes little more memory than that: the end is kept as whole chunks, and the oldest ones are dropped when the
    others suffice.
    """

    __slots__ = ("_head", "_head_max", "_tail", "_tail_bytes", "_tail_max", "_total")

    def __init__(self, bytes_max: int) -> None:
        self._head_max = bytes_max // 2
        self._tail_max = bytes_max - self._head_max
        self._head = b""
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._total = 0

    def feed(self, data: bytes) -> None:
        self._total += len(data)
        room = self._head_max - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail.append(data)
            self._tail_bytes += len(data)
            while self._tail_bytes - len(self._tail[0]) >= self._tail_max:
                self._tail_bytes -= len(self._tail.popleft())

    def since(self, offset: int, bytes_max: int) -> tuple[int, bytes]:
        """The kept bytes from `offset` on: where they begin, and at most `bytes_max` of them."""
        if offset < len(self._head):
            return offset, self._head[offset : offset + bytes_max]
        tail = b"".join(self._tail)
        begin = self._total - len(tail)
        skip = max(0, offset - begin)
        return begin + skip, tail[skip : skip + bytes_max]

    @property
    def total(self) -> int:
        """The number of bytes written so far."""
        return self._total

    def output(self) -> Output:
        """The kept output so far. It is complete when `total` is len(head) + len(tail)."""
        if not self._total:
            return Output()
        tail = b"".join(self._tail)
        return Output(self._head, tail[max(0, len(tail) - self._tail_max) :], self._total)
