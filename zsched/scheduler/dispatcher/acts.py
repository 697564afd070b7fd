"""What callers do with a stored job that has no schedule: hold it, release it, run it again."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from zsched.model.access import Caller
from zsched.model.types import Job, JobId, Now
from zsched.scheduler.dispatcher import answers, owners
from zsched.scheduler.dispatcher.answers import Deferred
from zsched.scheduler.dispatcher.commands import Command, ConflictError, FullError, JobState, QuotaError
from zsched.store.contract import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hold(Command[JobState]):
    """No run of a job starts until it is released; running ones go on. Holding a held job changes nothing."""

    job_id: JobId
    by: Caller
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Release(Command[JobState]):
    """The runs of a held job may start. Releasing another job changes nothing."""

    job_id: JobId
    by: Caller
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Rerun(Command[JobState]):
    """A job that has ended runs again, with the same id. Its earlier failures and crashes do not count any more."""

    job_id: JobId
    by: Caller
    reason: str = ""


Act = Hold | Release | Rerun

_DONE: Final = {Hold: "held", Release: "released", Rerun: "run again"}


def on_act(store: Store, act: Act, pending_max: int, now: Now) -> Deferred[JobState]:
    """Do it for a caller. Raises what `owners.find_job` and `do` raise."""
    do(store, owners.find_job(store, act.job_id, act.by), act, pending_max, now)
    return answers.job_state(act.job_id)


def do(store: Store, job: Job, act: Act, pending_max: int, now: Now) -> None:
    """Hold, release or rerun a job. Raises ConflictError; for a rerun FullError at `pending_max`, QuotaError at the
    bound of the caller's token.
    """
    if job.schedule is not None:
        remedy = f"`zsched pause {job.job_id}` stops its fires, and `zsched resume {job.job_id}` lets them go on"
        raise ConflictError("recurring", f"Job {job.job_id} has a schedule: {remedy}")
    actor = act.by.actor
    match act:
        case Hold():
            # Not the job's status, which follows from counters that lack this turn's changes.
            if not store.last_fire_lives(job.job_id):
                raise ConflictError("finished", f"Job {job.job_id} has ended: nothing of it would start")
            done = store.hold(job.job_id, actor, act.reason, now.wall_ms)
        case Release():
            done = store.release(job.job_id, actor, act.reason, now.wall_ms)
        case Rerun():
            done = _rerun(store, job, act, pending_max, now)
    if done:
        log.info("job %d: %s by %s", job.job_id, _DONE[type(act)], actor)


def _rerun(store: Store, job: Job, act: Rerun, pending_max: int, now: Now) -> bool:
    token = owners.find_token(store, act.by)
    if store.pending_tasks() >= pending_max:
        raise FullError
    allowed = None if token is None else token.pending_max
    if allowed is not None and store.count_metered(act.by.owner, allowed) >= allowed:
        raise QuotaError(allowed)
    if store.rerun(job.job_id, act.by.actor, act.reason, now.wall_ms) is None:
        remedy = f"wait for its end, or cancel it with `zsched cancel {job.job_id}`"
        raise ConflictError("live", f"Job {job.job_id} has not ended: {remedy}")
    return True
