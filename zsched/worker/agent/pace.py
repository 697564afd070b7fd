"""How fast things go: how many runs to ask for ahead, when to try again, how long to wait for a word. Pure."""

from __future__ import annotations

import zlib
from typing import Final

from zsched.model.limits import ATTEMPT_GAP_MS_MAX, WINDOW_MAX, WINDOW_PER_SLOT_MAX

# What a slot may need until its next run comes from the scheduler: the guard's batch, two trips, a commit. A turn of
# the scheduler costs nearly as much for few runs as for many, so a longer horizon makes short runs cheaper.
_HORIZON_MS: Final = 80
# Unfinished runs that a worker holds at most. Each may keep a whole result in memory, so many slots get fewer for each.
_WINDOW: Final = 1_024
_WINDOW_PER_SLOT_MIN: Final = 10
# Runs longer than this gain nothing by a next one that waits at hand, and it may wait for long.
_LONG_MS: Final = 250
# Where the mean starts: a new worker takes its runs for long ones until some were short.
_MEAN_AT_START_MS: Final = 1_000.0
_GAP_MS_MIN: Final = 100
# Who comes so late to judge stood still as well.
_STALL_MS: Final = 1_000


def window(slots: int) -> int:
    """How many unfinished runs a worker of so many slots holds at most."""
    return min(WINDOW_MAX, max(_WINDOW_PER_SLOT_MIN * slots, min(WINDOW_PER_SLOT_MAX * slots, _WINDOW)))


class Pace:
    """Watches how long runs take and says how many to ask for ahead: the shorter the more, none when they are long.

    The mean follows short runs slowly and a long one at once, because too few ahead cost little and too many wait.
    """

    def __init__(self, slots: int, window: int) -> None:
        self._slots = slots
        self._per_slot_max = max(0, window // slots - 1)
        self._mean_ms = _MEAN_AT_START_MS
        self._stalled = False
        # Before its bound, and always a power of two.
        self._per_slot = 1

    def on_ended(self, run_ms: int) -> None:
        weight = 0.5 if run_ms > self._mean_ms else 0.125
        self._mean_ms += (max(0, run_ms) - self._mean_ms) * weight
        self._stalled = False

    def on_returned(self) -> None:
        """A run waited in vain: none ahead until the next one ends."""
        self._stalled = True

    def ahead(self) -> int:
        """Rises when a slot could run dry, falls only when it is four times too many: each change costs a frame."""
        if self._stalled or self._mean_ms > _LONG_MS:
            return 0
        wanted = max(1.0, _HORIZON_MS / max(1.0, self._mean_ms))
        if not self._per_slot / 4 < wanted <= self._per_slot:
            self._per_slot = 1
            while self._per_slot < wanted:
                self._per_slot *= 2
        return self._slots * min(self._per_slot, self._per_slot_max)


class Backoff:
    """Gaps between attempts: 1, 2, 4, 8, 15, 15 … s, each less up to a fifth that differs by name and attempt.

    `most_ms` may be set to less than the 15 s.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._attempt = 0
        self.most_ms = ATTEMPT_GAP_MS_MAX

    def reset(self) -> None:
        self._attempt = 0

    def hurry(self, timeout_ms: int) -> None:
        """Somebody gives us up after this time: three attempts within it."""
        self.most_ms = max(_GAP_MS_MIN, min(ATTEMPT_GAP_MS_MAX, timeout_ms // 3))

    def next_ms(self) -> int:
        gap_ms = min(1_000 << min(self._attempt, 4), self.most_ms)
        self._attempt += 1
        # No random source: the same worker does the same again, and different workers differ.
        share = zlib.crc32(f"{self._name}:{self._attempt}".encode()) % 1_000
        return gap_ms - gap_ms * share // 5_000


class Patience:
    """Judges somebody by his silence, who says himself how long it may last."""

    def __init__(self, within_ms: int, mono_ms: int) -> None:
        """`within_ms`: how long until his first word."""
        self._within_ms = within_ms
        self._by_ms = mono_ms + within_ms
        self._heard = False

    def hear(self, within_ms: int | None = None) -> None:
        """He has spoken since the last look, and said anew how long he may be silent, or not."""
        self._heard = True
        self._within_ms = self._within_ms if within_ms is None else within_ms

    def over(self, mono_ms: int) -> bool:
        """Whether he has been silent for too long. A judge who looks late gives him the whole time again."""
        if self._heard or mono_ms > self._by_ms + _STALL_MS:
            self._heard = False
            self._by_ms = mono_ms + self._within_ms
        return mono_ms >= self._by_ms

    def deadline_ms(self) -> int:
        """When to look."""
        return self._by_ms
