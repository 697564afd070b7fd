"""One action on many jobs, some hundred in each turn: the caller sends the command again until all are done.

The jobs are taken in the order of their ids, so the last id is all that the next step needs. Nothing is stored of a
bulk call except its effects: after a restart the caller begins again, and these jobs are done.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from zsched.model.access import Caller
from zsched.model.lifecycle import TERMINAL
from zsched.model.limits import BULK_JOBS_MAX, TURN_ROWS_MAX
from zsched.model.spans import Span, Spans, of
from zsched.model.types import JobId, RunStatus
from zsched.scheduler.dispatcher import acts, owners, recurrence
from zsched.scheduler.dispatcher.commands import (
    BadTokenError,
    Command,
    EndSchedule,
    PauseSchedule,
    RefusedError,
    ResumeSchedule,
    ScheduleChange,
)
from zsched.store.contract import Store, Target

log = logging.getLogger(__name__)

_UNKNOWN: Final = "unknown_job"


@dataclass(frozen=True, slots=True)
class BulkDone:
    """The outcome of each job: `done`; `ending`: cancelled, and a worker still has to end its run; or the code of the
    refusal that a call on the single job would have got. `after` is the last id looked at, None at the end.
    """

    outcomes: Mapping[str, Spans]
    after: JobId | None


class Action(StrEnum):
    """The action of a bulk call; the effect on each job is that of the call on a single job."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    END = "end"
    HOLD = "hold"
    RELEASE = "release"
    RERUN = "rerun"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which jobs. `ids` names them; None means all that the action can change: the jobs that have not ended, those that
    are held, those that have ended, or those with a schedule. `owner` and `status` restrict these where they are given.
    """

    ids: Spans | None
    owner: str | None = None
    status: RunStatus | None = None


@dataclass(frozen=True, slots=True)
class Bulk(Command[BulkDone]):
    """Apply the action to the selected jobs above `after`, in the order of their ids, BULK_JOBS_MAX at most. A refused
    job does not stop the others. `cancel`: as of EndSchedule.
    """

    action: Action
    selection: Selection
    by: Caller
    after: JobId
    cancel: bool = False
    reason: str = ""


def step(store: Store, command: Bulk, doing: acts.Doing) -> BulkDone:
    """Do the next part of a bulk command."""
    targets, unknown, after = _all(store, command) if command.selection.ids is None else _named(store, command)
    outcomes: dict[str, list[Span]] = defaultdict(list)
    begun = store.rows_changed
    filtered = command.selection.owner is not None or command.selection.status is not None
    if unknown and not filtered:
        outcomes[_UNKNOWN] += unknown
    for place, target in enumerate(targets, 1):
        # A job of another owner is left out even if it passes the filter: an answer would reveal its status.
        if not filtered or (owners.may_act(command.by, target.owner) and _matches(target, command)):
            outcomes[_act(store, target, command, doing)].append((target.job_id, target.job_id))
        if store.rows_changed - begun >= TURN_ROWS_MAX and place < len(targets):
            # A job that waits for thousands of others changes as many rows.
            after = target.job_id
            break
    done = BulkDone({outcome: of(spans) for outcome, spans in outcomes.items()}, after)
    counts = {outcome: len(ids) for outcome, ids in done.outcomes.items()}
    log.debug("%s of many jobs by %s: %s", command.action, command.by.actor, counts)
    return done


def _all(store: Store, command: Bulk) -> tuple[list[Target], list[Span], JobId | None]:
    """The next jobs that the action can change, no unknown ids, and the last id; None when there are no more."""
    owner, after = command.selection.owner, command.after
    match command.action:
        case Action.CANCEL | Action.HOLD:
            targets = store.live(owner, after, BULK_JOBS_MAX)
        case Action.RELEASE:
            targets = store.held(owner, after, BULK_JOBS_MAX)
        case Action.RERUN | Action.DELETE:
            targets = _ended(store, command)
        case _:
            targets = store.recurring(owner, after, BULK_JOBS_MAX)
    return targets, [], targets[-1].job_id if len(targets) == BULK_JOBS_MAX else None


def _ended(store: Store, command: Bulk) -> list[Target]:
    """The next jobs that have ended; with a status, only those that ended so."""
    wanted = command.selection
    targets: list[Target] = []
    for status in TERMINAL if wanted.status is None else TERMINAL & {wanted.status}:
        targets += store.ended(wanted.owner, status, command.after, BULK_JOBS_MAX)
    targets.sort(key=lambda target: target.job_id)
    return targets[:BULK_JOBS_MAX]


def _named(store: Store, command: Bulk) -> tuple[list[Target], list[Span], JobId | None]:
    """The next jobs of those that are named, the ids between them without a job, and the last id looked at; None when
    there are no more.
    """
    assert command.selection.ids is not None
    targets: list[Target] = []
    unknown: list[Span] = []
    looks, after = BULK_JOBS_MAX, command.after
    for first, last in command.selection.ids.above(command.after):
        if not looks:
            return targets, unknown, after
        batch = store.between(JobId(first), JobId(last), looks)
        after = batch[-1].job_id if len(batch) == looks else JobId(last)
        for target in batch:
            if first < target.job_id:
                unknown.append((first, target.job_id - 1))
            first = target.job_id + 1
        if first <= after:
            unknown.append((first, after))
        targets += batch
        # A span without jobs costs a look, too.
        looks -= max(1, len(batch))
        if after < last:
            return targets, unknown, after
    return targets, unknown, None


def _matches(target: Target, command: Bulk) -> bool:
    selection = command.selection
    return selection.owner in (None, target.owner) and selection.status in (None, target.status)


def _act(store: Store, target: Target, command: Bulk, doing: acts.Doing) -> str:
    """Apply the action to one job. Returns the outcome: "done", "ending", or the code of the refusal."""
    if not owners.may_act(command.by, target.owner):
        return "not_owner"
    if command.action is Action.CANCEL:
        # What makes an ended job live again in this turn shows in its target, except a fire, which comes later.
        ended = target.status in TERMINAL
        met = None if ended else doing.cancel(target.job_id, command.by.actor, doing.now, command.reason)
        return met or "finished"
    job = store.job(target.job_id)
    assert job is not None
    single = _single(target.job_id, command)
    try:
        if isinstance(single, acts.Act):
            acts.do(store, job, single, doing)
        else:
            recurrence.change(store, job, single, doing.now)
    except BadTokenError:
        # It holds for every job.
        raise
    except RefusedError as refused:
        return refused.code
    if command.action is Action.END and command.cancel:
        doing.cancel(target.job_id, command.by.actor, doing.now, command.reason)
    return "done"


def _single(job_id: JobId, command: Bulk) -> ScheduleChange | acts.Act:
    """The command that does the same to a single job."""
    match command.action:
        case Action.PAUSE:
            return PauseSchedule(job_id, command.by, command.reason)
        case Action.RESUME:
            return ResumeSchedule(job_id, command.by, command.reason)
        case Action.HOLD:
            return acts.Hold(job_id, command.by, command.reason)
        case Action.RELEASE:
            return acts.Release(job_id, command.by, command.reason)
        case Action.RERUN:
            return acts.Rerun(job_id, command.by, command.reason)
        case Action.DELETE:
            return acts.Delete(job_id, command.by, command.reason, ended=True)
        case _:
            return EndSchedule(job_id, command.by, command.cancel, command.reason)
