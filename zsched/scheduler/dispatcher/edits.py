"""Changes of a recurring job, or of one that has not started. A run that a worker has keeps what it was given."""

from __future__ import annotations

import logging

from msgspec.structs import replace

from zsched.model import schedule
from zsched.model.signals import signal_fault
from zsched.model.spec import never_starts
from zsched.model.types import Job, Now, Policy, RunStatus
from zsched.scheduler.dispatcher import answers, owners, queues, tasks
from zsched.scheduler.dispatcher.answers import Deferred
from zsched.scheduler.dispatcher.commands import ConflictError, EditJob, JobState
from zsched.store.contract import Store

log = logging.getLogger(__name__)

# The fields that an event names, besides those of Policy and the schedule.
_FIELDS = ("name", "command", "tags", "priority", "queue", "deadline_ms")
# The fields that an event names otherwise than Job or Policy.
_NAMES = {"policy.timeout_ms": "timeout", "policy.grace_ms": "kill_grace", "deadline_ms": "deadline"}


def on_edit(store: Store, command: EditJob, now: Now) -> Deferred[JobState]:
    """Change a job for a caller. An edit that changes nothing leaves no event.

    Raises ConflictError, NotOwnerError for a command that the caller may not change, ForbiddenError for a priority that
    its token does not allow, and what `owners.find_job` raises.
    """
    job = owners.find_job(store, command.job_id, command.by)
    tasks.refuse_removing(job)
    if job.schedule is None:
        _demand_pending(store, job, command)
    elif job.ended_ms is not None:
        raise ConflictError("schedule_ended", f"The schedule of job {job.job_id} has ended: submit the job again")
    edited = command.edit.applied_to(job, now.wall_ms)
    _check(store, job, edited, command)
    if edited.schedule != job.schedule and job.paused_ms is None:
        edited = replace(edited, next_fire_ms=next_fire_ms(edited, now))
    if edited != job:
        detail = f"{_changes(job, edited)}{'; ' if command.reason else ''}{command.reason}"
        store.edit(edited, command.by.actor, detail, now.wall_ms)
        log.info("job %d: edited by %s", job.job_id, command.by.actor)
    return answers.job_state(job.job_id)


def next_fire_ms(job: Job, now: Now) -> int | None:
    """When a recurring job fires next. Raises ConflictError if its schedule can't be read."""
    assert job.schedule is not None
    try:
        return schedule.next_fire_ms(job.schedule, now.wall_ms)
    except schedule.ScheduleError as error:
        # A row that was edited by hand.
        sentence = f"The schedule of job {job.job_id} can't be read: {error}; set another one with `zsched edit`"
        raise ConflictError("no_schedule", sentence) from None


def _demand_pending(store: Store, job: Job, command: EditJob) -> None:
    """Raises ConflictError unless the last run of a job without a schedule is pending."""
    if command.edit.schedule is not None:
        raise ConflictError("no_schedule", f"Job {job.job_id} has no schedule: submit a recurring job instead")
    if job.tasks is not None and job.tasks.pending:
        return
    last = store.reads.last_run(job.job_id)
    if last is None or last.status is not RunStatus.PENDING:
        status = "has ended" if last is None or last.status is not RunStatus.RUNNING else "is running"
        raise ConflictError("started", f"Job {job.job_id} {status}: only a job that waits for a worker can be changed")


def _check(store: Store, job: Job, edited: Job, command: EditJob) -> None:
    """Raises ConflictError for changes that don't go together, ForbiddenError, TooManyDemandsError."""
    if (fault := signal_fault(edited.policy.signal, edited.policy.timeout_ms)) is not None:
        raise ConflictError("signal", f"Job {job.job_id} has signal {edited.policy.signal}: {fault}")
    if edited.policy.retry_on and not edited.policy.retries:
        raise ConflictError("retry_on", f"Job {job.job_id} has retry_on, which needs retries: change both")
    if edited.deadline_ms != job.deadline_ms and job.schedule is not None:
        raise ConflictError(
            "recurring", f"Job {job.job_id} has a schedule, which says when it runs: leave out deadline"
        )
    if never_starts(edited) and edited.deadline_ms != job.deadline_ms:
        raise ConflictError("deadline", f"Job {job.job_id} could never start: set a deadline later than run_at")
    if edited.priority != job.priority:
        owners.demand_priority(owners.find_token(store, command.by), edited.priority)
    if edited.queue != job.queue:
        queues.demand_few_kinds(store, int(store.adds_demand(edited)), command.by)
    if edited.command != job.command:
        owners.demand_command(job, command.by)


def _changes(old: Job, new: Job) -> str:
    """What an edit changed, for its event. A command may hold secrets, so only schedules are shown."""
    changed = [name for name in _FIELDS if getattr(old, name) != getattr(new, name)]
    for name in Policy.__struct_fields__:
        if getattr(old.policy, name) != getattr(new.policy, name):
            changed.append(f"policy.{name}")
    named = [_NAMES.get(name, name.removeprefix("policy.")) for name in changed]
    if old.schedule != new.schedule:
        return f"{', '.join([*named, 'schedule'])}: {old.schedule} -> {new.schedule}"
    return ", ".join(named)
