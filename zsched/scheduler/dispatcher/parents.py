"""Which jobs a job may wait for: the rules of a submit, and of a job that is run again."""

from __future__ import annotations

from collections.abc import Sequence

from zsched.model.access import Caller
from zsched.model.after import meets
from zsched.model.types import Job, JobId, JobSpec
from zsched.scheduler.dispatcher import owners
from zsched.scheduler.dispatcher.commands import ConflictError, ParentError
from zsched.store.contract import Parent, Store


def demand_parents(store: Store, specs: Sequence[JobSpec], by: Caller) -> None:
    """Raise ParentError unless all jobs that these name by their numbers exist, end, and are visible to the caller."""
    named = dict.fromkeys(JobId(dependency.job) for spec in specs for dependency in spec.after if not dependency.placed)
    if not named:
        return
    known = store.parents(list(named))
    for place, spec in enumerate(specs):
        for entry, dependency in enumerate(spec.after):
            if not dependency.placed and (fault := _fault(dependency.job, known.get(JobId(dependency.job)), by)):
                raise ParentError(place, entry, fault)


def _fault(job: int, parent: Parent | None, by: Caller) -> str:
    """Why a caller's job can't wait for a job; empty if it can."""
    if parent is None:
        return f"job {job} does not exist"
    if parent.recurring:
        return f"job {job} has a schedule: a recurring job has no end"
    if not by.reads and not owners.may_act(by, parent.owner):
        return f"job {job} belongs to another owner: a token needs the scope read to wait for it"
    return ""


def demand_possible(store: Store, job: Job) -> None:
    """Raise ConflictError if an ended job waits for a job that has ended otherwise. Removed jobs don't count."""
    known = store.parents([JobId(dependency.job) for dependency in job.after])
    for dependency in job.after:
        parent = known.get(JobId(dependency.job))
        if parent is None or parent.ended is None or meets(dependency.ends, parent.ended, ran=parent.ran):
            continue
        remedy = f"`zsched rerun {dependency.job},{job.job_id}` runs both again"
        sentence = f"Job {job.job_id} waits for job {dependency}, which is {parent.ended}: {remedy}"
        raise ConflictError("dependency", sentence)
