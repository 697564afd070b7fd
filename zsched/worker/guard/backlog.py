"""Runs that wait in the guard for a slot. Pure.

A free slot takes the next run from here at once, without waiting for the agent or the network. A run that waits for a
second is returned to the scheduler, which may have a better place. So the guard starts nothing older than that, even
when the agent hangs.
"""

from __future__ import annotations

from zsched.model.limits import BACKLOG_WAIT_MS_MAX
from zsched.protocol import RunOrder


class Backlog:
    """First in, first out, but runs on probation first. Bounded by the window that the agent asks for."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[RunOrder, int]] = {}
        # Runs on probation.
        self._urgent: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, run: int) -> bool:
        return run in self._waiting

    def add(self, order: RunOrder, mono_ms: int) -> None:
        self._waiting[order.run] = (order, mono_ms)
        if order.probation:
            self._urgent[order.run] = None

    def take(self) -> RunOrder:
        """Remove and return the oldest run, of those on probation if there are any. Raises KeyError when empty."""
        run = next(iter(self._urgent or self._waiting), None)
        if run is None:
            raise KeyError("the backlog is empty")
        self._urgent.pop(run, None)
        return self._waiting.pop(run)[0]

    def remove(self, run: int) -> bool:
        """Remove a run. Returns whether it was here."""
        self._urgent.pop(run, None)
        return self._waiting.pop(run, None) is not None

    def withdraw(self) -> tuple[int, ...]:
        """Remove and return all runs."""
        runs = tuple(self._waiting)
        self._waiting.clear()
        self._urgent.clear()
        return runs

    def expire(self, mono_ms: int) -> tuple[int, ...]:
        """Remove and return the runs that have waited for too long."""
        expired = []
        for run, (_, since_ms) in self._waiting.items():
            if mono_ms < since_ms + BACKLOG_WAIT_MS_MAX:
                break
            expired.append(run)
        for run in expired:
            self.remove(run)
        return tuple(expired)

    def deadline_ms(self) -> int | None:
        """When `expire` has something to do; None when empty."""
        for _, since_ms in self._waiting.values():
            return since_ms + BACKLOG_WAIT_MS_MAX
        return None
