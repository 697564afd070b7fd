"""Recurring jobs: which fires make a run and which pass; and how a schedule is paused, resumed and ended.

Commands come before the fires of the same turn. So a job that is paused or ended in a turn doesn't fire in it.
"""

from __future__ import annotations

import logging
from typing import Final

from zsched.model import schedule
from zsched.model.limits import FIRE_LATE_MS_MAX, TICK_JOBS_MAX
from zsched.model.types import Job, Now
from zsched.scheduler.dispatcher import answers, edits, owners
from zsched.scheduler.dispatcher.answers import Deferred
from zsched.scheduler.dispatcher.cancels import CancelJob
from zsched.scheduler.dispatcher.commands import (
    ConflictError,
    EndSchedule,
    JobState,
    PauseSchedule,
    ResumeSchedule,
    ScheduleChange,
)
from zsched.store.contract import Due, Store

log = logging.getLogger(__name__)

_DONE: Final = {
    PauseSchedule: "schedule paused",
    ResumeSchedule: "schedule resumed",
    EndSchedule: "schedule ended",
}


def fire_due(store: Store, now: Now) -> None:
    """Fire the recurring jobs whose time has come, each at most once, and set when they fire next."""
    # `due` reads what this turn has counted so far, and a fire resets it.
    store.flush_counters(now.wall_ms)
    for due in store.due(now.wall_ms, TICK_JOBS_MAX):
        try:
            _fire(store, due, now)
        except schedule.ScheduleError as error:
            # A row that was edited by hand: only this schedule stops.
            store.skip_fire(due.job_id, None, "schedule", f"the schedule can't be read: {error}", now.wall_ms)
            log.error("job %d fires no more: its schedule can't be read: %s", due.job_id, error)


def _fire(store: Store, due: Due, now: Now) -> None:
    latest_ms = schedule.latest_fire_ms(due.schedule, due.next_fire_ms, now.wall_ms)
    next_ms = schedule.next_fire_ms(due.schedule, now.wall_ms)
    if now.wall_ms - latest_ms > FIRE_LATE_MS_MAX:
        store.skip_fire(
            due.job_id, next_ms, "schedule", "its time had passed while the scheduler was down", now.wall_ms
        )
        log.warning("job %d misses a fire: its time had passed while the scheduler was down", due.job_id)
    elif due.live:
        store.skip_fire(due.job_id, next_ms, "schedule", "its last run has not ended", now.wall_ms)
        log.info("job %d skips a fire: its last run has not ended", due.job_id)
    else:
        run_id = store.fire(due.job_id, next_ms, "schedule", now.wall_ms)
        log.debug("job %d fires: run %d", due.job_id, run_id)


def on_change(store: Store, command: ScheduleChange, cancel: CancelJob, now: Now) -> Deferred[JobState]:
    """Change a recurring job for a caller. Raises what `owners.find_job` and `change` raise."""
    job = owners.find_job(store, command.job_id, command.by)
    change(store, job, command, now)
    if isinstance(command, EndSchedule) and command.cancel:
        cancel(job.job_id, command.by.actor, now, command.reason)
    return answers.job_state(job.job_id)


def change(store: Store, job: Job, command: ScheduleChange, now: Now) -> None:
    """Pause, resume or end a recurring job. A command that changes nothing leaves no event. Raises ConflictError.

    Cancelling the live fire of an ended schedule is the caller's part.
    """
    match command:
        case PauseSchedule():
            _demand_schedule(job)
            done = store.pause_schedule(job.job_id, command.by.actor, now.wall_ms, command.reason)
        case ResumeSchedule():
            _demand_schedule(job)
            done = job.paused_ms is not None and store.resume_schedule(
                job.job_id, edits.next_fire_ms(job, now), command.by.actor, now.wall_ms, command.reason
            )
        case EndSchedule():
            done = job.ended_ms is None and _end(store, job, command, now)
    if done:
        log.info("job %d: %s by %s", job.job_id, _DONE[type(command)], command.by.actor)


def _end(store: Store, job: Job, command: EndSchedule, now: Now) -> bool:
    _demand_schedule(job, f"cancel it with `zsched cancel {job.job_id}` (POST /jobs/{job.job_id}/cancel)")
    if not command.cancel and store.last_fire_lives(job.job_id):
        remedy = f"`zsched end --cancel {job.job_id}` (DELETE /jobs/{job.job_id}?cancel=1)"
        sentence = f"cancel it as well with {remedy}, or pause the job and end it later"
        raise ConflictError("live", f"The last fire of job {job.job_id} has not ended: {sentence}")
    return store.end_schedule(job.job_id, command.by.actor, now.wall_ms, command.reason)


def _demand_schedule(job: Job, instead: str = "only recurring jobs take this call") -> None:
    """Raises ConflictError unless the job has a schedule that has not ended. `instead`: what the caller can do."""
    if job.schedule is None:
        raise ConflictError("no_schedule", f"Job {job.job_id} has no schedule: {instead}")
    if job.ended_ms is not None:
        raise ConflictError("schedule_ended", f"The schedule of job {job.job_id} has ended: submit the job again")
