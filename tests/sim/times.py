"""Judges start times and deadlines of jobs: no run starts before the one or after the other. Part of the judge.

It knows what the client asked for and what the scheduler's clock shows; it never asks the dispatcher what is due.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from tests.sim.callers import Asked
from tests.sim.scheduler import Scheduler
from tests.sim.timeline import Timeline
from tests.sim.violation import Violation
from zsched.model.limits import JUMP_MS, TICK_MS_MAX

# What a turn reads as the time, and when its effects are judged, is no further apart.
_LATE_MS: Final = TICK_MS_MAX + 1_000

# Longer than a job waits for its date in an ordinary seed.
_FAR_MS: Final = 120_000

_CLAIM: Final = """
    SELECT j.name, r.claimed_ms, r.finished_ms FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id = ?"""
_DEADLINES: Final = """
    SELECT run_id, jobs.deadline_ms FROM runs JOIN jobs USING (job_id)
    WHERE runs.status = 'pending' AND jobs.deadline_ms IS NOT NULL"""


class Times:
    """`asked`: what the client asked for, by the name of the job."""

    def __init__(self, timeline: Timeline, scheduler: Scheduler, asked: Mapping[str, Asked]) -> None:
        self._timeline = timeline
        self._scheduler = scheduler
        self._asked = asked
        # When each first run of a task was first seen, on the timeline; the latest time that the scheduler's clock has
        # shown since then, until the run is given out; and since when the deadline of a pending run is over.
        self._seen_ms: dict[int, int] = {}
        self._latest_ms: dict[int, int] = {}
        self._overdue_ms: dict[int, int] = {}

    def check(self, first: Iterable[int], given: Iterable[int], expired: Iterable[int]) -> None:
        """`first`: pending runs that follow no other; `given`: runs that have just become running; `expired`: those
        that have just expired.
        """
        for run in first:
            # A run that comes back unstarted has waited already.
            if run not in self._seen_ms:
                self._seen_ms[run], self._latest_ms[run] = self._timeline.now_ms, 0
        for run in given:
            self._check_start(run)
        for run in expired:
            self._check_expired(run)

    def on_put_back(self, run: int) -> None:
        """A run comes back unstarted, so it has waited: also when it was given out since the last look."""
        self._seen_ms.setdefault(run, self._timeline.now_ms)
        self._latest_ms.pop(run, None)

    def waits(self, job: int) -> bool:
        """Whether a job waits for a date that a jump of the clock has put far away."""
        found = self._scheduler.engine.look("SELECT run_at_ms FROM jobs WHERE job_id = ?", job)
        wall_ms = self._scheduler.clock.now().wall_ms
        return any(run_at_ms is not None and run_at_ms > wall_ms + _FAR_MS for (run_at_ms,) in found)

    def _check_start(self, run: int) -> None:
        """A run is given to a worker within its times, by the scheduler's clock; a delay is a span of time."""
        name, claimed_ms, _ = self._scheduler.engine.look(_CLAIM, run)[0]
        times = self._asked[name].times
        if claimed_ms >= times.get("deadline_ms", claimed_ms + 1):
            raise Violation(f"run {run} is given out {claimed_ms - times['deadline_ms']} ms after its deadline")
        if run not in self._latest_ms:
            return
        if max(claimed_ms, self._latest_ms.pop(run)) < times.get("run_at_ms", 0):
            raise Violation(f"run {run} is given out {times['run_at_ms'] - claimed_ms} ms before its start time")
        seen_ms = self._seen_ms[run]
        waited_ms = self._timeline.now_ms - seen_ms
        # What the clock did while no scheduler ran, nobody has seen.
        known = self._scheduler.started_ms <= seen_ms
        if known and waited_ms < times.get("delay_ms", 0) - JUMP_MS - _LATE_MS:
            raise Violation(f"run {run} has waited {waited_ms} ms of its delay of {times['delay_ms']} ms")

    def _check_expired(self, run: int) -> None:
        """Only a run with a deadline expires, and not before it."""
        name, _, finished_ms = self._scheduler.engine.look(_CLAIM, run)[0]
        deadline_ms = self._asked[name].times.get("deadline_ms")
        if deadline_ms is None or finished_ms < deadline_ms:
            raise Violation(f"run {run} has expired at {finished_ms} ms, but its deadline is {deadline_ms}")

    def after_turn(self) -> None:
        """A run that has not started at its deadline ends then, whether or not a worker is there."""
        now_ms, wall_ms = self._timeline.now_ms, self._scheduler.clock.now().wall_ms
        # Also when the turn failed: a part of it may have been stored by itself.
        self._latest_ms = {run: max(latest_ms, wall_ms) for run, latest_ms in self._latest_ms.items()}
        if not self._scheduler.up or not self._scheduler.stored or self._scheduler.engine.refusing:
            self._overdue_ms.clear()
            return
        before, self._overdue_ms = self._overdue_ms, {}
        for run, deadline_ms in self._scheduler.engine.look(_DEADLINES):
            if deadline_ms >= wall_ms - _LATE_MS:
                continue
            since_ms = self._overdue_ms[run] = before.get(run, now_ms)
            still_ms = sum(max(0, min(end, now_ms) - max(start, since_ms)) for start, end in self._scheduler.still)
            if now_ms - since_ms - still_ms > _LATE_MS:
                raise Violation(f"run {run} is pending {now_ms - since_ms} ms after its deadline")
