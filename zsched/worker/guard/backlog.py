"""Runs that wait in the guard for a slot. Pure.

A free slot takes the next run from here at once, without waiting for the agent or the network. A run that waits for a
second is returned to the scheduler, which may have a better place. So the guard starts nothing older than that, even
when the agent hangs.
"""

from __future__ import annotations

from zsched.model.limits import BACKLOG_WAIT_MS_MAX
from zsched.worker.guard.life import Run


class Backlog:
    """First in, first out, but runs on probation first. Bounded by the window that the agent asks for."""

    def __init__(self) -> None:
        self._waiting: dict[int, Run] = {}
        # Runs on probation.
        self._urgent: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, run: Run) -> None:
        self._waiting[run.number] = run
        if run.order is not None and run.order.probation:
            self._urgent[run.number] = None

    def take(self) -> Run:
        """Remove and return the oldest run, of those on probation if there are any. Raises KeyError when empty."""
        number = next(iter(self._urgent or self._waiting), None)
        if number is None:
            raise KeyError("the backlog is empty")
        return self.remove(number)

    def remove(self, number: int) -> Run:
        """Remove and return a run. Raises KeyError when it does not wait."""
        self._urgent.pop(number, None)
        return self._waiting.pop(number)

    def take_all(self) -> list[Run]:
        """Remove and return all runs."""
        runs = list(self._waiting.values())
        self._waiting.clear()
        self._urgent.clear()
        return runs

    def take_expired(self, now_ms: int) -> list[Run]:
        """Remove and return the runs that have waited for too long."""
        expired = []
        for run in self._waiting.values():
            if now_ms < run.since_ms + BACKLOG_WAIT_MS_MAX:
                break
            expired.append(run)
        for run in expired:
            self.remove(run.number)
        return expired

    def deadline_ms(self) -> int | None:
        """When `take_expired` has something to return; None when empty."""
        for run in self._waiting.values():
            return run.since_ms + BACKLOG_WAIT_MS_MAX
        return None
