"""What callers do with a stored job that has no schedule: hold it, release it, run it again, remove it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from zsched.model.access import Caller
from zsched.model.types import Job, JobId, Now
from zsched.scheduler.dispatcher import answers, owners, recurrence, tasks
from zsched.scheduler.dispatcher.answers import Deferred
from zsched.scheduler.dispatcher.cancels import CancelJob
from zsched.scheduler.dispatcher.commands import (
    Command,
    ConflictError,
    EndSchedule,
    FullError,
    JobState,
    OnJob,
    QuotaError,
)
from zsched.scheduler.dispatcher.retention import Retention
from zsched.store.contract import Store

log = logging.getLogger(__name__)


class Hold(OnJob):
    """No run of a job starts until it is released; running ones go on. Holding a held job changes nothing."""

    __slots__ = ()


class Release(OnJob):
    """The runs of a held job may start. Releasing another job changes nothing."""

    __slots__ = ()


class Rerun(OnJob):
    """A job that has ended runs again, with the same id. Its earlier failures and crashes do not count any more."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Delete(Command[JobState]):
    """A job that has ended is removed for good, as by retention; the reply is the job as it was. The schedule of a
    recurring job ends instead, as by EndSchedule. `ended`: refuse a recurring job.
    """

    job_id: JobId
    by: Caller
    reason: str = ""
    cancel: bool = False
    ended: bool = False


Act = Hold | Release | Rerun | Delete

_DONE: Final = {Hold: "held", Release: "released", Rerun: "run again", Delete: "removed"}


@dataclass(frozen=True, slots=True)
class Doing:
    """What acts need besides the store. `cancel` cancels what is live of a job. `retention` removes the events of a
    removed job. `pending_max`: as of a submit.
    """

    cancel: CancelJob
    retention: Retention
    pending_max: int
    now: Now


def on_act(store: Store, act: Act, doing: Doing) -> Deferred[JobState] | JobState:
    """Do it for a caller. Raises what `owners.find_job` and `do` raise."""
    job = owners.find_job(store, act.job_id, act.by)
    state = answers.job_state(act.job_id)
    if isinstance(act, Delete) and job.schedule is not None and not act.ended:
        end = EndSchedule(act.job_id, act.by, act.cancel, act.reason)
        return recurrence.on_change(store, end, doing.cancel, doing.now)
    if isinstance(act, Delete):
        before = state.read(store.reads)
        do(store, job, act, doing)
        return before
    do(store, job, act, doing)
    return state


def do(store: Store, job: Job, act: Act, doing: Doing) -> None:
    """Hold, release, rerun or remove a job. Raises ConflictError; for a rerun FullError at `pending_max`, QuotaError at
    the bound of the caller's token.
    """
    now = doing.now
    if job.schedule is not None:
        remedy = f"`zsched pause {job.job_id}` stops its fires, and `zsched resume {job.job_id}` lets them go on"
        raise ConflictError("recurring", f"Job {job.job_id} has a schedule: {remedy}")
    tasks.refuse_removing(job)
    actor = act.by.actor
    match act:
        case Hold():
            # Not the job's status, which follows from counters that lack this turn's changes.
            if not store.last_fire_lives(job.job_id):
                raise ConflictError("finished", f"Job {job.job_id} has ended: nothing of it would start")
            done = _hold(store, job, act, now)
        case Release():
            done = _release(store, job, act, now)
        case Rerun():
            done = _rerun(store, job, act, doing)
        case Delete():
            done = _delete(store, job, act, doing)
    if done:
        log.info("job %d: %s by %s", job.job_id, _DONE[type(act)], actor)


def _hold(store: Store, job: Job, act: Hold, now: Now) -> bool:
    if act.tasks is None:
        return store.hold(job.job_id, act.by.actor, act.reason, now.wall_ms)
    part = tasks.find_part(job, act.tasks)
    return store.hold_tasks(job.job_id, part, act.by.actor, act.reason, now.wall_ms) > 0


def _release(store: Store, job: Job, act: Release, now: Now) -> bool:
    if act.tasks is None:
        return store.release(job.job_id, act.by.actor, act.reason, now.wall_ms)
    part = tasks.find_part(job, act.tasks)
    if job.held_ms is not None:
        raise ConflictError("held", f"Job {job.job_id} is held with all of its tasks: release the job")
    return store.release_tasks(job.job_id, part, act.by.actor, act.reason, now.wall_ms) > 0


def _delete(store: Store, job: Job, act: Delete, doing: Doing) -> bool:
    # What this turn has changed of the job is not in its counters yet, which the totals follow.
    if not store.retention.remove(job.job_id, act.by.actor, act.reason, doing.now.wall_ms):
        remedy = (
            f"cancel it first with `zsched cancel {job.job_id}` (POST /jobs/{job.job_id}/cancel), or wait for its end"
        )
        raise ConflictError("live", f"Job {job.job_id} has not ended: {remedy}")
    doing.retention.on_removed(doing.now)
    return True


def _rerun(store: Store, job: Job, act: Rerun, doing: Doing) -> bool:
    token = owners.find_token(store, act.by)
    if store.pending_tasks() + (1 if job.array is None else len(job.array)) > doing.pending_max:
        raise FullError
    allowed = None if token is None else token.pending_max
    if allowed is not None and store.count_metered(act.by.owner, allowed) >= allowed:
        raise QuotaError(allowed)
    tasks.demand_unique(store, job)
    if job.array is None:
        done = store.rerun(job.job_id, act.by.actor, act.reason, doing.now.wall_ms) is not None
    else:
        done = store.rerun_array(job.job_id, act.by.actor, act.reason, doing.now.wall_ms)
    if not done:
        remedy = f"wait for its end, or cancel it with `zsched cancel {job.job_id}`"
        raise ConflictError("live", f"Job {job.job_id} has not ended: {remedy}")
    return True
