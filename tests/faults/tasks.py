"""What must hold of arrays, and of jobs that wait for others. Pure, as history.py, which counts what is found here.

The order is judged by what the jobs wrote themselves: a job that waits for a success starts after its process ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.faults.history import History, Job, Life, Parent, Run

# /proc/uptime has steps of 10 ms, and two of them are compared.
STEP_MS: Final = 20
TERMINAL: Final = frozenset({"success", "failed", "cancelled"})


def most_at_once(lives: Iterable[Life]) -> int:
    """The most of them that executed at the same time, by their first and their last signs."""
    found = list(lives)
    signs = sorted([(life.started_ms, 1) for life in found] + [(life.seen_ms, -1) for life in found])
    most = count = 0
    for _, change in signs:
        count += change
        most = max(most, count)
    return most


class Tasks:
    """The tasks of a history. Each judgement is a list of sentences, empty where all is well."""

    def __init__(self, history: History) -> None:
        self._jobs = [job for job in history.jobs if job.tasks or job.after]
        self._named = {job.name: job for job in history.jobs}
        self._lives: defaultdict[int, list[Life]] = defaultdict(list)
        for life in history.lives:
            self._lives[life.run].append(life)
        self._runs: defaultdict[int, defaultdict[int, list[Run]]] = defaultdict(lambda: defaultdict(list))
        for run in sorted(history.runs, key=lambda run: run.id):
            self._runs[run.job][run.task].append(run)
        # How tasks without a last run have ended, or that they have not.
        self._states: defaultdict[int, dict[int, tuple[str, str | None]]] = defaultdict(dict)
        for one in history.ranges:
            self._states[one.job] |= dict.fromkeys(range(one.first, one.last + 1), (one.state, one.reason))

    def lost(self) -> Iterator[str]:
        """Each task of an array that has ended has ended itself, and those of one submit are stored together."""
        for job in self._jobs:
            for parent in job.after:
                if parent.name not in self._named:
                    yield f"job {job.id} is there, and {parent.name}, which it waits for, is not"
            for task in job.tasks if job.status in TERMINAL else ():
                status, _ = self._end(job, task)
                if status not in TERMINAL or (job.status == "success" and status != "success"):
                    yield f"job {job.id} is {job.status}, and its task {task} is {status}"

    def unexpected(self) -> Iterator[str]:
        """No run is of a task that the array does not have."""
        for job in self._jobs:
            for task in self._runs[job.id].keys() - set(job.tasks or (0,)):
                yield f"job {job.id} has runs of task {task}, which it does not have"

    def beyond_the_cap(self) -> Iterator[str]:
        """No more tasks execute at once than the array may, where they stop on a worker that was lost."""
        for job in self._jobs:
            lives = (life for runs in self._runs[job.id].values() for run in runs for life in self._lives[run.id])
            if job.cap and job.stops and (most := most_at_once(lives)) > job.cap:
                yield f"job {job.id} had {most} tasks at once, and may have {job.cap}"

    def out_of_order(self) -> Iterator[str]:
        """What waits for others starts when they have ended, and only if that is as it asked."""
        for job, task, parent, tasks in self._waits():
            starts = [life.started_ms for run in self._runs[job.id][task] for life in self._lives[run.id]]
            for other in tasks if starts else ():
                ended_ms = self._succeeded_ms(parent, other)
                if ended_ms is None and not self._any(job, parent):
                    yield f"job {job.id}, task {task} started, and task {other} of job {parent.id} is no success"
                elif ended_ms is not None and min(starts) < ended_ms - STEP_MS:
                    late_ms = ended_ms - min(starts)
                    yield f"job {job.id}, task {task} started {late_ms} ms before task {other} of job {parent.id} ended"

    def without_a_cause(self) -> Iterator[str]:
        """What ends as `dependency` has waited for something that was no success."""
        met: defaultdict[tuple[int, int], list[bool]] = defaultdict(list)
        for job, task, parent, tasks in self._waits():
            ok = self._any(job, parent) or all(self._end(parent, other)[0] == "success" for other in tasks)
            met[job.id, task].append(ok)
        for job in self._jobs:
            for task in job.tasks or (0,):
                if all(met[job.id, task]) and self._end(job, task)[1] == "dependency":
                    yield f"job {job.id}, task {task} ended as dependency, and all that it waits for is a success"

    def _waits(self) -> Iterator[tuple[Job, int, Job, tuple[int, ...]]]:
        """Each task that waits, the job that it waits for, and the tasks of that job that count."""
        for job in self._jobs:
            for entry in job.after:
                parent = self._named.get(entry.name)
                for task in (job.tasks or (0,)) if parent is not None else ():
                    assert parent is not None
                    yield job, task, parent, _counting(entry, task, parent)

    def _any(self, job: Job, parent: Job) -> bool:
        return any(entry.name == parent.name and entry.how == "any" for entry in job.after)

    def _end(self, job: Job, task: int) -> tuple[str, str | None]:
        """The status of a task and its reason."""
        runs = self._runs[job.id][task]
        return self._states[job.id].get(task) or ((runs[-1].status, runs[-1].reason) if runs else ("lost", None))

    def _succeeded_ms(self, job: Job, task: int) -> int | None:
        """When the process of the run that is the task's success ended; None without one."""
        runs = self._runs[job.id][task]
        ends = [life.seen_ms for run in runs if run.status == "success" for life in self._lives[run.id]]
        return min(ends, default=None)


def _counting(entry: Parent, task: int, parent: Job) -> tuple[int, ...]:
    if entry.how == "same":
        return (task,)
    return parent.tasks or (0,) if entry.task is None else (entry.task,)
