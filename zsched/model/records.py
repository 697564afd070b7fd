"""What the scheduler notes besides jobs and workers: events, runs of other databases, schedulers. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Struct

from zsched.model.fields import ARRAY, NEVER, TIME, Codec, Form, Id, Natural, about
from zsched.model.types import JobId, RunId, WorkerId


def _seconds(ms: int) -> float:
    return ms / 1000


class ForeignDecision(StrEnum):
    """The operator's decision on a worker's foreign runs: they continue while it gets new work, or they are ended."""

    KEEP = "keep"
    DISCARD = "discard"


class ForeignRuns(Struct, frozen=True, kw_only=True):
    """What a worker holds for a database other than the scheduler's, as it last said."""

    worker_id: Annotated[WorkerId, about("The worker.")]
    db: Annotated[str, about("Identity of the other database.")]
    running: Annotated[Natural, about("How many of its runs have processes.")]
    results: Annotated[Natural, about("How many results are on the worker's disk.")]
    runs: Annotated[
        tuple[int, ...],
        about("Numbers of the first runs with processes.", Form(codec=ARRAY, shown=tuple[Id, ...], omit=NEVER)),
    ] = ()
    since_ms: Annotated[int, about("When this scheduler first heard of them.", Form(json="since", codec=TIME))]
    decision: Annotated[ForeignDecision | None, about("What the operator decided.")] = None
    decided_by: Annotated[str | None, about("Who decided.")] = None
    decided_ms: Annotated[int | None, about("When it was decided.", Form(codec=TIME))] = None


class UsageBy(StrEnum):
    """What usage is counted by."""

    OWNER = "owner"
    QUEUE = "queue"


class Usage(Struct, frozen=True, kw_only=True):
    """What the ended runs of an owner, or of a queue, have used since a day."""

    key: Annotated[str, about("The owner, empty for jobs without one; or the queue.")]
    success: Annotated[Natural, about("How many runs ended with success.")]
    failed: Annotated[Natural, about("How many runs failed, those that were retried included.")]
    cancelled: Annotated[Natural, about("How many runs were cancelled.")]
    run_ms: Annotated[
        Natural,
        about("How long they ran, in seconds.", Form(json="run_seconds", codec=Codec(show=_seconds, shown=float))),
    ]


class Role(StrEnum):
    """What a scheduler of a database is: the active one, or one that stands by to take over."""

    ACTIVE = "active"
    STANDBY = "standby"


class Instance(Struct, frozen=True, kw_only=True):
    """A scheduler of the database, as it last published itself."""

    instance: Annotated[str, about("Random name of the process.", Form(json="id"))]
    role: Annotated[Role, about("`active`, or `standby`: it would take over.")]
    host: Annotated[str, about("Its host.")]
    pid: Annotated[Natural, about("Its process on that host.")]
    version: Annotated[str, about("Its release.")]
    url: Annotated[str, about("URL for callers.")]
    endpoint: Annotated[str, about("Address for workers, `tcp://HOST:PORT`, where it listens while it is active.")]
    public_key: Annotated[
        str, about("Public key of its worker port; empty where workers need none.", Form(json="server_key"))
    ]
    started_ms: Annotated[int, about("When it started.", Form(codec=TIME))]
    seen_ms: Annotated[int, about("When it last published itself.", Form(json="last_seen_at", codec=TIME))]


def _run_range(pair: tuple[int | None, int | None]) -> tuple[RunId, RunId] | None:
    first, last = pair
    return None if first is None or last is None else (RunId(first), RunId(last))


class Event(Struct, frozen=True, kw_only=True):
    """Something that was done or happened. `was` and `became` are states of a run or a worker; for anything else
    `became` says what was done.
    """

    event_id: Annotated[int, about("Number of the event.", Form(json="id", shown=Id))]
    at_ms: Annotated[int, about("When it happened.", Form(json="at", codec=TIME))]
    actor: Annotated[str, about("Who did it.")]
    job_id: Annotated[JobId | None, about("The job that it is about.")] = None
    runs: Annotated[
        tuple[RunId, RunId] | None,
        about(
            "First and last run of the range that it is about.",
            Form(("run_first", "run_last"), codec=Codec(read=_run_range)),
        ),
    ] = None
    worker_id: Annotated[WorkerId | None, about("The worker that it is about.")] = None
    was: Annotated[str | None, about("State before.")] = None
    became: Annotated[str, about("State after, or what was done.")]
    reason: Annotated[str | None, about("Why: a stable word for programs.")] = None
    detail: Annotated[str | None, about("A sentence for people.")] = None
