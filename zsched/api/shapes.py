"""The answers' JSON as types, for the OpenAPI document: those of entities derived from their descriptions."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache
from types import GenericAlias
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from zsched.model import access, queues, records, types
from zsched.model.fields import Id, Natural, shown_fields
from zsched.scheduler.dispatcher.bulk import Action
from zsched.scheduler.dispatcher.commands import CauseCode
from zsched.store.contract import Claimed

# A member of an answer: its name, its type, and what it means.
Member = tuple[str, Any, str]


def shape(entity: type[Struct], *more: Member, name: str = "", without: Collection[str] = ()) -> Any:
    """The JSON object of an entity as a type, with further members. Its name is the entity's unless it is given.
    `without`: fields that are not shown.
    """
    members = [*_members(entity, without), *more]
    described: list[Any] = [
        (member, Annotated[kind, Meta(description=doc)], *_default(kind)) for member, kind, doc in members
    ]
    made = msgspec.defstruct(name or entity.__name__, described, kw_only=True)
    made.__doc__ = entity.__doc__
    return made


@cache
def _nested(entity: type[Struct]) -> Any:
    """One type for an entity that several others hold."""
    return shape(entity)


def maybe(kind: Any) -> Any:
    """A type, for a member that is left out where it has no value."""
    return kind | UnsetType


def _default(kind: Any) -> tuple[UnsetType, ...]:
    return (UNSET,) if UnsetType in get_args(kind) else ()


def _members(entity: type[Struct], without: Collection[str] = ()) -> Iterator[Member]:
    for field in shown_fields(entity, without):
        if field.form.flat and field.entity is not None:
            yield from _members(field.entity)
            continue
        kind = _nested(field.entity) if field.entity is not None else field.shown
        always = field.always and not field.form.only_with
        yield field.json, kind if always else maybe(kind), field.doc


class Why(Struct):
    """Why a job waits: a stable word, and a sentence that may change."""

    code: CauseCode
    detail: str


RUN: Final = shape(types.Run, ("logs", maybe(str), "What it wrote, as a text; long texts are cut in the middle."))
JOB: Final = shape(types.Job)
JOB_WITH_RUN: Final = shape(
    types.Job,
    ("last_run", maybe(RUN), "Its run with the highest number."),
    ("why", maybe(Why), "Why it is pending, if it is."),
    name="JobWithRun",
)
TASK: Final = msgspec.defstruct(
    "Task",
    [
        ("task", Annotated[Natural, Meta(description="Its index.")]),
        ("status", Annotated[types.RunStatus, Meta(description="Its state: that of its last run, if it has one.")]),
        ("held", Annotated[maybe(bool), Meta(description="Whether it waits for a release.")], UNSET),
        ("reason", Annotated[maybe(str), Meta(description="Why it is in this state: a stable word.")], UNSET),
        ("entry", Annotated[maybe(str), Meta(description="Its entry, for a job by `each`.")], UNSET),
        ("last_run", Annotated[maybe(RUN), Meta(description="Its run with the highest number.")], UNSET),
    ],
)
HANDED_JOB: Final = shape(Claimed, name="HandedJob", without=("secret_env",))
FOREIGN: Final = shape(records.ForeignRuns, name="Foreign")
WORKER: Final = shape(
    types.Worker, ("foreign", maybe(GenericAlias(tuple, (FOREIGN, ...))), "What it holds for other databases.")
)
QUEUE: Final = shape(
    queues.Queue,
    ("paused", bool, "Whether it is paused: then none of its runs is handed out."),
    ("pending", Natural, "How many of its tasks are pending."),
    ("running", Natural, "How many of its tasks are running."),
)
TOKEN: Final = shape(access.Token)
NEW_TOKEN: Final = shape(access.Token, ("token", str, "The token with its secret, shown this once."), name="NewToken")
REVOKED_TOKEN: Final = shape(
    access.Token,
    ("live_jobs", Natural, "How many of its jobs go on; with `ending` they are being ended."),
    ("live_schedules", Natural, "How many of its schedules go on."),
    name="RevokedToken",
)
KEY: Final = shape(access.WorkerKey, name="Key")
EVENT: Final = shape(records.Event)
USAGE: Final = shape(records.Usage)
SCHEDULER: Final = shape(records.Instance, name="Scheduler")
# What a worker that polls gets; null when there is nothing for it.
NEXT: Final = msgspec.defstruct("Next", [("job", HANDED_JOB | None)])


def array(kind: Any) -> object:
    """A list of these."""
    return GenericAlias(list, (kind,))


class Group(Struct):
    """Some jobs: how many, and their numbers as a text such as `1-5000,7001`. The text of very many parts is cut; the
    count is not.
    """

    count: Id
    jobs: str


class BulkDone(Struct, kw_only=True):
    """What became of the jobs: `done`; `ending`: cancelled, and a worker still has to end the run. The others have the
    code of the error that a call on the single job is answered with. With `next`, there are more jobs: send the same
    request with `after` set to it.
    """

    action: Action
    done: Group | UnsetType = UNSET
    ending: Group | UnsetType = UNSET
    finished: Group | UnsetType = UNSET
    recurring: Group | UnsetType = UNSET
    too_many_pending: Group | UnsetType = UNSET
    too_many_demands: Group | UnsetType = UNSET
    priority_max: Group | UnsetType = UNSET
    unique: Group | UnsetType = UNSET
    no_schedule: Group | UnsetType = UNSET
    schedule_ended: Group | UnsetType = UNSET
    live: Group | UnsetType = UNSET
    dependency: Group | UnsetType = UNSET
    dependents: Group | UnsetType = UNSET
    not_owner: Group | UnsetType = UNSET
    unknown_job: Group | UnsetType = UNSET
    next: Id | UnsetType = UNSET


class NewFlow(Struct):
    """A flow that was submitted: its number, which is that of its first job, and the numbers of its jobs by name."""

    flow: Id
    jobs: dict[str, Id]


class Purged(Struct, kw_only=True):
    """How many old jobs were removed, or would be with `dry_run`, by status. With `more`, there may be more: send the
    same request again. A count with `more` is a lower bound.
    """

    success: Natural
    failed: Natural
    cancelled: Natural
    more: bool


class Waited(Struct, kw_only=True):
    """The jobs by their status. With `after` in the request only those that have changed since then. `unknown_job`:
    these jobs do not exist. `next` is for `after` in the next request.
    """

    next: Natural
    pending: Group | UnsetType = UNSET
    running: Group | UnsetType = UNSET
    success: Group | UnsetType = UNSET
    failed: Group | UnsetType = UNSET
    cancelled: Group | UnsetType = UNSET
    unknown_job: Group | UnsetType = UNSET


class Artifact(Struct):
    """A file that a run has left: its path below the scratch folder, its size in bytes, and its permission bits."""

    run_id: Id
    path: str
    bytes: Natural
    mode: str


class Ok(Struct):
    """The call was done."""

    status: Literal["ok"]


class Enrolled(Struct, kw_only=True):
    """Where the ZeroMQ port is, the identity of the database, and the scheduler's public key where workers need one."""

    endpoint: str
    db: str
    server_key: str | UnsetType = UNSET


class Tasks(Struct, kw_only=True):
    """How many tasks are in each state."""

    pending: Natural
    running: Natural
    success: Natural
    failed: Natural
    cancelled: Natural


class Flow(Struct, kw_only=True):
    """A flow: `running` or `pending` if one of its jobs is, else `failed` or `cancelled` if one is, else `success`; its
    jobs, and how many of them are in each state.
    """

    flow: Id
    status: types.RunStatus
    jobs: Group
    by_status: Tasks


class WorkersByStatus(Struct, kw_only=True):
    """How many workers are in each state."""

    active: Natural
    inactive: Natural


class Stats(Struct, kw_only=True):
    """How many tasks and workers are in each state, and how many calls were refused."""

    tasks: Tasks
    workers: WorkersByStatus
    # By the `code` of the error, since the scheduler's start.
    refused: dict[str, Natural]
    version: str
    role: records.Role
    schedulers: tuple[SCHEDULER, ...]  # type: ignore[valid-type]  # made of the entity's description


class Version(Struct, kw_only=True):
    """Name and version of the program, and the role of this scheduler."""

    name: Literal["zsched"]
    version: str
    role: records.Role


class Fault(Struct):
    """Where and what is wrong: a JSON pointer into the body, or the name of a parameter."""

    pointer: str
    detail: str


class Error(Struct, kw_only=True):
    """The one error body. `error` and `detail` are a sentence for people, `code` is a word for programs."""

    error: str
    type: Literal["about:blank"]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    instance: str
    code: str
    errors: tuple[Fault, ...]
    request_id: str
    # With `standby`: the URL of the scheduler that can serve the call, where it is known.
    active: str | UnsetType = UNSET
    # With `unique`: the job that has the key.
    existing: Id | UnsetType = UNSET
