"""Which caller may act on which job. Called inside the transaction that does the command, so no race can pass it."""

from __future__ import annotations

from zsched.dispatcher.commands import NotFoundError, NotOwnerError
from zsched.model import Caller, Job, JobId
from zsched.store.contract import Store


def find_job(store: Store, job_id: JobId, by: Caller) -> Job:
    """The job that a caller wants to act on. Raises NotFoundError, and NotOwnerError for another owner's job.

    Every command on an existing job begins with this.
    """
    job = store.job(job_id)
    if job is None:
        raise NotFoundError("unknown_job", "Job not found")
    # A job without an owner is nobody's own.
    if not by.all_jobs and (not job.owner or job.owner != by.owner):
        raise NotOwnerError(job_id, job.owner)
    return job
