"""What zsched is about: jobs, their runs, the workers, and which changes of state exist. Pure; every other module
builds on it.

A **job** is what a caller wants done. Each attempt to do it is a **run** with an id of its own, which grows and is
never used again: it is the fencing token that decides whose result counts. A **worker** executes runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal, NewType

from zsched.model.limits import CRASH_LIMIT_DEFAULT, GRACE_MS_DEFAULT, LEASE_MARGIN_MS

JobId = NewType("JobId", int)
RunId = NewType("RunId", int)
DemandId = NewType("DemandId", int)
WorkerId = NewType("WorkerId", str)

StreamName = Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class Now:
    """The time of one turn. `mono_ms` grows steadily and decides liveness; `wall_ms` is UTC since 1970 and may jump."""

    mono_ms: int
    wall_ms: int


class RunStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WorkerStatus(StrEnum):
    ACTIVE = "active"
    INACTIVE = "inactive"


class WorkerKind(StrEnum):
    """How a worker speaks: over its ZeroMQ session, or by asking over REST."""

    ZMQ = "zmq"
    REST = "rest"


class Reason(StrEnum):
    """Why a run is in the state it is in. Stable words; the sentence beside them may change."""

    EXIT = "exit"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    SPAWN_ERROR = "spawn_error"
    WORKER_LOST = "worker_lost"
    LEASE_STOP = "lease_stop"  # its worker could not reach the scheduler, and ended it in time
    CRASH_LIMIT = "crash_limit"
    UNKILLABLE = "unkillable"  # its worker was lost, and could not end its processes before
    QUARANTINED = "quarantined"
    REPORTED = "reported"  # a REST worker's own word, without an exit code
    RETURNED = "returned"  # handed back unstarted: pending again
    UNDELIVERED = "undelivered"  # surely never reached the worker: pending again


class Succession(StrEnum):
    """Why a task's run has a successor, in the event that makes it: its worker was lost, or it failed and is tried
    again.
    """

    REQUEUED = "requeued"
    RETRY = "retry"


# The state table of a run. What is not in it does not exist, and the store's trigger aborts it.
TRANSITIONS: Final[Mapping[RunStatus, frozenset[RunStatus]]] = {
    RunStatus.PENDING: frozenset({RunStatus.RUNNING, RunStatus.CANCELLED, RunStatus.FAILED}),
    RunStatus.RUNNING: frozenset({RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.CANCELLED, RunStatus.PENDING}),
    RunStatus.SUCCESS: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}
TERMINAL: Final = frozenset(status for status, successors in TRANSITIONS.items() if not successors)


class Blocked:
    """The bits that hold a pending run back. A run is ready when none is set, so a claim never has to skip a row."""

    DEPENDENCY: Final = 1
    DUE: Final = 2
    HELD: Final = 4
    PAUSED: Final = 8
    CAP: Final = 16
    CANCEL: Final = 32


class OnLost(StrEnum):
    """What becomes of a task whose worker was lost: it runs again (at least once), or not (at most once)."""

    REQUEUE = "requeue"
    FAIL = "fail"


class OnDisconnect(StrEnum):
    """What a run does while its worker can't reach the scheduler: it goes on, or ends before another may start."""

    CONTINUE = "continue"
    STOP = "stop"


def lease_margin_ms(lease_ms: int) -> int:
    """How long after the end of a lease another run of its task may start: both clocks may be wrong."""
    return max(LEASE_MARGIN_MS, lease_ms // 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long a retry waits: `initial_ms` after the first failure, `factor` times longer after each further one, up
    to `max_ms`; and less by a share of at most `jitter`, so that what failed together does not come back together.
    """

    initial_ms: int = 5_000
    factor: float = 2.0
    max_ms: int = 3_600_000
    jitter: float = 0.1


USUAL_BACKOFF: Final = Backoff()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long a job's run may take, and what becomes of it when something goes wrong.

    `timeout_ms` of one attempt, None for no limit; `grace_ms` from TERM to KILL. `retries`: how often a task that
    failed is tried again. `crash_limit`: the crash with that number fails a task for good; None: no crash does.
    """

    timeout_ms: int | None = None
    grace_ms: int = GRACE_MS_DEFAULT
    retries: int = 0
    backoff: Backoff = USUAL_BACKOFF
    on_lost: OnLost = OnLost.REQUEUE
    on_disconnect: OnDisconnect = OnDisconnect.CONTINUE
    crash_limit: int | None = CRASH_LIMIT_DEFAULT


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What a caller asks for, checked. `schedule` is five cron fields in UTC.

    A job with a schedule makes no run at submit unless `run_now` asks for one. `user`: the user it runs as; None
    leaves that to the worker. `env` and `secret_env` are its own variables; the values of the secret ones are sealed.
    """

    name: str
    command: str
    schedule: str | None = None
    run_now: bool = False
    policy: Policy = Policy()
    user: str | None = None
    env: Mapping[str, str] | None = None
    secret_env: Mapping[str, str] | None = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The features that a worker needs beyond a plain command line: without them it would run something else."""
        stop = True if self.policy.on_disconnect is OnDisconnect.STOP else None
        asked = (("env", self.env), ("secret_env", self.secret_env), ("stop", stop), ("user", self.user))
        return tuple(name for name, value in asked if value is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it is stored. Times are milliseconds since 1970 UTC. `owner` as in Caller, or empty for a job that was
    stored before jobs had owners.

    `paused_ms` and `ended_ms` are those of its schedule; with either it has no `next_fire_ms`. `live`: a run of it is
    pending or running.
    """

    job_id: JobId
    name: str
    command: str
    status: RunStatus
    created_ms: int
    updated_ms: int
    schedule: str | None = None
    next_fire_ms: int | None = None
    policy: Policy = Policy()
    cancel_ms: int | None = None
    user: str | None = None
    env: Mapping[str, str] | None = None
    secret_env: Mapping[str, str] | None = None
    owner: str = ""
    paused_ms: int | None = None
    ended_ms: int | None = None
    live: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEdit:
    """What a caller changes of a recurring job, checked. None leaves a field as it is; a `timeout_ms` of 0 removes the
    limit.
    """

    name: str | None = None
    command: str | None = None
    schedule: str | None = None
    timeout_ms: int | None = None

    def applied_to(self, job: Job) -> Job:
        """The job with the changes. Its `next_fire_ms` is not touched."""
        timeout_ms = job.policy.timeout_ms if self.timeout_ms is None else self.timeout_ms or None
        return replace(
            job,
            name=self.name or job.name,
            command=self.command or job.command,
            schedule=self.schedule or job.schedule,
            policy=replace(job.policy, timeout_ms=timeout_ms),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt of one task of a job, as it is stored. `claimed_ms` is when a worker got it, by the scheduler's
    clock; `started_ms` and `finished_ms` are the worker's word. `attempt` counts from 1 the runs that started,
    `failures` those before this one that failed by themselves, `crashes` those that took their worker with them.
    `due_ms`: it waits until then.
    """

    run_id: RunId
    job_id: JobId
    task: int
    attempt: int
    status: RunStatus
    created_ms: int
    worker_id: WorkerId | None = None
    reason: str | None = None
    detail: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    crashes: int = 0
    failures: int = 0
    due_ms: int | None = None
    claimed_ms: int | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
    cancel_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What is kept of one output stream: the first bytes, the last bytes, and how many there were in all."""

    head: bytes = b""
    tail: bytes = b""
    total: int = 0

    @property
    def cut(self) -> int:
        """How many bytes between head and tail were not kept."""
        return self.total - len(self.head) - len(self.tail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended, as its worker reports it. `status` is success or failed."""

    run_id: RunId
    status: RunStatus
    reason: str
    detail: str = ""
    exit_code: int | None = None
    signal: int | None = None
    started_ms: int | None = None
    finished_ms: int
    stdout: Stream = Stream()
    stderr: Stream = Stream()


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A worker as it is stored. `boot_id` and `lock` (device, inode) are what proves that an earlier start of it is
    dead. `leaving_ms` is when it announced its end; None: it did not.
    """

    worker_id: WorkerId
    kind: WorkerKind
    status: WorkerStatus
    slots: int
    registered_ms: int
    last_seen_ms: int
    host: str = ""
    incarnation: str = ""
    boot_id: str = ""
    lock: tuple[int, int] = (0, 0)
    agent: str = ""
    can: tuple[str, ...] = ()
    labels: Mapping[str, str] | None = None
    leaving_ms: int | None = None


class ForeignDecision(StrEnum):
    """The operator's decision on a worker's foreign runs: they continue beside new work, or they are ended."""

    KEEP = "keep"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRuns:
    """What a worker holds for a database other than the scheduler's, by its last report. `running` counts the runs with
    processes, and `runs` names the first of them; `results` counts results on its disk. `since_ms` is when this
    scheduler first heard of it.
    """

    worker_id: WorkerId
    db: str
    running: int
    results: int
    runs: tuple[int, ...] = ()
    since_ms: int
    decision: ForeignDecision | None = None
    decided_by: str | None = None
    decided_ms: int | None = None


class Scope(StrEnum):
    """What a caller may do. Each call needs one of these; `admin` may do all.

    `submit`: submit jobs, and act on the caller's own. `operate`: act on the jobs of all owners.
    """

    READ = "read"
    SUBMIT = "submit"
    OPERATE = "operate"
    WORKER = "worker"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a command. `owner` is `user:NAME` or `token:NAME`, and owns the jobs that the caller submits.

    `actor` is the owner with the address of the call, for events. `all_jobs`: the caller may act on jobs of every
    owner. `admin`: it may also change what they run. `token_id` is None for a caller without a token.
    """

    owner: str
    actor: str
    all_jobs: bool
    admin: bool = False
    token_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is kept of a caller's token. `digest` is the SHA-256 of its secret; times as in a job.

    `name` is unique and never used again; a new token without a name gets its id as its name. `run_as`: all its jobs
    run as that user. `pending_max` and `schedules_max` bound how many of its jobs may be pending, and how many of its
    recurring jobs may live. `workers`: the names, or patterns of names, of the workers that it may speak for, empty for
    all; `slots_max` bounds the slots of each. `last_used_ms` is coarse. `ending`: its jobs are being cancelled.
    """

    token_id: str
    name: str = ""
    digest: bytes
    scopes: frozenset[Scope]
    note: str
    created_ms: int
    created_by: str
    expires_ms: int | None = None
    revoked_ms: int | None = None
    run_as: str | None = None
    pending_max: int | None = None
    schedules_max: int | None = None
    workers: tuple[str, ...] = ()
    slots_max: int | None = None
    last_used_ms: int | None = None
    ending: bool = False

    @property
    def owner(self) -> str:
        """The owner of the jobs that the token submits."""
        return f"token:{self.name}"


class KeyOrigin(StrEnum):
    """How a worker's key came to the scheduler: see `dispatcher/access.py`."""

    # By a worker on the scheduler's own host, without a token.
    ENROLLED = "enrolled"
    # By a worker elsewhere, or with a token.
    REMOTE = "remote"
    # By `zsched access new`.
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerKey:
    """A worker's public key, 40 characters of Z85 (ZeroMQ RFC 32); times as in a job. `slots_max`: the most slots that
    a worker with this key gets.
    """

    public_key: str
    worker_id: WorkerId
    origin: KeyOrigin
    created_ms: int
    created_by: str
    revoked_ms: int | None = None
    slots_max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that was done or happened. `actor` did it; `runs` are the first and the last run of a range.

    `was` and `became` are states of a run or a worker; for anything else `became` says what was done.
    """

    event_id: int
    at_ms: int
    actor: str
    became: str
    job_id: JobId | None = None
    runs: tuple[RunId, RunId] | None = None
    worker_id: WorkerId | None = None
    was: str | None = None
    reason: str | None = None
    detail: str | None = None
