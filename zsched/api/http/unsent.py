"""The unsent bytes of a connection's answers. It replaces Waitress's buffer, which keeps sent bytes until the next
answer, and moves a large answer to a file.
"""

from __future__ import annotations

from collections import deque


class Unsent:
    """Chunks in order, in memory; each is freed when it is sent. Has the methods that Waitress's channel uses."""

    def __init__(self) -> None:
        self._pieces: deque[memoryview] = deque()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, data: bytes | memoryview) -> None:
        if data:
            self._pieces.append(memoryview(data))
            self._length += len(data)

    def get(self, count: int) -> memoryview:
        """Up to `count` bytes of the first chunk."""
        return self._pieces[0][:count]

    def skip(self, count: int, _prune: bool = False) -> None:
        """Free bytes that `get` returned."""
        self._length -= count
        rest = self._pieces[0][count:]
        if rest:
            self._pieces[0] = rest
        else:
            self._pieces.popleft()

    def close(self) -> None:
        self._pieces.clear()
        self._length = 0
