"""Judges jobs that wait for others: none starts before those have ended as it needs, and none waits in vain. Part of
the judge.

It knows what the client asked for, and how the runs of jobs ended. It never asks the store what a job waits for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.sim.arrays import Arrays
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
# How soon the next turn comes that goes on at once.
_GAP_MS: Final = 100
# Failures without a start, written by hand.
_NEVER_RAN: Final = ("dependency", "expired", "quarantined")
# The ends that each kind of dependency accepts, written by hand. `never`: it failed without a start.
_ACCEPTED: Final = {
    "ok": ("success",),
    "same": ("success",),
    "failed": ("failed",),
    "any": ("success", "failed", "cancelled", "never"),
}


class Wait(NamedTuple):
    """What a job waits for: another one, or a task of it, and how it has to end."""

    parent: int
    task: int | None
    ends: str

    def __str__(self) -> str:
        task = "" if self.task is None else f".{self.task}"
        return f"{self.parent}{task}{'' if self.ends == 'ok' else f':{self.ends}'}"


class Dependencies:
    """`asked`: what the client asked for, by the name of the job."""

    def __init__(
        self,
        timeline: Timeline,
        scheduler: Scheduler,
        witness: Witness,
        asked: Mapping[str, Asked],
        arrays: Arrays,
    ) -> None:
        self._timeline = timeline
        self._scheduler = scheduler
        self._witness = witness
        self._asked = asked
        self._arrays = arrays
        self._rows: Mapping[int, Row] = {}
        self._tasks: Mapping[tuple[int, int], list[int]] = {}
        # The number of each job by its name, its name, and those that the store has.
        self._numbers: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._present: set[int] = set()
        # Those that it does not have any more since the last turn.
        self._gone: set[int] = set()
        # What each job waits for.
        self._waits: dict[int, tuple[Wait, ...]] = {}
        # What each job, or task of an array, was seen to get of that since it was submitted or run again, and what was
        # seen to end otherwise. In the place of a task: -1 for what the whole job waits for.
        self._met: defaultdict[tuple[int, int], set[Wait]] = defaultdict(set)
        self._unmet: defaultdict[tuple[int, int], set[Wait]] = defaultdict(set)
        # Those that wait for the end of others.
        self._held_back: set[int] = set()
        # The jobs that it has looked at, and the tasks that had not ended when it last did.
        self._looked: set[int] = set()
        self._live: set[tuple[int, int]] = set()
        # The store's changes as of the last look: whether something was left to judge, the tasks that could start, or
        # end, and do not, and for how many turns they may do that.
        self._changes = -1
        self._has_left = False
        self._stuck: list[tuple[int, int]] = []
        self._turns_max = 0
        # When a turn has left something to judge.
        self._left_ms: int | None = None
        # Of the tasks that could start, or end: since when, and for how many turns.
        self._late: dict[tuple[int, int], tuple[int, int]] = {}

    def picture(self) -> Any:
        return dict(self._numbers), set(self._live), _copied(self._met), _copied(self._unmet)

    def on_restored(self, picture: Any) -> None:
        numbers, live, met, unmet = picture
        self._numbers, self._live = dict(numbers), set(live)
        self._names = {job: name for name, job in numbers.items()}
        self._met, self._unmet = _copied(met), _copied(unmet)
        self._waits.clear()
        self._late.clear()
        self._changes = -1
        self._present.clear()

    def present(self) -> dict[int, str]:
        """The names of the jobs that the store has, as of the last turn."""
        return {job: self._names[job] for job in self._present}

    def parents(self, job: int) -> Iterable[int]:
        return [wait.parent for wait in self._waits.get(job, ())]

    def holds_back(self, job: int) -> bool:
        """Whether an array waited for other jobs after the last turn, or was about to end because of one."""
        return job in self._held_back

    def _waits_for_others(self, job: int, waits: Iterable[Wait]) -> bool:
        return job in self._present and any(
            wait.parent in self._present and self._end(wait.parent, wait.task) not in _ACCEPTED[wait.ends]
            for wait in waits
            if wait.ends != "same"
        )

    # --- after a turn ---

    def check(
        self,
        changed: Iterable[Row],
        rows: Mapping[int, Row],
        tasks: Mapping[tuple[int, int], list[int]],
        given: Collection[int],
    ) -> None:
        """After a turn. `given`: runs that have just become running."""
        self._rows, self._tasks = rows, tasks
        self._learn()
        before, self._live = self._live, set()
        for job, waits in self._waits.items():
            if job in self._present:
                self._look(job, waits, before)
        for row in sorted(changed):
            if row.job in self._waits:
                self._check_row(row, row.run in given)
        self._held_back = {job for job, waits in self._waits.items() if self._waits_for_others(job, waits)}

    def _learn(self) -> None:
        """Read which job has which number. A job that waits for a removed one waits for nobody by that name."""
        look = self._scheduler.engine.look
        present = {job for (job,) in look("SELECT job_id FROM jobs")}
        new = [
            look("SELECT name, job_id, after_jobs FROM jobs WHERE job_id = ?", job)[0]
            for job in present - self._present
        ]
        self._present, self._gone = present, self._present - present
        for name, job, _ in new:
            self._numbers[name], self._names[job] = job, name
        for name, job, after in new:
            one = self._asked[name]
            if not one.after:
                continue
            self._waits[job] = tuple(Wait(self._numbers[parent], task, ends) for parent, task, ends in one.after)
            expected = " ".join(map(str, self._waits[job]))
            if after != expected:
                raise Violation(f"job {job} waits for {after}, but was asked to wait for {expected}")

    def _indexes(self, job: int) -> Iterable[int]:
        """The tasks of a job: 0 alone, if it is not an array."""
        return self._asked[self._names[job]].indexes or (0,)

    def _end(self, job: int, task: int | None = None) -> str | None:
        """How a job, or a task of it, has ended: success, failed, cancelled, or never (it failed without a start).
        None: it has not.
        """
        if task is None:
            ends = [self._end(job, index) for index in self._indexes(job)]
            if None in ends:
                return None
            return next(end for end in ("failed", "never", "cancelled", "success") if end in ends)
        ranges_of = self._arrays.ranges_before if job in self._gone else self._arrays.ranges_of
        state = ranges_of.get(job, {}).get(task)
        if state is not None:
            return {"cancelled": "cancelled", "failed": "never"}.get(state)
        row = self._rows[self._tasks[job, task][-1]]
        if not row.final:
            return None
        return "never" if row.status == "failed" and row.reason in _NEVER_RAN else row.status

    def _look(self, job: int, waits: Iterable[Wait], before: Collection[tuple[int, int]]) -> None:
        """Note the ends of what a job waits for, as long as it has not ended itself."""
        live = {index for index in self._indexes(job) if self._end(job, index) is None}
        was = {index for index in self._indexes(job) if (job, index) in before}
        self._live.update((job, index) for index in live)
        if not live and not was and job in self._looked:
            return
        is_new = job not in self._looked
        self._looked.add(job)
        # It is new, or runs again.
        for index in [*(live - was), *([] if was else [-1])]:
            self._met.pop((job, index), None)
            self._unmet.pop((job, index), None)
        for wait in waits:
            if live and was and wait.parent in self._gone:
                raise Violation(f"job {wait.parent} is removed, but job {job} waits for it")
            for index in live | was if wait.ends == "same" else (-1,):
                self._note(job, index, wait, is_new=is_new)
        for index in was - live:
            if self._arrays.ranges_of.get(job, {}).get(index) == "failed" and not (
                self._unmet[job, -1] or self._unmet[job, index]
            ):
                raise Violation(f"task {index} of job {job} failed by a dependency, but all of these ended well")

    def _note(self, job: int, index: int, wait: Wait, *, is_new: bool) -> None:
        """A new job has seen how a job ended that the same turn removes. One that runs again may have, or not."""
        gone = wait.parent in self._gone
        if wait.parent not in self._present and not (gone and is_new):
            self._met[job, index].add(wait)
        if not gone and wait.parent not in self._present:
            return
        if (end := self._end(wait.parent, index if wait.ends == "same" else wait.task)) is not None:
            (self._met if end in _ACCEPTED[wait.ends] else self._unmet)[job, index].add(wait)

    def _missing(self, job: int, task: int) -> list[str]:
        """What a task needs and has not got."""
        return [
            str(wait)
            for wait in self._waits.get(job, ())
            if wait not in self._met[job, task if wait.ends == "same" else -1]
        ]

    def _check_row(self, row: Row, given: bool) -> None:
        if given and (missing := self._missing(row.job, row.task)):
            raise Violation(f"run {row.run} of job {row.job} is given out, but {', '.join(missing)} come first")
        if row.reason == "dependency" and (row.started or row.run in self._witness.lives):
            raise Violation(f"run {row.run} failed by a dependency, but has started")
        if row.reason == "dependency" and not self._unmet[row.job, -1]:
            raise Violation(f"run {row.run} failed by a dependency, but all that it waits for ended well")

    # --- by the witness ---

    def on_start(self, job: int, run: int) -> None:
        """A process starts only when another one of each task that has to succeed has done so."""
        row = self._rows.get(run)
        for wait in self._waits.get(job, ()):
            if wait.ends not in ("ok", "same") or wait.parent not in self._present or row is None:
                continue
            needed = {row.task} if wait.ends == "same" else {wait.task}
            if needed == {None}:
                needed = set(self._indexes(wait.parent))
            lives = [life for life in self._witness.lives.values() if life.job == wait.parent and life.code == 0]
            good = {self._rows[life.run].task for life in lives if life.run in self._rows}
            if needed - good:
                raise Violation(f"run {run} of job {job} starts, but {wait} has not succeeded: {sorted(good)} have")

    # --- nothing waits in vain ---

    def after_turn(self) -> None:
        """What may start is free to, and what can't any more ends, within a turn or two."""
        if not self._scheduler.up or not self._scheduler.stored or self._scheduler.engine.refusing:
            self._late.clear()
            self._left_ms = None
            return
        if (changes := self._scheduler.engine.changes()) != self._changes:
            self._look_again()
            self._changes = changes
        self._check_goes_on()
        now_ms = self._timeline.now_ms
        before, self._late = self._late, {}
        for job, task in self._stuck:
            since_ms, turns = before.get((job, task), (now_ms, 0))
            self._late[job, task] = since_ms, turns + 1
            still_ms = sum(max(0, min(end, now_ms) - max(start, since_ms)) for start, end in self._scheduler.still)
            if now_ms - since_ms - still_ms > _LATE_MS and turns > self._turns_max:
                raise Violation(f"task {task} of job {job} waits, but {self._told(job)} have ended")

    def _look_again(self) -> None:
        """The store has changed: read all that `after_turn` judges by."""
        self._has_left = bool(self._scheduler.engine.look("SELECT 1 FROM settled LIMIT 1"))
        blocked = self._check_free()
        # Each turn judges some, and forgets as many. Tasks that end are judged once for each job that follows.
        count = sum(len(waits) * len(list(self._indexes(job))) for job, waits in self._waits.items())
        self._turns_max = 10 + 6 * count // self._scheduler.habits.judge_max
        self._stuck = [(job, task) for job, task in self._live if self._is_stuck(job, task, blocked)]

    def _check_goes_on(self) -> None:
        """A turn that has left something to judge is followed by the next one at once."""
        scheduler, now_ms, left_ms = self._scheduler, self._timeline.now_ms, self._left_ms
        self._left_ms = now_ms if self._has_left else None
        if left_ms is None or left_ms <= max(scheduler.started_ms, scheduler.slow_ms, scheduler.failed_ms):
            return
        still_ms = sum(max(0, min(end, now_ms) - max(start, left_ms)) for start, end in scheduler.still)
        if now_ms - left_ms - still_ms > _GAP_MS:
            raise Violation(f"the turn at {left_ms} ms has left something to judge, and the next one comes {now_ms} ms")

    def _check_free(self) -> set[tuple[int, int]]:
        """No run is free before it has what it needs. Returns the tasks of runs that wait for other jobs."""
        blocked = set()
        for run, job, waits in self._scheduler.engine.look(
            "SELECT run_id, job_id, blocked & 32 FROM runs WHERE status = 'pending'"
        ):
            if job not in self._waits:
                continue
            task = self._rows[run].task
            if waits:
                blocked.add((job, task))
            elif missing := self._missing(job, task):
                raise Violation(f"run {run} of job {job} is free, but {', '.join(missing)} come first")
        return blocked

    def _is_stuck(self, job: int, task: int, blocked: Collection[tuple[int, int]]) -> bool:
        """Whether a task still waits, though all that it waits for has ended, or one has ended otherwise."""
        state = self._arrays.ranges_of.get(job, {}).get(task)
        waits = [wait for wait in self._waits[job] if wait.parent in self._present]
        whole = [wait for wait in waits if wait.ends != "same"]
        same = [wait for wait in waits if wait.ends == "same"]
        ends = [(self._end(wait.parent, wait.task), wait) for wait in whole]
        # An end after one that was right does not count.
        met = self._met[job, -1]
        failed = any(end not in (None, *_ACCEPTED[wait.ends]) and wait not in met for end, wait in ends)
        if (job, task) in blocked:
            return failed or all(end is not None for end, _ in ends)
        if state is None or failed:
            return state is not None
        if state != "waits":
            return False
        others = [self._end(wait.parent, task) for wait in same]
        return None not in others or any(end not in (None, "success") for end in others)

    def _told(self, job: int) -> str:
        return ", ".join(map(str, self._waits[job]))


def _copied(sets: Mapping[tuple[int, int], set[Wait]]) -> defaultdict[tuple[int, int], set[Wait]]:
    return defaultdict(set, {key: set(waits) for key, waits in sets.items()})
