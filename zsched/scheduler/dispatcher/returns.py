"""Pauses for workers that give back what they were sent, again and again.

Each claim and each return leaves an event, so a worker that only takes and returns runs would fill the database, and
keep the runs from others. A worker also returns runs for good reasons: a long run keeps the next ones waiting, the host
can start no process, the worker ends. These are some hundred now and then, and the worker asks for fewer afterwards.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from zsched import protocol
from zsched.model.limits import RETURNS_MAX, RETURNS_PAUSE_MS, RETURNS_PAUSE_MS_MAX, SESSIONS_MAX
from zsched.model.types import Now, Reason, RunId, WorkerId
from zsched.scheduler.dispatcher.session import Session
from zsched.store.contract import Store

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

    def on_return(self, store: Store, session: Session, frame: protocol.Return, now: Now) -> None:
        """A worker gives back runs that it has not started: they are pending again."""
        returned = 0
        for run_id in frame.runs:
            returned += store.requeue_unstarted(RunId(run_id), session.name, Reason.RETURNED, now.wall_ms)
            session.suspects.pop(RunId(run_id), None)
        self.give_back(session, returned, now)

    def give_back(self, session: Session, runs: int, now: Now) -> None:
        """Count runs that a worker did not keep. When they are many, its session gets none for a while."""
        self.count(session.name, runs, now.mono_ms)
        session.paused_until_ms = self.paused_until_ms(session.name)

    def count(self, worker_id: WorkerId, runs: int, now_ms: int) -> None:
        """A worker gave back this many runs that it had not started, or that were lost with it."""
        if not runs:
            return
        returned = self._workers.get(worker_id)
        if returned is None or _is_over(returned, now_ms):
            if len(self._workers) >= SESSIONS_MAX:
                self._workers = {name: each for name, each in self._workers.items() if not _is_over(each, now_ms)}
            returned = self._workers[worker_id] = _Returned(now_ms)
        returned.runs += runs
        if returned.runs < RETURNS_MAX:
            return
        pause_ms = returned.pause_ms * (returned.runs // RETURNS_MAX)
        log.warning("worker %s gave back %d runs: it gets no new ones for %d ms", worker_id, returned.runs, pause_ms)
        returned.runs = 0
        returned.since_ms = returned.until_ms = max(returned.until_ms, now_ms) + pause_ms
        returned.pause_ms = min(2 * returned.pause_ms, RETURNS_PAUSE_MS_MAX)

    def paused_until_ms(self, worker_id: WorkerId) -> int:
        """The end of a worker's pause; a moment in the past when it has none."""
        returned = self._workers.get(worker_id)
        return returned.until_ms if returned is not None else 0


def _is_over(returned: _Returned, now_ms: int) -> bool:
    """Whether a worker has kept its runs for so long that the next pause is short again."""
    return now_ms - returned.since_ms > RETURNS_PAUSE_MS_MAX
