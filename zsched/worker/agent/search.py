"""The agent's search for its scheduler among several: which one to ask, and when. Pure.

The one that answered last is asked first, then the others, one after the other. A delay comes only after a round in
which all have failed. A session that is silent is kept until another scheduler takes the worker: during an outage of
the database no scheduler answers, and afterwards the old one may go on.
"""

from __future__ import annotations

from typing import Final

from zsched.model.limits import ROUND_GAP_MS_MAX
from zsched.worker.agent.pace import GrowingDelay

# Without `registered` for this long after connecting, ask again: the scheduler may have another port now, or another
# scheduler of the list may be the active one.
_JOIN_MS: Final = 5_000


class Search:
    """`index`: the scheduler in use, or the one to ask next. `at_ms`: when to ask it, while the worker seeks one."""

    def __init__(self, count: int, name: str, now_ms: int) -> None:
        """`count`: the number of schedulers. `name` decides the jitter of the delays."""
        self.index = 0
        self.at_ms = now_ms
        self._count = count
        self._delay = GrowingDelay(name)
        # Those that failed in this round, and those of them that refuse this worker for good.
        self._failed: set[int] = set()
        self._refusing: set[int] = set()
        # The scheduler `index` has accepted this worker, which has not registered yet.
        self.joining = False
        # The scheduler of the session while that is silent and the others are asked.
        self.left: int | None = None
        # There is a session, and it is not silent.
        self._settled = False

    def seeks(self, now_ms: int, *, registered: bool, silent: bool) -> bool:
        """Whether the worker needs another scheduler, by the state of its session. Call it in each turn."""
        settled = registered and not (silent and self._count > 1)
        if settled and not self._settled:
            if self.left is not None:
                self.index = self.left
            self.joining, self.left = False, None
            self._begin_round()
            self._delay.reset()
            self.at_ms = now_ms
        self._settled = settled
        if settled:
            return False
        if not registered:
            self.left = None
        elif self.left is None:
            self.left = self.index
            self.on_failed(now_ms)
        return True

    def on_enrolled(self, index: int, now_ms: int) -> None:
        """That scheduler accepts this worker, which connects to it."""
        self.index = index
        self._refusing.clear()
        self.joining = True
        self.at_ms = now_ms + _JOIN_MS

    def on_connected(self, index: int) -> None:
        """The worker is connected to that scheduler, and registers there."""
        if self.left is None:
            self.index = index

    def on_moved(self, index: int, now_ms: int) -> None:
        """The worker is connected to that scheduler, and leaves the silent one."""
        self.left = None
        self.index = index
        self.joining = True
        self._begin_round()
        self.at_ms = now_ms + _JOIN_MS

    def on_refused(self, now_ms: int) -> bool:
        """The scheduler `index` refuses this worker for good. Returns whether all of them do."""
        self._refusing.add(self.index)
        if len(self._refusing) == self._count:
            return True
        self.on_failed(now_ms)
        return False

    def on_name_taken(self, now_ms: int) -> None:
        """Another worker may have the name: asking each second tells soon whether it is alive."""
        self._delay.reset()
        self.on_failed(now_ms)

    def on_failed(self, now_ms: int, following: int | None = None) -> None:
        """The scheduler `index` does not take this worker now. `following`: the one to ask next, if it is left."""
        self.joining = False
        self._failed.add(self.index)
        order = [(self.index + step) % self._count for step in range(1, self._count)]
        rest = [index for index in order if index not in self._failed]
        if rest:
            self.index = following if following in rest else rest[0]
            self.at_ms = now_ms
            return
        gap_ms = self._delay.next_ms()
        # With several schedulers, one of them may take over at any moment.
        self.at_ms = now_ms + (gap_ms if self._count == 1 else min(gap_ms, ROUND_GAP_MS_MAX))
        self._begin_round()
        self.index = next((index for index in order if index != self.left), self.index)

    def fit(self, timeout_ms: int) -> None:
        """The scheduler gives this worker up after `timeout_ms`: ask more often than that."""
        self._delay.fit(timeout_ms)

    def _begin_round(self) -> None:
        self._failed = set() if self.left is None else {self.left}
        self._refusing.clear()
