"""Judges retention: what it removes has ended long ago, nothing else is missing, and no number is given out twice.

Part of the judge. It knows when each run ended by the scheduler's clock; it never asks the dispatcher what is old.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import TYPE_CHECKING, Any, Final

from tests.sim.arrays import ENDED, Arrays
from tests.sim.scheduler import Scheduler
from tests.sim.violation import Violation
from zsched.model.types import Now
from zsched.scheduler.dispatcher.retention import KEEP_ALL, Keep

if TYPE_CHECKING:
    from tests.sim.judge import Row

# The share of seeds whose scheduler removes old jobs, and how soon.
SHARE: Final = 0.4
_LIMITS_MS: Final = (2_000, 2_000, 10_000, 40_000, None)
# Fires of a recurring job that stay in any case. Written by hand.
_FIRES_KEPT: Final = 20


def habit(chance: Random) -> Keep:
    """How long a seed's scheduler keeps ended jobs."""
    if chance.random() >= SHARE:
        return KEEP_ALL
    return Keep(success_ms=chance.choice(_LIMITS_MS), others_ms=chance.choice(_LIMITS_MS))


class Removals:
    """`made`: why each run was made, by its event. `recurs`: whether a job has a schedule."""

    def __init__(
        self, scheduler: Scheduler, made: Callable[[int], str | None], recurs: Callable[[int], bool], arrays: Arrays
    ) -> None:
        self._scheduler = scheduler
        self._made = made
        self._recurs = recurs
        self._arrays = arrays
        # The runs and the jobs that are removed. The second is shared with the client.
        self.runs: set[int] = set()
        self.jobs: set[int] = set()
        # When each run ended, by the simulation's time and the scheduler's wall clock; and the highest number of a run.
        self._ended: dict[int, Now] = {}
        self._highest = 0

    def picture(self) -> tuple[Any, ...]:
        return set(self.runs), set(self.jobs), dict(self._ended)

    def on_restored(self, picture: tuple[Any, ...]) -> None:
        runs, jobs, ended = picture
        self.runs, self._ended = set(runs), dict(ended)
        self.jobs.clear()
        self.jobs.update(jobs)

    def check(self, before: Mapping[int, Row], missing: Iterable[int], changed: Iterable[Row], now_ms: int) -> None:
        """After a turn. `before`: all runs that were ever seen; `missing`: those that it has written and that the
        store does not have.
        """
        now = Now(now_ms, self._scheduler.clock.now().wall_ms)
        for row in changed:
            if row.run not in before and row.run <= self._highest:
                raise Violation(f"run {row.run} has a number that was given out before")
            if row.final:
                self._ended.setdefault(row.run, now)
        self._highest = max((self._highest, *(row.run for row in changed)))
        # An array may have had no run.
        self.jobs.update(self._arrays.gone)
        gone = [before[run] for run in missing if run in before and run not in self.runs]
        if not gone:
            return
        self.runs.update(row.run for row in gone)
        present = {job for (job,) in self._scheduler.engine.look("SELECT job_id FROM jobs")}
        of_jobs: dict[int, list[Row]] = {}
        for row in gone:
            of_jobs.setdefault(row.job, []).append(row)
        for job, rows in of_jobs.items():
            if job not in present:
                self.jobs.add(job)
            self._check_job(job, rows, [row for row in before.values() if row.job == job], now)
        self.check_totals({**before, **{row.run: row for row in changed}}.values())

    def _check_job(self, job: int, gone: list[Row], rows: list[Row], now: Now) -> None:
        """A job is removed as a whole, when it has ended and is old; of a recurring one, old fires are."""
        keep = self._scheduler.habits.keep
        for row in gone:
            if not row.final:
                raise Violation(f"run {row.run} of job {job} is removed, but was {row.status}")
        last = max(rows)
        if self._recurs(job):
            for row in gone:
                later = sum(self._made(one.run) in (None, "fire") for one in rows if one.run > row.run)
                if later < _FIRES_KEPT:
                    raise Violation(f"run {row.run} of job {job} is removed, and {later} fires follow it")
        elif job not in self.jobs or {row.run for row in rows} - self.runs:
            raise Violation(f"job {job} is removed in part: {len(gone)} of {len(rows)} runs")
        limits = {"success": keep.success_ms, "failed": keep.others_ms, "cancelled": keep.others_ms}
        if self._arrays.was_array(job):
            # An array may have ended by tasks without runs: then it was cancelled.
            known = [limit for limit in limits.values() if limit is not None]
            limits = dict.fromkeys(limits, min(known) if known else None)
            last = max(rows, key=lambda row: self._ended[row.run].mono_ms)
        for row in gone if self._recurs(job) else [last]:
            limit_ms = limits[row.status]
            ended = self._ended[row.run]
            # By the wall clock, as the store has it. If that was set back, an act on the ended job may have changed its
            # time to one that is earlier: then it is old when the limit has passed since.
            age_ms = max(now.wall_ms - ended.wall_ms, now.mono_ms - ended.mono_ms)
            if limit_ms is None or age_ms < limit_ms:
                raise Violation(f"run {row.run} of job {job} is removed {age_ms} ms after its end: {row.status}")

    def check_totals(self, rows: Iterable[Row]) -> None:
        """The scheduler counts the tasks of the runs that it has."""
        tasks: Counter[str] = Counter()
        last: dict[tuple[int, int], str] = {}
        for row in sorted(rows):
            if row.run in self.runs:
                continue
            if self._made(row.run) in ("requeued", "retry", "rerun") and (row.job, row.task) in last:
                tasks[last[row.job, row.task]] -= 1
            tasks[row.status] += 1
            last[row.job, row.task] = row.status
        for task, state in self._arrays.ranges.items():
            if task in last:
                tasks[last[task]] -= 1
            tasks[state if state in ENDED else "pending"] += 1
        totals = dict(self._scheduler.engine.look("SELECT status, tasks FROM totals"))
        if {status: count for status, count in totals.items() if count} != dict(+tasks):
            raise Violation(f"the scheduler counts {totals}, but its runs are {dict(+tasks)}")
