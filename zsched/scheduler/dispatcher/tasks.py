"""What callers do with some tasks of an array, by their indexes."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from zsched.model.access import Caller
from zsched.model.limits import RERUN_TASKS_MAX
from zsched.model.queues import shown_key
from zsched.model.types import Job, JobId, Now
from zsched.scheduler.dispatcher import owners, parents, queues
from zsched.scheduler.dispatcher.commands import Command, ConflictError, FullError, NotFoundError, Part, QuotaError
from zsched.scheduler.dispatcher.queues import UniqueError
from zsched.store.contract import Again, Store, TaskStep

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RerunTasks(Command[TaskStep]):
    """Ended tasks of an array run again: the next part of RERUN_TASKS_MAX tasks after the index `after`. The caller
    sends the command again until all are done. `part`: only these tasks. `failed`: only those that have failed, or that
    were cancelled because others had.
    """

    job_id: JobId
    by: Caller
    part: Part
    after: int = -1
    failed: bool = False
    reason: str = ""


def find_part(job: Job, part: Part) -> Part:
    """The tasks that a caller names. Raises ConflictError for a job without an array, NotFoundError."""
    if job.array is None:
        raise ConflictError("no_array", f"Job {job.job_id} has one task: only jobs with array or each have several")
    if not job.array.count(*part):
        named = f"task {part[0]}" if part[0] == part[1] else f"tasks {part[0]} to {part[1]}"
        raise NotFoundError("unknown_task", f"Job {job.job_id} has no {named}: its tasks are {job.array}")
    return part


def refuse_removing(job: Job) -> None:
    """Raises ConflictError while the job's runs are being removed."""
    if job.removing_ms is not None:
        raise ConflictError("removing", f"Job {job.job_id} is being removed")


def rerun_tasks(store: Store, command: RerunTasks, pending_max: int, now: Now) -> TaskStep:
    """Run the next ended tasks again. Raises what `owners.find_job`, `find_part` and `admit_rerun` raise, FullError."""
    job = owners.find_job(store, command.job_id, command.by)
    first, last = find_part(job, command.part)
    refuse_removing(job)
    if store.pending_tasks() >= pending_max:
        raise FullError
    if not store.last_fire_lives(job.job_id):
        admit_rerun(store, job, command.by)
        if job.after:
            parents.demand_possible(store, job)
    again = Again(job.job_id, (max(first, command.after + 1), last), command.failed)
    actor = command.by.actor
    step = store.rerun_tasks(again, RERUN_TASKS_MAX, actor, command.reason, now.wall_ms)
    if step.done:
        log.info("job %d: %d tasks run again by %s", job.job_id, step.done, actor)
    return step


def admit_rerun(store: Store, job: Job, by: Caller) -> None:
    """Whether an ended job may run again. Raises ForbiddenError and QuotaError at the bounds of the caller's token,
    UniqueError if another job has the unique key, TooManyDemandsError.
    """
    token = owners.find_token(store, by)
    owners.demand_priority(token, job.priority)
    allowed = None if token is None else token.pending_max
    if allowed is not None and store.count_metered(by.owner, allowed) >= allowed:
        raise QuotaError(allowed)
    holder = None if job.unique is None else store.unique_holders([job.unique]).get(job.unique)
    if job.unique is not None and holder not in (None, job.job_id):
        raise UniqueError(shown_key(job.unique), holder)
    queues.demand_few_kinds(store, int(store.adds_demand(job)), by)
