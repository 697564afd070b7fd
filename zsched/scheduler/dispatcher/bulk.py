"""One action on many jobs, some hundred in each turn: the caller sends the command again until all are done.

The jobs are taken in the order of their ids, so the last id is all that the next step needs. Nothing is stored of a
bulk call except its effects: after a restart the caller begins again, and these jobs are done.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Final

from zsched.model.lifecycle import TERMINAL
from zsched.model.limits import BULK_JOBS_MAX
from zsched.model.spans import Span, of
from zsched.model.types import JobId, Now
from zsched.scheduler.dispatcher import owners, recurrence
from zsched.scheduler.dispatcher.cancels import CancelJob
from zsched.scheduler.dispatcher.commands import (
    Action,
    Bulk,
    BulkDone,
    EndSchedule,
    PauseSchedule,
    RefusedError,
    ResumeSchedule,
    ScheduleChange,
)
from zsched.store.contract import Store, Target

log = logging.getLogger(__name__)

_UNKNOWN: Final = "unknown_job"


def step(store: Store, command: Bulk, cancel: CancelJob, now: Now) -> BulkDone:
    """Do the next part of a bulk command. `cancel` cancels what is live of a job."""
    targets, unknown, after = _all(store, command) if command.selection.ids is None else _named(store, command)
    outcomes: dict[str, list[Span]] = defaultdict(list)
    filtered = command.selection.owner is not None or command.selection.status is not None
    if unknown and not filtered:
        outcomes[_UNKNOWN] += unknown
    for target in targets:
        # A job of another owner is left out even if it passes the filter: an answer would reveal its status.
        if not filtered or (owners.may_act(command.by, target.owner) and _matches(target, command)):
            outcomes[_act(store, target, command, cancel, now)].append((target.job_id, target.job_id))
    done = BulkDone({outcome: of(spans) for outcome, spans in outcomes.items()}, after)
    counts = {outcome: len(ids) for outcome, ids in done.outcomes.items()}
    log.debug("%s of many jobs by %s: %s", command.action, command.by.actor, counts)
    return done


def _all(store: Store, command: Bulk) -> tuple[list[Target], list[Span], JobId | None]:
    """The next jobs that the action can change, no unknown ids, and the last id; None when there are no more."""
    read = store.live if command.action is Action.CANCEL else store.recurring
    targets = read(command.selection.owner, command.after, BULK_JOBS_MAX)
    return targets, [], targets[-1].job_id if len(targets) == BULK_JOBS_MAX else None


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


def _act(store: Store, target: Target, command: Bulk, cancel: CancelJob, now: Now) -> str:
    """Apply the action to one job. Returns the outcome: "done", "ending", or the code of the refusal."""
    if not owners.may_act(command.by, target.owner):
        return "not_owner"
    actor = command.by.actor
    if command.action is Action.CANCEL:
        # Only a fire makes an ended job live again, and fires come after the commands of a turn.
        met = None if target.status in TERMINAL else cancel(target.job_id, actor, now)
        return met or "finished"
    job = store.job(target.job_id)
    assert job is not None
    try:
        recurrence.change(store, job, _single(target.job_id, command), now)
    except RefusedError as refused:
        return refused.code
    if command.action is Action.END and command.cancel:
        cancel(target.job_id, actor, now)
    return "done"


def _single(job_id: JobId, command: Bulk) -> ScheduleChange:
    """The command that does the same to a single job."""
    match command.action:
        case Action.PAUSE:
            return PauseSchedule(job_id, command.by)
        case Action.RESUME:
            return ResumeSchedule(job_id, command.by)
        case _:
            return EndSchedule(job_id, command.by, command.cancel)
