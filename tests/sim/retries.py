"""Judges retries: which failures are tried again, by what the client asked for, and on which worker. Part of the judge.

It reads `retry_on` as docs/rest.md describes it, and never asks zsched what it means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tests.sim.callers import Asked
from tests.sim.scheduler import Scheduler
from tests.sim.timeline import Timeline
from tests.sim.violation import Violation
from zsched.model.limits import AVOID_MS, JUMP_MS, TICK_MS_MAX
from zsched.scheduler.dispatcher.session import Session

# Which ends of a run each `retry_on` of callers.RETRY_ON means: a reason, and exit codes or signals.
_MEANING: Final[Mapping[tuple[str, ...], tuple[tuple[str, range | None], ...]]] = {
    ("7",): (("exit", range(7, 8)),),
    ("2-9", "timeout"): (("exit", range(2, 10)), ("timeout", None)),
    ("exit",): (("exit", None),),
    ("TERM", "spawn_error"): (("signal", range(15, 16)), ("spawn_error", None)),
    ("signal", "reported", "1"): (("signal", None), ("reported", None), ("exit", range(1, 2))),
}
_HELD: Final = "SELECT count(*) FROM runs WHERE worker_id = ? AND status = 'running'"
_END: Final = """
    SELECT j.name, r.reason, r.exit_code, r.signal FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id = ?"""


# Retries of no paused queue that prefer another worker and whose pause is over, and until when they do.
_AVOIDING: Final = """
    SELECT run_id, avoids, due_ms, wish LIKE '%probation":_%' AND wish NOT LIKE '%probation":false%', queue
    FROM runs r JOIN demands USING (demand_id) JOIN jobs j ON j.job_id = r.job_id
    WHERE r.status = 'pending' AND blocked & 91 = 16
        AND coalesce(queue, 'default') NOT IN (SELECT queue FROM queues WHERE paused_ms IS NOT NULL)"""
_CARELESS: Final = """
    SELECT run_id FROM runs WHERE status = 'pending' AND avoids IS NOT NULL AND blocked & 18 = 2"""
_FREE: Final = "SELECT run_id FROM runs WHERE status = 'pending' AND avoids IS NOT NULL AND blocked & 16 = 0"
_GIVEN: Final = """
    SELECT worker_id, avoids, probation, queue FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE run_id = ?"""

# What a turn reads as the time, and when its effects are judged, is no further apart.
_LATE_MS: Final = TICK_MS_MAX + 1_000


class Retries:
    """`asked`: what the client asked for, by the name of the job."""

    def __init__(self, timeline: Timeline, scheduler: Scheduler, asked: Mapping[str, Asked]) -> None:
        self._timeline = timeline
        self._scheduler = scheduler
        self._asked = asked
        # When each retry was first seen to prefer another worker, on the timeline; and since when one that still does
        # has no other worker, or should do so no more.
        self._seen_ms: dict[int, int] = {}
        # Those that any worker may have.
        self._free: set[int] = set()
        self._stuck_ms: dict[int, int] = {}

    def wants(self, run: int) -> bool:
        """Whether the job of a run that has failed by itself wants a retry of such a failure."""
        name, reason, exit_code, signal = self._scheduler.engine.look(_END, run)[0]
        retry_on = self._asked[name].policy.retry_on
        if not retry_on:
            return True
        number = signal if reason == "signal" else exit_code
        return any(meant == reason and (of is None or number in of) for meant, of in _MEANING[retry_on])

    def check(self, given: Iterable[int]) -> None:
        """`given`: runs that have just become running. A retry is given to the worker on which its task has failed only
        if no other one has room, or it has waited for one for long enough.
        """
        for run in given:
            worker, avoids, probation, queue = self._scheduler.engine.look(_GIVEN, run)[0]
            seen_ms = self._seen_ms.pop(run, self._timeline.now_ms)
            if worker != avoids:
                self._free.add(run)
            # What the clock did while no scheduler ran, nobody has seen.
            over = self._timeline.now_ms - seen_ms >= AVOID_MS - JUMP_MS or self._scheduler.started_ms > seen_ms
            if run in self._free or probation or over:
                continue
            if roomy := self._roomy(avoids, queue):
                raise Violation(f"run {run} is tried again on {worker}, though {', '.join(roomy)} has room")

    def _takers(self, avoids: str, queue: str | None) -> list[Session]:
        """The workers that take runs of a queue now, but for one. None: the queue `default`."""
        sessions = self._scheduler.dispatcher._sessions
        now_ms = self._scheduler.clock.now().mono_ms
        return [
            session
            for session in sessions
            if session.name != avoids
            and _serves(session, queue)
            and session.window
            and not session.withheld
            and not session.leaving
            and session.paused_until_ms <= now_ms
        ]

    def _roomy(self, avoids: str, queue: str | None) -> list[str]:
        """Those of them that could start a further run."""
        look = self._scheduler.engine.look
        return [
            other.name
            for other in self._takers(avoids, queue)
            if look(_HELD, other.name)[0][0] < min(other.worker.slots, other.window)
        ]

    def after_turn(self) -> None:
        """A retry prefers another worker for a bounded time, and only while there is another one without room."""
        if not self._scheduler.up or not self._scheduler.stored or self._scheduler.engine.refusing:
            self._stuck_ms.clear()
            return
        now_ms, wall_ms = self._timeline.now_ms, self._scheduler.clock.now().wall_ms
        before, self._stuck_ms = self._stuck_ms, {}
        for (run,) in self._scheduler.engine.look(_CARELESS):
            raise Violation(f"run {run} waits for its retry, and will take any worker then")
        self._free.update(run for (run,) in self._scheduler.engine.look(_FREE))
        for run, avoids, due_ms, suspect, queue in self._scheduler.engine.look(_AVOIDING):
            self._seen_ms.setdefault(run, now_ms)
            polls = any(
                session.polls and session.name != avoids and _serves(session, queue)
                for session in self._scheduler.dispatcher._sessions
            )
            another = polls or self._takers(avoids, queue)
            if due_ms is not None and due_ms > wall_ms and another and (suspect or not self._roomy(avoids, queue)):
                continue
            since_ms = self._stuck_ms[run] = before.get(run, now_ms)
            still_ms = sum(max(0, min(end, now_ms) - max(start, since_ms)) for start, end in self._scheduler.still)
            if now_ms - since_ms - still_ms > _LATE_MS:
                raise Violation(
                    f"run {run} waits for another worker than {avoids} since {now_ms - since_ms} ms in vain"
                )


def _serves(session: Session, queue: str | None) -> bool:
    return not {queue or "default", "*"}.isdisjoint(session.worker.queues)
