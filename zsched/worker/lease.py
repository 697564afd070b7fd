"""Leases: runs that end before their scheduler considers them lost, so that no two runs of one task overlap in time.

Pure. The agent takes its intervals from here, the guard its deadlines.

All periods count from `heard_ms`: when the worker sent the last frame that the scheduler surely received. With L for
`lease_ms`, by the worker's clock (CLOCK_BOOTTIME, which counts suspend):

    TERM  at heard_ms + 0.7 L
    KILL  at heard_ms + 0.9 L, whatever grace the run has

By the scheduler's clock another run starts at the earliest L + max(1 s, L / 30) after the last frame arrived, which is
no earlier than heard_ms. So the margin is 0.1 L + max(1 s, L / 30): 4 s for L = 30 s, and at least 13.3 % of L. One
clock may be slow and the other fast by 6.8 % each, since 0.9 / (1 - 0.068) < (31 / 30) / (1 + 0.068). Clocks under NTP
drift by less than a hundredth of that, so nearly the whole margin is left for a late guard.
"""

from __future__ import annotations

from typing import Final

# Heartbeats per length of a lease, and registers without a session. The gap has a lower bound for short leases.
_BEATS: Final = 10
_REGISTERS: Final = 20
_GAP_MS_MIN: Final = 50


def beat_ms(lease_ms: int) -> int:
    """The longest gap between heartbeats while a run with that lease is held."""
    return max(_GAP_MS_MIN, lease_ms // _BEATS)


def register_gap_ms(lease_ms: int) -> int:
    """The longest gap between registers while a run with that lease is held."""
    return max(_GAP_MS_MIN, lease_ms // _REGISTERS)


def term_at_ms(heard_ms: int, lease_ms: int) -> int:
    """When a run with that lease gets TERM, and from when on no such run starts."""
    return heard_ms + lease_ms * 7 // 10


def kill_at_ms(heard_ms: int, lease_ms: int) -> int:
    """When it gets KILL."""
    return heard_ms + lease_ms * 9 // 10


class Leases:
    """The live runs with a lease. The guard's."""

    def __init__(self) -> None:
        self._heard_ms: int | None = None
        self._lease_ms: dict[int, int] = {}
        # Runs before TERM by the length of their lease, which is mostly the same for all.
        self._holding: dict[int, set[int]] = {}
        # Runs after TERM, with the time of KILL. A later renewal does not change it.
        self._kill_at_ms: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._lease_ms)

    def lengths(self) -> tuple[tuple[int, int], ...]:
        """(run, lease_ms) of each run."""
        return tuple(self._lease_ms.items())

    def renew(self, heard_ms: int) -> None:
        """The scheduler received a frame that was sent at that time."""
        self._heard_ms = heard_ms if self._heard_ms is None else max(self._heard_ms, heard_ms)

    def hold(self, lease_ms: int, now_ms: int) -> bool:
        """Whether a run with that lease may start now."""
        return self._heard_ms is not None and now_ms < term_at_ms(self._heard_ms, lease_ms)

    def add(self, run: int, lease_ms: int) -> None:
        """A run has started."""
        self._lease_ms[run] = lease_ms
        self._holding.setdefault(lease_ms, set()).add(run)

    def remove(self, run: int) -> None:
        """A run has ended. Runs without a lease are ignored."""
        lease_ms = self._lease_ms.pop(run, None)
        if lease_ms is not None:
            self._kill_at_ms.pop(run, None)
            self._let_go(run, lease_ms)

    def take_ended(self, now_ms: int) -> list[int]:
        """The runs to send TERM now, each once."""
        if self._heard_ms is None:
            return []
        lengths = [lease_ms for lease_ms in self._holding if now_ms >= term_at_ms(self._heard_ms, lease_ms)]
        ended = [(run, lease_ms) for lease_ms in lengths for run in self._holding[lease_ms]]
        for run, lease_ms in ended:
            self._kill_at_ms[run] = kill_at_ms(self._heard_ms, lease_ms)
            self._let_go(run, lease_ms)
        return [run for run, _ in ended]

    def take_overdue(self, now_ms: int) -> list[int]:
        """The runs to send KILL now, each once. Also those that never got TERM."""
        if self._heard_ms is None or not self._lease_ms:
            return []
        overdue = [run for run, at_ms in self._kill_at_ms.items() if now_ms >= at_ms]
        for run in overdue:
            del self._kill_at_ms[run]
        lengths = [lease_ms for lease_ms in self._holding if now_ms >= kill_at_ms(self._heard_ms, lease_ms)]
        for lease_ms in lengths:
            overdue += self._holding.pop(lease_ms)
        return overdue

    def deadline_ms(self) -> int | None:
        """When take_ended or take_overdue has something to return, or None."""
        if self._heard_ms is None:
            return None
        shortest_ms = min(self._holding, default=None)
        deadlines = [*self._kill_at_ms.values()]
        if shortest_ms is not None:
            deadlines.append(term_at_ms(self._heard_ms, shortest_ms))
        return min(deadlines, default=None)

    def _let_go(self, run: int, lease_ms: int) -> None:
        holding = self._holding.get(lease_ms)
        if holding is not None:
            holding.discard(run)
            if not holding:
                del self._holding[lease_ms]
