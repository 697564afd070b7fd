"""Runs that wait in the guard for a slot. Pure: the guard and simulations use the same.

A slot that gets free takes the next run from here at once, so that it never waits for the agent or the network. What
waits for a second goes back to the scheduler, which may know a better place; so even when the agent hangs, the guard
starts nothing that is older than that.
"""

from __future__ import annotations

from zsched.model.limits import BACKLOG_WAIT_MS_MAX
from zsched.protocol import RunOrder


class Backlog:
    """First in, first out, but those on probation first; each run knows since when it waits.

    Its length is bounded by the window the agent asks for.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[RunOrder, int]] = {}
        # Those on probation: each shall meet its fate soon, not after others.
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
        """The run that waited longest, of those on probation if any is. Raises KeyError when none waits."""
        run = next(iter(self._urgent or self._waiting), None)
        if run is None:
            raise KeyError("nothing waits")
        self._urgent.pop(run, None)
        return self._waiting.pop(run)[0]

    def remove(self, run: int) -> bool:
        """Whether it waited here."""
        self._urgent.pop(run, None)
        return self._waiting.pop(run, None) is not None

    def withdraw(self) -> tuple[int, ...]:
        """Take everything out."""
        runs = tuple(self._waiting)
        self._waiting.clear()
        self._urgent.clear()
        return runs

    def expire(self, mono_ms: int) -> tuple[int, ...]:
        """Take out what has waited for too long."""
        late = []
        for run, (_, since_ms) in self._waiting.items():
            if mono_ms < since_ms + BACKLOG_WAIT_MS_MAX:
                break
            late.append(run)
        for run in late:
            self.remove(run)
        return tuple(late)

    def deadline_ms(self) -> int | None:
        """When expire has something to do; None when nothing waits."""
        for _, since_ms in self._waiting.values():
            return since_ms + BACKLOG_WAIT_MS_MAX
        return None
