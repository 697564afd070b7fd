"""Judges jobs that wait for others: none starts before those have ended as it needs, and none waits in vain. Part of
the judge.

It knows what the client asked for, and how the runs of jobs ended. It never asks the store what a job waits for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from tests.sim.callers import Asked
from tests.sim.scheduler import Scheduler
from tests.sim.timeline import Timeline
from tests.sim.violation import Violation
from tests.sim.witness import Witness
from zsched.model.limits import TICK_MS_MAX

if TYPE_CHECKING:
    from tests.sim.judge import Row

# What a turn reads as the time, and when its effects are judged, is no further apart.
_LATE_MS: Final = TICK_MS_MAX + 1_000
# Failures without a start, written by hand.
_NEVER_RAN: Final = ("dependency", "expired", "quarantined")


class Dependencies:
    """`asked`: what the client asked for, by the name of the job. `removed`: jobs that retention has removed."""

    def __init__(
        self,
        timeline: Timeline,
        scheduler: Scheduler,
        witness: Witness,
        asked: Mapping[str, Asked],
        removed: Collection[int],
    ) -> None:
        self._timeline = timeline
        self._scheduler = scheduler
        self._witness = witness
        self._asked = asked
        self._removed = removed
        # The number of each job by its name, and what each waits for: parents by their numbers, with the end it needs.
        self._numbers: dict[str, int] = {}
        self._waits: dict[int, dict[int, str]] = {}
        # The last run of each job.
        self._last: dict[int, Row] = {}
        # Those parents of each job that were seen to end as it needs, since it was submitted or run again; and those
        # that were seen to end otherwise.
        self._met: defaultdict[int, set[int]] = defaultdict(set)
        self._unmet: defaultdict[int, set[int]] = defaultdict(set)
        # Since when, and since how many turns, a job could start, or end, and does not.
        self._late: dict[int, tuple[int, int]] = {}

    def picture(self) -> Any:
        return dict(self._numbers), dict(self._last), _copied(self._met), _copied(self._unmet)

    def on_restored(self, picture: Any) -> None:
        numbers, last, met, unmet = picture
        self._numbers, self._last = dict(numbers), dict(last)
        self._met, self._unmet = _copied(met), _copied(unmet)
        self._waits.clear()
        self._late.clear()

    def parents(self, job: int) -> Iterable[int]:
        return self._waits.get(job, ())

    def check(self, changed: Iterable[Row], made: Mapping[int, str | None], given: Collection[int]) -> None:
        """After a turn. `made`: why each run was made; `given`: runs that have just become running."""
        changed = sorted(changed)
        self._learn()
        for row in changed:
            known = self._last.get(row.job)
            if known is not None and known.run > row.run:
                continue
            if made[row.run] in (None, "rerun") and (known is None or known.run != row.run):
                self._met.pop(row.job, None)
                self._unmet.pop(row.job, None)
            self._last[row.job] = row
        touched = {row.job for row in changed}
        for job, waits in self._waits.items():
            if job in self._last and (job in touched or not self._last[job].final):
                self._look(job, waits)
        for row in changed:
            self._check_row(row, row.run in given)
        self._check_removed()

    def _learn(self) -> None:
        """Read which job has which number. A job that waits for a removed one waits for nobody by that name."""
        for name, job, stored in self._scheduler.engine.look("SELECT name, job_id, after_jobs FROM jobs"):
            self._numbers[name] = job
            one = self._asked[name]
            if job in self._waits or not one.after:
                continue
            self._waits[job] = {self._numbers[parent]: ends for parent, ends in one.after}
            expected = " ".join(
                str(parent) if ends == "ok" else f"{parent}:{ends}" for parent, ends in self._waits[job].items()
            )
            if stored != expected:
                raise Violation(f"job {job} waits for {stored}, but was asked to wait for {expected}")

    def _end(self, job: int) -> str | None:
        """How a job has ended: success, failed, cancelled, or never (it failed without a start). None: it has not."""
        row = self._last[job]
        if not row.final:
            return None
        return "never" if row.status == "failed" and row.reason in _NEVER_RAN else row.status

    def _look(self, job: int, waits: Mapping[int, str]) -> None:
        for parent, ends in waits.items():
            if parent in self._removed:
                self._met[job].add(parent)
            elif (end := self._end(parent)) is not None:
                meets = ends == "any" or end == {"ok": "success", "failed": "failed"}[ends]
                (self._met if meets else self._unmet)[job].add(parent)

    def _check_row(self, row: Row, given: bool) -> None:
        waits = self._waits.get(row.job, {})
        if given and (missing := waits.keys() - self._met[row.job]):
            raise Violation(f"run {row.run} of job {row.job} is given out, but jobs {sorted(missing)} come first")
        if row.reason != "dependency":
            return
        if not self._unmet[row.job]:
            raise Violation(f"run {row.run} failed by a dependency, but none of the jobs {sorted(waits)} ended so")
        if row.started or row.run in self._witness.lives:
            raise Violation(f"run {row.run} failed by a dependency, but has started")

    def _check_removed(self) -> None:
        """A job stays while another one that waits for it, or has waited, lives."""
        for job, waits in self._waits.items():
            if job in self._removed or job not in self._last or self._last[job].final:
                continue
            # What was removed before it ran again does not count.
            for parent in waits.keys() & self._removed:
                if parent not in self._met[job]:
                    raise Violation(f"job {parent} is removed, but job {job} waits for it")

    def on_start(self, job: int, run: int) -> None:
        """By the witness: a process starts only when another one of each job that has to succeed has done so."""
        for parent, ends in self._waits.get(job, {}).items():
            if ends != "ok" or parent in self._removed:
                continue
            codes = [life.code for life in self._witness.lives.values() if life.job == parent]
            if 0 not in codes:
                raise Violation(f"run {run} of job {job} starts, but the processes of job {parent} ended {codes}")

    def after_turn(self) -> None:
        """A job that may start is free to, and one that can't any more ends, within a turn or two."""
        if not self._scheduler.up or not self._scheduler.stored or self._scheduler.engine.refusing:
            self._late.clear()
            return
        now_ms = self._timeline.now_ms
        before, self._late = self._late, {}
        look = self._scheduler.engine.look
        # Each turn judges some, and forgets as many.
        turns_max = 10 + 3 * sum(map(len, self._waits.values())) // self._scheduler.habits.judge_max
        for run, job, waits in look("SELECT run_id, job_id, blocked & 32 FROM runs WHERE status = 'pending'"):
            parents = self._waits.get(job, {})
            ends = [None if parent in self._removed else self._end(parent) for parent in parents]
            met = self._met[job]
            free = all(end is not None or parent in self._removed for end, parent in zip(ends, parents, strict=True))
            stuck = bool(waits) and free
            if not waits and (missing := parents.keys() - met):
                raise Violation(f"run {run} of job {job} is free, but jobs {sorted(missing)} come first")
            if not stuck:
                continue
            since_ms, turns = before.get(run, (now_ms, 0))
            self._late[run] = since_ms, turns + 1
            still_ms = sum(max(0, min(end, now_ms) - max(start, since_ms)) for start, end in self._scheduler.still)
            if now_ms - since_ms - still_ms > _LATE_MS and turns > turns_max:
                raise Violation(f"run {run} of job {job} waits, but the jobs {sorted(parents)} have ended")


def _copied(sets: Mapping[int, set[int]]) -> defaultdict[int, set[int]]:
    return defaultdict(set, {job: set(jobs) for job, jobs in sets.items()})
