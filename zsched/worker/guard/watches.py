"""Watches: runs whose output is reported while they write it. Pure.

The reported output is read from the run's capture, without a second buffer. So a run that writes faster than it is
reported has gaps here, and takes no more memory than any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from zsched.model.limits import LOG_BYTES_MAX, LOG_INTERVAL_MS
from zsched.model.types import StreamName
from zsched.worker.messages import Logged, Look
from zsched.worker.process.capture import Capture

_STREAMS: Final[tuple[StreamName, StreamName]] = ("stdout", "stderr")


@dataclass(slots=True)
class _Watch:
    until_ms: int
    # Up to which byte each stream has been reported.
    offsets: dict[StreamName, int]


class Watches:
    """`captures` returns a live run's two captures; None when it does not live."""

    def __init__(self, captures: Callable[[int], tuple[Capture, Capture] | None]) -> None:
        self._captures = captures
        self._watches: dict[int, _Watch] = {}
        self._look_at_ms = 0

    def add(self, look: Look, mono_ms: int) -> None:
        """Watch a run, or renew its watch."""
        offsets: dict[StreamName, int] = {"stdout": look.stdout, "stderr": look.stderr}
        self._watches[look.run] = _Watch(mono_ms + look.for_ms, offsets)
        self._look_at_ms = mono_ms

    def deadline_ms(self) -> int | None:
        """When to call `take`; None without watches."""
        return self._look_at_ms if self._watches else None

    def take(self, mono_ms: int) -> list[Logged]:
        """The new output of the watched runs, at most LOG_BYTES_MAX of each stream."""
        if not self._watches or mono_ms < self._look_at_ms:
            return []
        self._look_at_ms = mono_ms + LOG_INTERVAL_MS
        output: list[Logged] = []
        for run, watch in list(self._watches.items()):
            captures = self._captures(run)
            if captures is None or mono_ms >= watch.until_ms:
                del self._watches[run]
                continue
            for name, capture in zip(_STREAMS, captures, strict=True):
                if capture.total > watch.offsets[name]:
                    offset, data = capture.since(watch.offsets[name], LOG_BYTES_MAX)
                    watch.offsets[name] = offset + len(data)
                    output.append(Logged(run, name, offset, data))
        return output
