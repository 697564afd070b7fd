"""The timers of live runs. Pure."""

from __future__ import annotations

import heapq
from typing import Final, Literal

from zsched.worker.guard.life import Run

Due = Literal["began", "signal", "timeout", "kill", "again", "collect"]

# Timers of runs that ended stay in the heap until it is this much longer than the live runs can explain.
_VOID_MAX: Final = 1_000
# A run has at most this many timers at a time.
_PER_RUN_MAX: Final = 6


class Timers:
    """Timers of live runs by time. The heap has numbers only, so that it keeps no output of an ended run in memory."""

    def __init__(self) -> None:
        # (time, the run's start, kind)
        self._heap: list[tuple[int, int, Due]] = []
        self._live: dict[int, Run] = {}

    def add(self, at_ms: int, run: Run, due: Due) -> None:
        start = run.live_process.start
        self._live[start] = run
        heapq.heappush(self._heap, (at_ms, start, due))

    def forget(self, start: int) -> None:
        """The run of that start has ended."""
        self._live.pop(start, None)

    def pop(self, now_ms: int) -> tuple[Run, Due] | None:
        """The next timer that is due, or None."""
        while self._heap and self._heap[0][0] <= now_ms:
            _, start, due = heapq.heappop(self._heap)
            if (run := self._live.get(start)) is not None:
                return run, due
        return None

    def deadline_ms(self) -> int | None:
        """When the next timer is due, or None. Removes the timers of ended runs on the way."""
        if len(self._heap) > _PER_RUN_MAX * len(self._live) + _VOID_MAX:
            self._heap = [entry for entry in self._heap if entry[1] in self._live]
            heapq.heapify(self._heap)
        while self._heap and self._heap[0][1] not in self._live:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
