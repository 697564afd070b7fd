"""Which jobs a job may wait for: the rules of a submit, and of a job that is run again."""

from __future__ import annotations

from collections.abc import Sequence

from zsched.model.after import meets
from zsched.model.types import Job, JobId, JobSpec
from zsched.scheduler.dispatcher.commands import ConflictError, ParentError
from zsched.store.contract import Store


def demand_parents(store: Store, specs: Sequence[JobSpec]) -> None:
    """Raise ParentError unless all jobs that these name by their numbers exist, and end."""
    named = dict.fromkeys(JobId(dependency.job) for spec in specs for dependency in spec.after if not dependency.placed)
    if not named:
        return
    known = store.parents(list(named))
    if len(known) == len(named) and not any(parent.recurring for parent in known.values()):
        return
    for place, spec in enumerate(specs):
        for entry, dependency in enumerate(spec.after):
            parent = None if dependency.placed else known.get(JobId(dependency.job))
            if not dependency.placed and parent is None:
                raise ParentError(place, entry, f"job {dependency.job} does not exist")
            if parent is not None and parent.recurring:
                raise ParentError(place, entry, f"job {dependency.job} has a schedule: a recurring job has no end")


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
