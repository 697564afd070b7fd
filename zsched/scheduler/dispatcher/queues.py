"""Queues are paused, resumed, and shared fairly; and the rules of a submit about unique keys and kinds of jobs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from zsched.model.access import Caller
from zsched.model.limits import DEMANDS_MAX, OWNER_DEMANDS_MAX, QUEUES_MAX
from zsched.model.queues import Queue, owned_key, shown_key
from zsched.model.types import JobId, JobSpec, Now
from zsched.scheduler.dispatcher import answers
from zsched.scheduler.dispatcher.answers import Deferred
from zsched.scheduler.dispatcher.commands import Command, ConflictError, FullError, RefusedError
from zsched.store.contract import QueueState, Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PauseQueue(Command[QueueState]):
    """No run of the queue is handed out until it is resumed. Pausing a paused one changes nothing."""

    queue: str
    reason: str
    actor: str


@dataclass(frozen=True, slots=True)
class ResumeQueue(Command[QueueState]):
    """Runs of the queue are handed out again. Resuming another changes nothing."""

    queue: str
    reason: str
    actor: str


@dataclass(frozen=True, slots=True)
class ShareQueue(Command[QueueState]):
    """Set whether the queue is shared fairly between owners, for jobs that are submitted from now on."""

    queue: str
    fair: Literal["owner"] | None
    actor: str


QueueChange = PauseQueue | ResumeQueue | ShareQueue


class TooManyDemandsError(FullError):
    """Too many different kinds of jobs are pending or running; the same command works when some have ended. `owner`:
    the bound is that of an owner.
    """

    def __init__(self, most: int, owner: str = "") -> None:
        jobs = f"jobs of {owner}" if owner else "jobs"
        RefusedError.__init__(
            self,
            "too_many_demands",
            f"{most} kinds of {jobs} that differ in queue, requirements, limits or owner are pending or running:"
            " submit again when some have ended, or use fewer queues and keys",
        )


class UniqueError(ConflictError):
    """A job with the unique key has not ended. `existing`: the job; None: it is in the same request."""

    def __init__(self, key: str, existing: JobId | None) -> None:
        which = "Two jobs of this request have" if existing is None else f"Job {existing} has not ended, and has"
        super().__init__("unique", f"{which} the unique key {key}")
        self.existing = existing


def on_change(store: Store, command: QueueChange, now: Now) -> Deferred[QueueState]:
    """Change a queue; it needs no job. Raises ConflictError at QUEUES_MAX."""
    name, queues = command.queue, store.queues
    if queues.find(name) == Queue(queue=name) and queues.count() >= QUEUES_MAX:
        raise ConflictError("too_many_queues", f"{QUEUES_MAX} queues are paused or fair: resume one of them first")
    match command:
        case PauseQueue():
            if queues.pause(name, command.reason, command.actor, now.wall_ms):
                log.info("queue %s paused by %s", name, command.actor)
        case ResumeQueue():
            if queues.resume(name, command.reason, command.actor, now.wall_ms):
                log.info("queue %s resumed by %s", name, command.actor)
        case ShareQueue():
            queues.share(name, command.fair, command.actor, now.wall_ms)
    return answers.queue_state(name)


def with_own_keys(by: Caller, specs: Sequence[JobSpec]) -> Sequence[JobSpec]:
    """The jobs with their keys as they are stored: those of a caller that may act on its own jobs alone are its own."""
    if by.all_jobs or not any(spec.limits or spec.unique for spec in specs):
        return specs
    return [
        replace(
            spec,
            limits={owned_key(by.owner, key): runs for key, runs in spec.limits.items()},
            unique=spec.unique and owned_key(by.owner, spec.unique),
        )
        for spec in specs
    ]


def demand_free_keys(store: Store, specs: Sequence[JobSpec]) -> None:
    """Raise UniqueError if a job with the unique key of one of these has not ended, or two of these have the same."""
    keys = [spec.unique for spec in specs if spec.unique is not None]
    if not keys:
        return
    named: set[str] = set()
    held = store.unique_holders(set(keys))
    for key in keys:
        if key in held or key in named:
            raise UniqueError(shown_key(key), held.get(key))
        named.add(key)


def demand_few_kinds(store: Store, new: int, by: Caller) -> None:
    """Raise TooManyDemandsError if this many new demands would make more than DEMANDS_MAX live ones, or more than
    OWNER_DEMANDS_MAX of a caller that may act on its own jobs alone: then others have room for theirs.
    """
    if not new:
        return
    if store.live_demands + new > DEMANDS_MAX:
        raise TooManyDemandsError(DEMANDS_MAX)
    if not by.all_jobs and store.live_demands_of(by.owner) + new > OWNER_DEMANDS_MAX:
        raise TooManyDemandsError(OWNER_DEMANDS_MAX, by.owner)
