"""The agent's rates: how many runs to ask for ahead, and the delay before the next attempt. Pure."""

from __future__ import annotations

from typing import Final

from zsched.model.backoff import call_gap_ms
from zsched.model.limits import CALL_GAP_MS_MAX, WINDOW_MAX, WINDOW_PER_SLOT_MAX

# The time that a slot may need until its next run comes from the scheduler: the guard's batch, two trips, a commit. A
# turn of the scheduler costs nearly as much for few runs as for many, so a longer horizon makes short runs cheaper.
_HORIZON_MS: Final = 80
# Unfinished runs of a worker. Each may keep a whole result in memory, so a worker with many slots gets fewer per slot.
_WINDOW: Final = 1_024
_WINDOW_PER_SLOT_MIN: Final = 10
# Longer runs gain nothing from a run that waits ahead, and that one may wait for long.
_LONG_MS: Final = 250
# The initial mean: a new worker takes its runs for long ones until some were short.
_MEAN_AT_START_MS: Final = 1_000.0
_GAP_MS_MIN: Final = 100


def window(slots: int) -> int:
    """The most unfinished runs that a worker with that many slots holds."""
    return min(WINDOW_MAX, max(_WINDOW_PER_SLOT_MIN * slots, min(WINDOW_PER_SLOT_MAX * slots, _WINDOW)))


class Pace:
    """Measures how long runs take, and derives how many to ask for ahead: more for shorter runs, none for long ones.

    The mean follows short runs slowly and a long run at once: too few ahead cost little, too many have to wait.
    """

    def __init__(self, slots: int, window: int) -> None:
        self._slots = slots
        self._per_slot_max = max(0, window // slots - 1)
        self._mean_ms = _MEAN_AT_START_MS
        self._stalled = False
        # A power of two; `_per_slot_max` is applied afterwards.
        self._per_slot = 1

    def on_ended(self, run_ms: int) -> None:
        weight = 0.5 if run_ms > self._mean_ms else 0.125
        self._mean_ms += (max(0, run_ms) - self._mean_ms) * weight
        self._stalled = False

    def on_returned(self) -> None:
        """A run came back unstarted: ask for none ahead until the next run ends."""
        self._stalled = True

    def ahead(self) -> int:
        """Runs to ask for beyond the slots. Each change costs a frame, so the number rises when a slot could run dry,
        and falls only when it is four times too large.
        """
        if self._stalled or self._mean_ms > _LONG_MS:
            return 0
        demand = max(1.0, _HORIZON_MS / max(1.0, self._mean_ms))
        if not self._per_slot / 4 < demand <= self._per_slot:
            self._per_slot = 1
            while self._per_slot < demand:
                self._per_slot *= 2
        return self._slots * min(self._per_slot, self._per_slot_max)


class GrowingDelay:
    """Delays between attempts: 1, 2, 4, 8, 15, 15 … s, each less up to a fifth that differs by name and attempt.

    `delay_ms_max` may be set below 15 s.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._attempt = 0
        self.delay_ms_max = CALL_GAP_MS_MAX

    def reset(self) -> None:
        self._attempt = 0

    def fit(self, timeout_ms: int) -> None:
        """The scheduler gives this worker up after `timeout_ms`: make three attempts within it."""
        self.delay_ms_max = max(_GAP_MS_MIN, min(CALL_GAP_MS_MAX, timeout_ms // 3))

    def next_ms(self) -> int:
        self._attempt += 1
        return call_gap_ms(self._name, self._attempt, self.delay_ms_max)
