"""Frames that have been read and wait for a turn, with the sums that bound them. Used by the loop's thread alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from zsched import protocol
from zsched.model.types import RunId


class Frame(NamedTuple):
    """A frame, or the error that its bytes are; its sender's name and key; what it costs until its turn: its bytes, and
    how many runs its lists have.
    """

    peer: bytes
    key: str
    frame: protocol.WorkerFrame | protocol.ProtocolError
    size: int
    entries: int


class FrameQueue:
    """Waiting frames, the oldest first. `bytes` and `entries` are the sums of their sizes and entries."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self.bytes = 0
        self.entries = 0

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def after(self, count: int) -> Iterator[Frame]:
        """All but the oldest `count`."""
        return islice(self._frames, count, None)

    def add(self, frame: Frame) -> None:
        self._frames.append(frame)
        self.bytes += frame.size
        self.entries += frame.entries

    def runs(self) -> Iterator[RunId]:
        """The runs of which waiting frames report a start or an end."""
        for _, _, frame, *_ in self._frames:
            if isinstance(frame, protocol.Result):
                for result in frame.results:
                    yield RunId(result.run)
            elif isinstance(frame, protocol.Started):
                yield RunId(frame.run)

    def take(self) -> Frame:
        """Remove and return the oldest."""
        frame = self._frames.popleft()
        self.bytes -= frame.size
        self.entries -= frame.entries
        return frame


def read(peer: bytes, parts: list[bytes], key: str) -> Frame:
    """The frame of a message."""
    size = sum(map(len, parts))
    try:
        if len(parts) != 1:
            raise protocol.ProtocolError("a message has one part")
        frame = protocol.unpack_from_worker(parts[0])
        return Frame(peer, key, frame, size, protocol.entries(frame))
    except protocol.ProtocolError as error:
        # Its sentence alone: the error itself would keep all that had been read of the frame until its turn.
        return Frame(peer, key, protocol.ProtocolError(str(error)), size, 0)
