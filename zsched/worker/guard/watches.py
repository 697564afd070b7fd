"""Who is looked at: runs whose output is told while they write it. Pure.

Nothing is copied for it: what is told is taken from what is kept of the run anyway. So a run that writes faster than it
is told has gaps here, and costs no more memory than any other.
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
    told: dict[StreamName, int]


class Watches:
    """`captures` gives a live run's two captures, None when it does not live."""

    def __init__(self, captures: Callable[[int], tuple[Capture, Capture] | None]) -> None:
        self._captures = captures
        self._watches: dict[int, _Watch] = {}
        self._look_at_ms = 0

    def add(self, look: Look, mono_ms: int) -> None:
        """Somebody looks, or goes on looking."""
        told: dict[StreamName, int] = {"stdout": look.stdout, "stderr": look.stderr}
        self._watches[look.run] = _Watch(mono_ms + look.for_ms, told)
        self._look_at_ms = mono_ms

    def deadline_ms(self) -> int | None:
        """When to look again; None when nobody does."""
        return self._look_at_ms if self._watches else None

    def take(self, mono_ms: int) -> list[Logged]:
        """What the watched runs have written since the last time, at most LOG_BYTES_MAX of each stream."""
        if not self._watches or mono_ms < self._look_at_ms:
            return []
        self._look_at_ms = mono_ms + LOG_INTERVAL_MS
        found: list[Logged] = []
        for run, watch in list(self._watches.items()):
            captures = self._captures(run)
            if captures is None or mono_ms >= watch.until_ms:
                del self._watches[run]
                continue
            for name, capture in zip(_STREAMS, captures, strict=True):
                if capture.total > watch.told[name]:
                    offset, data = capture.since(watch.told[name], LOG_BYTES_MAX)
                    watch.told[name] = offset + len(data)
                    found.append(Logged(run, name, offset, data))
        return found
