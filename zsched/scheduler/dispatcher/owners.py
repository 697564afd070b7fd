"""Owners of jobs: which caller may act on which job, what a token allows, and how a revoked token's jobs are ended.

Everything here is called inside the turn's transaction, so a token that was revoked a moment ago is seen as revoked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from zsched.model.access import Caller, Token
from zsched.model.limits import BULK_JOBS_MAX, TURN_ROWS_MAX
from zsched.model.types import Job, JobId, JobSpec, Now
from zsched.scheduler.dispatcher.commands import (
    BadTokenError,
    ConflictError,
    ForbiddenError,
    NotFoundError,
    NotOwnerError,
    QuotaError,
    TooManyError,
)
from zsched.store.contract import Store

log = logging.getLogger(__name__)


def find_job(store: Store, job_id: JobId, by: Caller) -> Job:
    """The job that a caller wants to act on. Raises NotFoundError, and NotOwnerError for another owner's job.

    Every command on an existing job begins with this.
    """
    job = store.job(job_id)
    if job is None:
        raise NotFoundError("unknown_job", "Job not found")
    if not may_act(by, job.owner):
        raise NotOwnerError(job_id, job.owner)
    return job


def may_act(by: Caller, owner: str) -> bool:
    """Whether a caller may act on the jobs of an owner, which is empty for jobs without an owner."""
    return by.all_jobs or _owns(by, owner)


def demand_command(job: Job, by: Caller) -> None:
    """Raises NotOwnerError unless the caller may change the command of a job.

    The command runs as the job's user, with its secrets. So the scope operate, which covers other acts on all jobs, is
    not enough.
    """
    if not by.admin and not _owns(by, job.owner):
        raise NotOwnerError(job.job_id, job.owner, "the scope admin to change its command")


def find_token(store: Store, by: Caller) -> Token | None:
    """The token of a caller; None for a caller without one. Raises BadTokenError when it was revoked since it was
    looked at: a job that it submitted now would outlive the end of its jobs.
    """
    if by.token_id is None:
        return None
    token = store.access.token(by.token_id)
    if token is None or token.revoked_ms is not None:
        raise BadTokenError
    return token


def admit(store: Store, token: Token, specs: Sequence[JobSpec]) -> Sequence[JobSpec]:
    """The jobs as a token may submit them. Raises ForbiddenError, TooManyError, QuotaError, ConflictError."""
    if token.run_as is not None:
        for spec in specs:
            if spec.user not in (None, token.run_as):
                raise ForbiddenError(
                    "run_as", f"Jobs of this token run as {token.run_as}, not as {spec.user}: leave user out"
                )
        specs = [replace(spec, user=token.run_as) for spec in specs]
    if token.priority_max is not None:
        demand_priority(token, max(spec.priority for spec in specs))
    if token.pending_max is not None:
        if len(specs) > token.pending_max:
            raise TooManyError(len(specs), token.pending_max)
        if store.count_metered(token.owner, token.pending_max) + len(specs) > token.pending_max:
            raise QuotaError(token.pending_max)
    recurring = sum(spec.schedule is not None for spec in specs)
    if token.schedules_max is not None and recurring:
        allowed = token.schedules_max
        if store.count_recurring(token.owner, allowed) + recurring > allowed:
            raise ConflictError(
                "too_many_schedules", f"This token may have {allowed} recurring jobs: end one of them first"
            )
    return specs


def demand_priority(token: Token | None, priority: int) -> None:
    """Raises ForbiddenError if the priority of a job is above the highest one that the caller's token allows. A caller
    without a token may give any.
    """
    if token is not None and token.priority_max is not None and priority > token.priority_max:
        raise ForbiddenError(
            "priority_max",
            f"Invalid priority {priority}: this token allows at most {token.priority_max}; give priority"
            f" {token.priority_max} or less, or use another token",
        )


def end_jobs(store: Store, cancel: Callable[[JobId, str, Now], object], now: Now) -> bool:
    """End the next jobs of a revoked token: at most BULK_JOBS_MAX, and no more after TURN_ROWS_MAX changed rows, for an
    array may have thousands. False: no token has any left.

    Schedules are ended first, so that none of them fires behind the last job that was cancelled. `cancel` is given the
    job, the actor and the time.
    """
    ending = store.access.ending()
    if ending is None:
        return False
    recurring = store.recurring(ending.owner, JobId(0), BULK_JOBS_MAX)
    for target in recurring:
        store.end_schedule(target.job_id, ending.actor, now.wall_ms)
    # What is live follows from the jobs' counters, so the moves of this turn must be in them.
    store.flush_counters(now.wall_ms)
    live = store.live(ending.owner, ending.ended_to, BULK_JOBS_MAX - len(recurring))
    begun, cancelled = store.rows_changed, 0
    for cancelled, target in enumerate(live, 1):  # noqa: B007
        cancel(target.job_id, ending.actor, now)
        if store.rows_changed - begun >= TURN_ROWS_MAX:
            break
    if live:
        store.access.note_ended(ending.token_id, live[cancelled - 1].job_id)
    if len(recurring) + len(live) < BULK_JOBS_MAX and cancelled == len(live):
        store.access.end_done(ending.token_id)
        log.info("token %s: its jobs are cancelled, and its schedules ended", ending.token_id)
    return True


def _owns(by: Caller, owner: str) -> bool:
    # No caller owns a job without an owner.
    return bool(owner) and owner == by.owner
