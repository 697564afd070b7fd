"""Pauses for workers that give back what they were handed, again and again.

Each claim and each return leaves an event, so a worker that only takes and returns runs would fill the database, and
keep the runs from others. A worker returns runs for good reasons too: a long run keeps the next ones waiting, the host
can start no process, the worker ends. These are some hundred now and then, and the worker asks for fewer afterwards.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from zsched.model.limits import RETURNS_MAX, RETURNS_PAUSE_MS, RETURNS_PAUSE_MS_MAX, SESSIONS_MAX
from zsched.model.types import WorkerId
from zsched.model.units import counted

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Returned:
    """Runs that a worker has given back since a moment, the end of its last pause, and the length of its next one."""

    since_ms: int
    runs: int = 0
    until_ms: int = 0
    pause_ms: int = RETURNS_PAUSE_MS


class Returns:
    """What each worker has given back, by name, so that a new session changes nothing. Times by the steady clock."""

    def __init__(self) -> None:
        self._workers: dict[WorkerId, _Returned] = {}

    def count(self, worker_id: WorkerId, runs: int, now_ms: int) -> None:
        """A worker gave back this many runs that it had not started, or that were lost with it."""
        if not runs:
            return
        found = self._workers.get(worker_id)
        if found is None or _is_over(found, now_ms):
            if len(self._workers) >= SESSIONS_MAX:
                self._workers = {name: one for name, one in self._workers.items() if not _is_over(one, now_ms)}
            found = self._workers[worker_id] = _Returned(now_ms)
        found.runs += runs
        if found.runs < RETURNS_MAX:
            return
        pause_ms = found.pause_ms * (found.runs // RETURNS_MAX)
        given_back = counted(found.runs, "run")
        log.warning("worker %s gave back %s: it gets no new ones for %d ms", worker_id, given_back, pause_ms)
        found.runs = 0
        found.since_ms = found.until_ms = max(found.until_ms, now_ms) + pause_ms
        found.pause_ms = min(2 * found.pause_ms, RETURNS_PAUSE_MS_MAX)

    def paused_until_ms(self, worker_id: WorkerId) -> int:
        """The end of a worker's pause; a moment in the past when it has none."""
        found = self._workers.get(worker_id)
        return found.until_ms if found is not None else 0


def _is_over(found: _Returned, now_ms: int) -> bool:
    """Whether a worker has been good for so long that the next pause is short again."""
    return now_ms - found.since_ms > RETURNS_PAUSE_MS_MAX
