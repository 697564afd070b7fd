"""Tasks for which others wait: `12.3` waits for one of them; with `12:same` each task of an array waits for the task of
another array that has the same index. Part of the write side (see core.py).

Tasks of an array that wait are ranges in the state `waits`, so nothing is stored for each of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from zsched.model.after import Ends, meets
from zsched.model.arrays import TaskArray, read_array
from zsched.model.lifecycle import TERMINAL, Cause
from zsched.model.types import JobId, Reason, RunStatus
from zsched.store import after, array_sql, ranges, transitions
from zsched.store.engine import Row
from zsched.store.lives import PENDING, Change, Moved
from zsched.store.reruns import RerunsWriter
from zsched.store.tasks import ALL, Part

# In the place of a task: the whole job.
WHOLE: Final = -1
# Failures without a start.
NEVER_RAN: Final = frozenset({Reason.DEPENDENCY, Reason.EXPIRED, Reason.QUARANTINED})
# Indexes of tasks between which ranges are read in one statement.
_NEAR: Final = 100
_HOW: Final = {RunStatus.SUCCESS: "succeeded", RunStatus.FAILED: "failed", RunStatus.CANCELLED: "was cancelled"}


class End(NamedTuple):
    """How a job or a task has ended. `ran`: not so if it failed without a start."""

    status: RunStatus
    ran: bool = True


def why_unmet(job_id: int, task: int | None, end: End, ends: Ends) -> str:
    """Why the end of a job, or of a task of it, is not what another one waits for; empty if it is."""
    if meets(ends, end.status, ran=end.ran):
        return ""
    named = f"job {job_id}" if task is None else f"task {task} of job {job_id}"
    if ends is Ends.SAME:
        named = f"the same task of job {job_id}"
    needed = "failure" if ends is Ends.FAILED else "success"
    how = _HOW[end.status] if end.ran else "never started"
    return f"it needs the {needed} of {named}, which {how}"


class FollowersWriter(RerunsWriter):
    """The part of the role contract.Dependencies that is about single tasks."""

    # The jobs with tasks for which others wait, and perhaps some more; None: they are to be read.
    _watched: set[JobId] | None = None

    def _watching(self) -> set[JobId]:
        if self._watched is None:
            self._watched = {JobId(job_id) for (job_id,) in self._execute(after.WATCHED)}
        return self._watched

    def _forget(self) -> None:
        super()._forget()
        self._watched = None

    # --- tasks end ---

    def _settle(self, ended: Iterable[Moved]) -> None:
        if not (watched := self._watching()):
            return
        if runs := [(each.run_id,) for each in ended if each.job_id in watched]:
            tasks = dict.fromkeys(self._engine.execute_list(after.TASKS_OF_RUNS, runs))
            self._engine.sendmany(after.SETTLE_TASKS, [(job_id, task, task) for job_id, task in tasks])
            self._ledger.settling = True

    def _settle_part(self, job_id: JobId, part: Part) -> None:
        if job_id in self._watching():
            self._engine.send(after.SETTLE_TASKS, (job_id, *part), rows=1)
            self._ledger.settling = True

    def _judge_tasks(self, job_id: JobId, parts: Sequence[Row], most: int, now_ms: int) -> int:
        """Judge the dependencies on some tasks of a job, of which some have ended. Returns about how many it was."""
        array = self._task_array(job_id)
        if array is None:
            self._engine.execute_list(after.UNSETTLE, [(job_id,)])
            return 0
        followers = [JobId(child_id) for (child_id,) in self._execute(after.FOLLOWERS, (job_id,))]
        # Each task may change ranges of each follower.
        count = max(1, most // max(1, len(followers)))
        looked: list[int] = []
        for first, last in parts:
            looked += array.take(max(first, (looked[-1] + 1) if looked else 0), last, count - len(looked))
            if len(looked) >= count:
                break
        ends = self._ends_of_tasks(job_id, looked)
        if ends:
            edges = self._engine.execute_list(after.OPEN_TASKS, [(task,) for task in ends], (job_id,), (most,))
            if edges:
                self._judge(edges, {(job_id, task): end for task, end in ends.items()}, now_ms)
                return len(edges)
        for child_id in followers:
            self._follow_tasks(child_id, job_id, ends, now_ms)
        if len(looked) < count:
            self._execute(after.UNSETTLE_TASKS, (job_id, parts[0][0], parts[-1][0]))
        else:
            self._unsettle_tasks(job_id, [part for part in parts if part[0] <= looked[-1]], looked[-1])
        return len(looked) * max(1, len(followers))

    def _unsettle_tasks(self, job_id: JobId, parts: Sequence[Row], reached: int) -> None:
        """The tasks of some parts were looked at, up to an index in the last one of them."""
        self._execute(after.UNSETTLE_TASKS, (job_id, parts[0][0], parts[-1][0]))
        if (last := max(part[1] for part in parts)) > reached:
            self._engine.send(after.SETTLE_TASKS, (job_id, reached + 1, last), rows=1)

    def _judge(self, edges: Sequence[Row], ended: Mapping[tuple[int, int], End | None], now_ms: int) -> None:
        """Judge dependencies, given as rows of after.OPEN, on jobs and tasks that have ended so; None: the job was
        removed, and counts as met.
        """
        met: dict[int, None] = {}
        failed: defaultdict[str, dict[int, None]] = defaultdict(dict)
        for child_id, parent_id, task, ends in edges:
            end = ended[parent_id, task]
            why = "" if end is None else why_unmet(parent_id, None if task == WHOLE else task, end, Ends(ends))
            (failed[why] if why else met)[child_id] = None
        self._engine.sendmany(after.JUDGE, [edge[:3] for edge in edges])
        for why, children in failed.items():
            change = Change(at_ms=now_ms, detail=why)
            plain, arrays = self._parted(children)
            if plain:
                self._move_list((PENDING, Cause.STRAND), (transitions.STRAND, (why, now_ms)), plain, change)
            for job_id in arrays:
                self._end_unmade(job_id, self._tasks_of(job_id), ALL, Reason.DEPENDENCY, change)
        if met:
            plain, arrays = self._parted(met)
            if plain:
                self._ahead.waiting = None
                self._engine.execute_list(after.FREE, plain)
            self._arrays.stir(arrays)

    def _parted(self, children: Iterable[int]) -> tuple[list[Row], list[JobId]]:
        """Jobs that wait, without those that are arrays, and these. An array that waits has no pending run, but perhaps
        a million earlier ones, which no statement should read.
        """
        jobs = [JobId(child_id) for child_id in children]
        return [(job_id,) for job_id in jobs if job_id not in self._arrays], [
            job_id for job_id in jobs if job_id in self._arrays
        ]

    def _task_array(self, job_id: JobId) -> TaskArray | None:
        stored = self._execute(array_sql.TASK_ARRAY, (job_id,))
        return read_array(stored[0][0]) if stored and stored[0][0] is not None else None

    def _ends_of_tasks(self, job_id: JobId, tasks: Sequence[int]) -> dict[int, End]:
        """How those of some tasks of an array, in order, have ended that have."""
        if not tasks:
            return {}
        found: dict[int, End] = {}
        rows = [(task,) for task in tasks]
        for task, status, reason in self._engine.execute_list(after.LAST_OF_TASKS, rows, (job_id,)):
            if RunStatus(status) in TERMINAL:
                found[task] = End(RunStatus(status), status != RunStatus.FAILED or reason not in NEVER_RAN)
        for near in _near(tasks):
            for span in ranges.overlapping(self._engine, job_id, near[0], near[-1]):
                for task in near[bisect_left(near, span.first) : bisect_right(near, span.last)]:
                    found.pop(task, None)
                    if span.state in ranges.ENDS:
                        found[task] = End(ranges.ENDS[span.state], span.reason not in NEVER_RAN)
        return found

    # --- what follows ---

    def _follow_tasks(self, child_id: JobId, parent_id: JobId, ends: Mapping[int, End], now_ms: int) -> None:
        """Tasks of a job have ended. Those of its follower with the same indexes start, or fail."""
        array = self._task_array(child_id)
        if array is None:
            return
        good = [task for task, end in ends.items() if end.status is RunStatus.SUCCESS]
        for (other_id,) in self._execute(after.LEADERS, (child_id,)):
            if other_id != parent_id:
                others = self._ends_of_tasks(JobId(other_id), sorted(good))
                good = [task for task in good if task in others and others[task].status is RunStatus.SUCCESS]
        started = 0
        for part in _parts(array, good):
            started += self._ranges.change(child_id, array, part, {ranges.WAITS}, (ranges.UNMADE, None, None))
        if started:
            self._arrays.stir([child_id])
        failed: defaultdict[str, list[int]] = defaultdict(list)
        for task, end in ends.items():
            if why := why_unmet(parent_id, None, end, Ends.SAME):
                failed[why].append(task)
        for why, tasks in failed.items():
            for part in _parts(array, tasks):
                change = Change(at_ms=now_ms, detail=why)
                self._end_unmade(child_id, array, part, Reason.DEPENDENCY, change, {ranges.WAITS})

    def _follow_again(self, job_id: JobId, part: Part) -> None:
        """Unmade tasks of a part of an array wait for those of others again, if the array follows some."""
        leaders = self._execute(after.LEADERS, (job_id,))
        if not leaders:
            return
        array = self._tasks_of(job_id)
        self._ranges.change(job_id, array, part, {ranges.UNMADE}, (ranges.WAITS, None, None))
        for (parent_id,) in leaders:
            self._watching().add(parent_id)
            self._settle_part(parent_id, part)


def _near(tasks: Sequence[int]) -> list[list[int]]:
    """Indexes in groups that lie near to each other: there may be a hundred thousand ranges between others."""
    groups: list[list[int]] = []
    for task in tasks:
        if groups and task - groups[-1][-1] <= _NEAR:
            groups[-1].append(task)
        else:
            groups.append([task])
    return groups


def _parts(array: TaskArray, tasks: Collection[int]) -> list[Part]:
    """Indexes as parts of neighbouring tasks."""
    parts: list[Part] = []
    for task in sorted(task for task in tasks if task in array):
        if parts and array.count(parts[-1][1] + 1, task) == 1:
            parts[-1] = parts[-1][0], task
        else:
            parts.append((task, task))
    return parts
