"""The answers' JSON as types, for the OpenAPI document. views.py makes what these describe; a member without a value is
left out. The tests hold every answer that they get against the document, so the two can't drift apart.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from zsched.model.types import ForeignDecision, OnDisconnect, OnLost, Reason, RunStatus, Scope, WorkerKind, WorkerStatus
from zsched.scheduler.dispatcher.commands import Action

Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, description="RFC 3339 in UTC")]
Id = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]


class Run(Struct, kw_only=True):
    """One attempt to execute a job."""

    run_id: Id
    job_id: Id
    attempt: Natural
    status: RunStatus
    created_at: Time
    worker_id: str | UnsetType = UNSET
    reason: Reason | UnsetType = UNSET
    detail: str | UnsetType = UNSET
    due_at: Time | UnsetType = UNSET
    exit_code: int | UnsetType = UNSET
    signal: int | UnsetType = UNSET
    start_time: Time | UnsetType = UNSET
    end_time: Time | UnsetType = UNSET
    logs: str | UnsetType = UNSET


class Backoff(Struct, kw_only=True):
    """The pauses before retries."""

    initial: str
    factor: float
    max: str
    jitter: float


class Job(Struct, kw_only=True):
    """A job."""

    id: Id
    name: str
    command: str
    status: RunStatus
    created_at: Time
    updated_at: Time
    owner: str | UnsetType = UNSET
    schedule: str | UnsetType = UNSET
    next_fire_at: Time | UnsetType = UNSET
    live: bool | UnsetType = UNSET
    paused_at: Time | UnsetType = UNSET
    ended_at: Time | UnsetType = UNSET
    timeout: str | UnsetType = UNSET
    kill_grace: str | UnsetType = UNSET
    retries: Natural | UnsetType = UNSET
    backoff: Backoff | UnsetType = UNSET
    on_lost: OnLost | UnsetType = UNSET
    on_disconnect: OnDisconnect | UnsetType = UNSET
    crash_limit: Natural | Literal["never"] | UnsetType = UNSET
    user: str | UnsetType = UNSET
    env: dict[str, str] | UnsetType = UNSET
    secret_env: dict[str, str] | UnsetType = UNSET
    cancelled_at: Time | UnsetType = UNSET


class Why(Struct):
    """Why a job waits: a stable word, and a sentence that may change."""

    code: Literal[
        "scheduled",
        "paused",
        "backoff",
        "no_workers",
        "no_match",
        "draining",
        "foreign",
        "probation",
        "no_capacity",
    ]
    detail: str


class JobWithRun(Job, kw_only=True):
    """A job, its run with the highest id, and why it is pending if it is."""

    last_run: Run | UnsetType = UNSET
    why: Why | UnsetType = UNSET


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
    no_schedule: Group | UnsetType = UNSET
    schedule_ended: Group | UnsetType = UNSET
    live: Group | UnsetType = UNSET
    not_owner: Group | UnsetType = UNSET
    unknown_job: Group | UnsetType = UNSET
    next: Id | UnsetType = UNSET


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


class HandedJob(Struct, kw_only=True):
    """A job as a worker that polls gets it, with the run that it is to execute."""

    id: Id
    name: str
    command: str
    created_at: Time
    updated_at: Time
    run_id: Id
    attempt: Id
    timeout_ms: Natural | UnsetType = UNSET
    user: str | UnsetType = UNSET
    env: dict[str, str] | UnsetType = UNSET


class Next(Struct):
    """What a worker that asks gets; null when there is nothing for it."""

    job: HandedJob | None


class Foreign(Struct, kw_only=True):
    """What a worker holds for another database, by its last report: the number of runs with processes, the ids of the
    first of them, and the number of results on its disk.
    """

    worker_id: str
    db: str
    running: Natural
    results: Natural
    runs: tuple[Id, ...]
    since: Time
    decision: ForeignDecision | UnsetType = UNSET
    decided_by: str | UnsetType = UNSET
    decided_at: Time | UnsetType = UNSET


class Worker(Struct, kw_only=True):
    """A worker."""

    worker_id: str
    status: WorkerStatus
    kind: WorkerKind
    slots: Id
    last_seen: Time
    registered_at: Time
    host: str | UnsetType = UNSET
    agent: str | UnsetType = UNSET
    can: tuple[str, ...] | UnsetType = UNSET
    labels: dict[str, str] | UnsetType = UNSET
    leaving_at: Time | UnsetType = UNSET
    foreign: tuple[Foreign, ...] | UnsetType = UNSET


class Ok(Struct):
    """The heartbeat counts."""

    status: Literal["ok"]


class Enrolled(Struct, kw_only=True):
    """Where the ZeroMQ port is, the identity of the database, and the scheduler's public key where workers need one."""

    endpoint: str
    db: str
    server_key: str | UnsetType = UNSET


class Token(Struct, kw_only=True):
    """A caller's token without its secret."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    note: str
    created_at: Time
    created_by: str
    expires_at: Time | UnsetType = UNSET
    revoked_at: Time | UnsetType = UNSET
    last_used_at: Time | UnsetType = UNSET
    run_as: str | UnsetType = UNSET
    pending_max: Id | UnsetType = UNSET
    schedules_max: Natural | UnsetType = UNSET
    workers: tuple[str, ...] | UnsetType = UNSET
    slots_max: Id | UnsetType = UNSET
    ending: Literal[True] | UnsetType = UNSET


class NewToken(Token, kw_only=True):
    """A token with its secret, which is shown this once."""

    token: str


class RevokedToken(Token, kw_only=True):
    """A revoked token, and how many of its jobs and schedules go on. With `ending` they are being ended."""

    live_jobs: Natural
    live_schedules: Natural


class Key(Struct, kw_only=True):
    """The public key that a worker's name is bound to. `origin`: enrolled by a worker on the scheduler's host, by one
    elsewhere or with a token (`remote`), or made for an access file.
    """

    worker_id: str
    public_key: str
    origin: Literal["enrolled", "remote", "file"]
    created_at: Time
    created_by: str
    revoked_at: Time | UnsetType = UNSET
    slots_max: Id | UnsetType = UNSET


class Event(Struct, kw_only=True):
    """Something that was done or happened. `runs` are the first and the last run of a range."""

    id: Id
    at: Time
    actor: str
    became: str
    job_id: Id | UnsetType = UNSET
    runs: tuple[Id, Id] | UnsetType = UNSET
    worker_id: str | UnsetType = UNSET
    was: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    detail: str | UnsetType = UNSET


class Tasks(Struct):
    """How many tasks are in each state."""

    pending: Natural
    running: Natural
    success: Natural
    failed: Natural
    cancelled: Natural


class WorkersByStatus(Struct):
    """How many workers are in each state."""

    active: Natural
    inactive: Natural


class Stats(Struct):
    """Numbers of tasks and workers by status, and of refused calls."""

    tasks: Tasks
    workers: WorkersByStatus
    # By the `code` of the error, since the scheduler's start.
    refused: dict[str, Natural]
    version: str


class Version(Struct):
    """The name and version of the program."""

    name: Literal["zsched"]
    version: str


class Fault(Struct):
    """Where and what is wrong: a JSON pointer into the body, or the name of a parameter."""

    pointer: str
    detail: str


class Error(Struct):
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
