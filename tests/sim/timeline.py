"""Virtual time: a heap of things to happen is the only clock there is. Nothing here waits."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from tests.sim.violation import Violation
from zsched.model.types import Now

Action = Callable[[], None]

# 2023-11-14T22:13:20Z: twenty seconds into a minute.
WALL_MS = 1_700_000_000_000

# A seed takes some thousands of steps; one that takes so many does something again and again without end.
STEPS_MAX = 200_000


class Timeline:
    """What happens next. Two things at the same moment happen in the order in which they were put here."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.steps = 0
        self._heap: list[tuple[int, int, Action]] = []
        self._count = 0

    def at(self, when_ms: int, action: Action) -> None:
        self._count += 1
        heapq.heappush(self._heap, (max(when_ms, self.now_ms), self._count, action))

    def after(self, gap_ms: int, action: Action) -> None:
        self.at(self.now_ms + gap_ms, action)

    def run(self, end_ms: int, done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass up to a moment, or until `done` says so between two things."""
        while self._heap and self._heap[0][0] <= end_ms and not done():
            self.now_ms, _, action = heapq.heappop(self._heap)
            self.steps += 1
            if self.steps > STEPS_MAX:
                raise Violation(f"the world spins: {self.steps} steps in {self.now_ms} ms")
            action()
        if not done():
            self.now_ms = end_ms


class Alarm:
    """Does one thing at the earliest moment it was set for; what it was set for after that is forgotten by it."""

    def __init__(self, timeline: Timeline, action: Action) -> None:
        self._timeline = timeline
        self._action = action
        self._due_ms: int | None = None

    def set(self, when_ms: int) -> None:
        if self._due_ms is None or when_ms < self._due_ms:
            self._due_ms = when_ms
            self._timeline.at(when_ms, lambda: self._ring(when_ms))

    def _ring(self, when_ms: int) -> None:
        if self._due_ms == when_ms:
            self._due_ms = None
            self._action()


class Clock:
    """One host's two clocks. The steady one began with the host, and makes `rate` ms in a second of the timeline; the
    wall clock may be set, so it may jump.
    """

    def __init__(self, timeline: Timeline, age_ms: int, rate: int = 1_000) -> None:
        self._timeline = timeline
        self._age_ms = age_ms
        self._rate = rate
        self.wall_ms_off = 0

    def now(self) -> Now:
        return Now(self.mono_ms, WALL_MS + self._timeline.now_ms + self.wall_ms_off)

    @property
    def mono_ms(self) -> int:
        return self.at(self._timeline.now_ms)

    def at(self, now_ms: int) -> int:
        """What this host's steady clock says at a moment of the timeline."""
        return self._age_ms + now_ms * self._rate // 1_000

    def moment(self, mono_ms: int) -> int:
        """The moment on the timeline from which on this host's steady clock says so."""
        return -((self._age_ms - mono_ms) * 1_000 // self._rate)
