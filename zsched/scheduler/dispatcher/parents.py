"""Which jobs a job may wait for: the rules of a submit, and of a job that is run again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from zsched.model.access import Caller
from zsched.model.after import Dependency, Ends, meets
from zsched.model.limits import FOLLOWERS_MAX
from zsched.model.types import Job, JobId, JobSpec
from zsched.scheduler.dispatcher import owners
from zsched.scheduler.dispatcher.commands import ConflictError, ParentError
from zsched.store.contract import Parent, Store


def demand_parents(store: Store, specs: Sequence[JobSpec], by: Caller) -> None:
    """Raise ParentError unless all jobs that these name exist, end, have the tasks that are named, and are visible to
    the caller.
    """
    named = dict.fromkeys(JobId(dependency.job) for spec in specs for dependency in spec.after if not dependency.placed)
    known = store.parents(list(named)) if named else {}
    followers = Counter[tuple[bool, int]]()
    for place, spec in enumerate(specs):
        for entry, dependency in enumerate(spec.after):
            if dependency.placed:
                parent: Parent | None = Parent(by.owner, False, None, array=specs[dependency.job - 1].array)
                if specs[dependency.job - 1].schedule is not None:
                    parent = Parent(by.owner, True, None)
            else:
                parent = known.get(JobId(dependency.job))
            same = dependency.ends is Ends.SAME
            followers[dependency.placed, dependency.job] += same
            fault = _fault(dependency, parent, by) or (parent and _task_fault(dependency, parent, spec))
            if not fault and same and parent:
                count = parent.followers + followers[dependency.placed, dependency.job]
                if count > FOLLOWERS_MAX:
                    fault = f"{FOLLOWERS_MAX} arrays wait for this one task by task, which is as many as may"
            if fault:
                raise ParentError(place, entry, fault)


def _fault(dependency: Dependency, parent: Parent | None, by: Caller) -> str:
    """Why a caller's job can't wait for a job; empty if it can."""
    named = f"job {'#' if dependency.placed else ''}{dependency.job}"
    if parent is None:
        return f"{named} does not exist"
    if parent.recurring:
        return f"{named} has a schedule: a recurring job has no end"
    if not by.reads and not owners.may_act(by, parent.owner):
        return f"{named} belongs to another owner: a token needs the scope read to wait for it"
    return ""


def _task_fault(dependency: Dependency, parent: Parent, spec: JobSpec) -> str:
    """Why a job can't wait for a task of a job, or task by task; empty if it can."""
    named = f"job {'#' if dependency.placed else ''}{dependency.job}"
    if dependency.task is not None and parent.array is None:
        return f"{named} has one task: name the job alone"
    if dependency.task is not None and parent.array is not None and dependency.task not in parent.array:
        return f"{named} has no task {dependency.task}: its tasks are {parent.array}"
    if dependency.ends is Ends.SAME and (spec.array is None or parent.array is None):
        return f"{dependency} is for two arrays: {'this job' if spec.array is None else named} has no tasks"
    if dependency.ends is Ends.SAME and spec.array and parent.array and spec.array.parts != parent.array.parts:
        return f"{dependency} needs equal indexes: {named} has {parent.array}, and this job {spec.array}"
    return ""


def demand_possible(store: Store, job: Job) -> None:
    """Raise ConflictError if an ended job waits for a job that has ended otherwise. Removed jobs don't count."""
    known = store.parents([JobId(dependency.job) for dependency in job.after])
    for dependency in job.after:
        parent = known.get(JobId(dependency.job))
        by_task = dependency.ends is Ends.SAME or dependency.task is not None
        if by_task or parent is None or parent.ended is None or meets(dependency.ends, parent.ended, ran=parent.ran):
            # Tasks are judged one by one.
            continue
        remedy = f"`zsched rerun {dependency.job},{job.job_id}` runs both again"
        sentence = f"Job {job.job_id} waits for job {dependency}, which is {parent.ended}: {remedy}"
        raise ConflictError("dependency", sentence)
