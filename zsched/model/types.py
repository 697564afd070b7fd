"""Jobs, their runs and the workers, and reasons of ends. Pure.

Every other module builds on it. A **job** has tasks. Each attempt of a task is a **run** with an id of its own, which
grows and is never used again: it is the fencing token that decides which result counts. A **worker** executes runs.
Each field is described once, here: see fields.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, NewType

from msgspec import Struct
from msgspec.structs import replace

from zsched.model.after import AFTER, Dependency
from zsched.model.arrays import ARRAY_CODEC, PROGRESS, Progress, TaskArray
from zsched.model.blocked import Blocked
from zsched.model.entries import Entries
from zsched.model.fields import (
    ARRAY,
    HIDDEN,
    LABELS,
    NEVER,
    TEXT,
    TIME,
    WORDS,
    Codec,
    Form,
    Id,
    Natural,
    about,
)
from zsched.model.files import File
from zsched.model.launch import Launch
from zsched.model.names import DEFAULT_QUEUE
from zsched.model.policy import OnDisconnect as OnDisconnect
from zsched.model.policy import OnLost as OnLost
from zsched.model.policy import Policy as Policy
from zsched.model.policy import lease_margin_ms as lease_margin_ms
from zsched.model.queues import LIMITS, QUEUE, UNIQUE
from zsched.model.requirements import NOTHING, Requirements

JobId = NewType("JobId", int)
RunId = NewType("RunId", int)
DemandId = NewType("DemandId", int)
WorkerId = NewType("WorkerId", str)

StreamName = Literal["stdout", "stderr"]
# What the store says to a result.
Verdict = Literal["stored", "duplicate", "stale", "unknown"]


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
    """How a worker communicates: in a ZeroMQ session, or by polling over REST."""

    ZMQ = "zmq"
    REST = "rest"


class Reason(StrEnum):
    """Why a run is in its state. The words are stable; the sentence in `detail` may change.

    A reason that a worker reports also stands in protocol/frames.py, `RunResult.reason`; which move of a run has which
    reason, in lifecycle.py.
    """

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
    REPORTED = "reported"  # by a REST worker, without an exit code
    RETURNED = "returned"  # handed back unstarted: pending again
    UNDELIVERED = "undelivered"  # surely never reached the worker: pending again
    CWD_MISSING = "cwd_missing"  # its folder is not on the worker's host, or its user may not enter it
    EXPIRED = "expired"  # it had not started at its deadline
    DEPENDENCY = "dependency"  # a job that it waited for has ended otherwise
    MAX_FAILS = "max_fails"  # more tasks of its array had failed than its job allows


class Work(Launch, frozen=True, kw_only=True):
    """What a job executes."""

    name: Annotated[str, about("Name of the job.", Form(rank=1))]
    command: Annotated[str, about("Command line for `sh -c --`.", Form(rank=1))]


class JobFields(Work, frozen=True, kw_only=True):
    """What a caller may say of a job and the database keeps."""

    schedule: Annotated[
        str | None,
        about("Five cron fields in UTC. None: the job runs once.", Form(rank=3)),
    ] = None
    run_at_ms: Annotated[
        int | None, about("It starts no earlier. None: at once.", Form(json="run_at", rank=3, codec=TIME))
    ] = None
    deadline_ms: Annotated[
        int | None,
        about("It starts no later: then a pending task fails as `expired`.", Form(json="deadline", rank=3, codec=TIME)),
    ] = None
    tags: Annotated[tuple[str, ...], about("Words by which lists can be filtered.", Form(rank=2, codec=WORDS))] = ()
    priority: Annotated[int, about("Jobs with a higher one start first.", Form(rank=2))] = 0
    queue: Annotated[str, about("Its queue. Workers choose which they serve.", Form(rank=2, codec=QUEUE))] = (
        DEFAULT_QUEUE
    )
    requires: Annotated[Requirements, about("What its worker must have.", Form(rank=2, flat=True))] = NOTHING
    limits: Annotated[
        Mapping[str, int],
        about("For each key, how many runs with it may be running when one of the job starts.", Form(codec=LIMITS)),
    ] = {}
    unique: Annotated[
        str | None,
        about("No other job with this key is accepted until it has ended.", Form(("unique_key",), codec=UNIQUE)),
    ] = None
    after: Annotated[
        tuple[Dependency, ...],
        about("The jobs that it waits for, with the ends that it needs.", Form(("after_jobs",), rank=3, codec=AFTER)),
    ] = ()
    flow: Annotated[JobId | None, about("The flow that it belongs to: the number of its first job.", Form(rank=3))] = (
        None
    )
    array: Annotated[
        TaskArray | None,
        about(
            "The indexes of its tasks, such as `0-15:4%4`: with `%4`, at most four of them run at once.",
            Form(("task_array",), rank=2, codec=ARRAY_CODEC),
        ),
    ] = None
    max_fails: Annotated[
        Natural | None,
        about("When more tasks of the array have failed for good, those that have not started are cancelled."),
    ] = None
    policy: Annotated[Policy, about("Limits, retries and losses.", Form(rank=4, flat=True))] = Policy()


class JobSpec(JobFields, frozen=True, kw_only=True):
    """What a caller asks for, checked. The values of `secret_env` are sealed.

    A job with a schedule makes no run at submit unless `run_now` asks for one. `delay_ms` and `expiry_ms` count from
    the submit, which turns them into `run_at_ms` and `deadline_ms`. `flow`: any number makes the jobs of a request a
    flow, which gets the number of its first job.
    """

    run_now: bool = False
    hold: bool = False
    delay_ms: int | None = None
    expiry_ms: int | None = None
    stdin: str | None = None
    each: Entries | None = None
    files: tuple[File, ...] = ()

    @property
    def tasks(self) -> int:
        """The number of its tasks."""
        return 1 if self.array is None else len(self.array)

    @property
    def needs(self) -> tuple[str, ...]:
        """The features that a worker must have."""
        features = self.features
        if self.stdin is not None:
            features.append("stdin")
        if self.array is not None:
            features.append("task" if self.each is None else "entry")
        if self.files:
            features.append("files")
        if self.policy.signal is not None:
            features.append("signal")
        if self.policy.on_disconnect is OnDisconnect.STOP:
            features.append("stop")
        features.sort()
        return tuple(features)

    @property
    def stdin_bytes(self) -> int | None:
        """The size of its input; None without one."""
        return None if self.stdin is None else len(self.stdin.encode())

    @property
    def files_bytes(self) -> int | None:
        """The size of its files; None without any."""
        return sum(len(file.data) for file in self.files) if self.files else None

    @property
    def is_held(self) -> bool:
        """Whether its first run has a start time, a deadline or limits, or waits for other jobs."""
        return self.run_at_ms is not None or self.deadline_ms is not None or bool(self.limits) or bool(self.after)

    def numbered(self, first: JobId) -> JobSpec:
        """The spec of a job in a request whose first job has this number: with numbers in the place of places."""
        if self.flow is None and not self.after:
            return self
        after = tuple(dependency.numbered(first) for dependency in self.after)
        return replace(self, after=after, flow=None if self.flow is None else first)

    def submitted_at(self, now_ms: int) -> JobSpec:
        """The spec of a job that is submitted now: with times instead of durations."""
        if self.delay_ms is None and self.expiry_ms is None:
            return self
        run_at_ms = self.run_at_ms if self.delay_ms is None else now_ms + self.delay_ms
        deadline_ms = self.deadline_ms if self.expiry_ms is None else now_ms + self.expiry_ms
        return replace(self, run_at_ms=run_at_ms, deadline_ms=deadline_ms)

    def blocked_at(self, now_ms: int) -> int:
        """The bits of Blocked of its first run, when it is submitted now."""
        blocked = (Blocked.LIMITED if self.limits else 0) | (Blocked.PARENTS if self.after else 0)
        if self.run_at_ms is None or self.run_at_ms <= now_ms:
            return blocked
        return blocked | (Blocked.DATE if self.delay_ms is None else Blocked.DUE)


class Job(JobFields, frozen=True, kw_only=True):
    """A job as it is stored. A paused or ended schedule has no `next_fire_ms`."""

    job_id: Annotated[JobId, about("Number of the job.", Form(json="id", rank=0))]
    status: Annotated[RunStatus, about("Status of its tasks together.", Form(rank=2))]
    owner: Annotated[
        str,
        about(
            "`user:NAME` or `token:NAME`, who submitted it. Empty: it was stored before jobs had owners.",
            Form(rank=2, computed=True, codec=TEXT),
        ),
    ] = ""
    stdin_bytes: Annotated[Natural | None, about("Size of its input.")] = None
    entries: Annotated[
        Natural | None, about("The number of entries that it was submitted with: one for each task.")
    ] = None
    tasks: Annotated[
        Progress | None,
        about("How many of the array's tasks are in each state.", Form(computed=True, rank=2, codec=PROGRESS)),
    ] = None
    files_bytes: Annotated[Natural | None, about("Size of the files that go with it.")] = None
    next_fire_ms: Annotated[int | None, about("When the schedule fires next.", Form(rank=3, codec=TIME))] = None
    live: Annotated[
        bool,
        about(
            "Whether a run is pending or running. Shown for recurring jobs.",
            Form(rank=3, computed=True, omit=NEVER, only_with="schedule"),
        ),
    ] = False
    paused_ms: Annotated[int | None, about("When its schedule was paused.", Form(rank=3, codec=TIME))] = None
    ended_ms: Annotated[int | None, about("When its schedule was ended for good.", Form(rank=3, codec=TIME))] = None
    cancel_ms: Annotated[int | None, about("When it was cancelled.", Form(json="cancelled_at", rank=6, codec=TIME))] = (
        None
    )
    cancel_reason: Annotated[str | None, about("Why it was cancelled, as the caller said.", Form(rank=6))] = None
    held_ms: Annotated[int | None, about("Since when it is held: no run of it starts.", Form(rank=3, codec=TIME))] = (
        None
    )
    hold_reason: Annotated[str | None, about("Why it is held, as the caller said.", Form(rank=3))] = None
    removing_ms: Annotated[
        int | None, about("Since when its runs are being removed; then it is removed itself.", Form(rank=6, codec=TIME))
    ] = None
    created_ms: Annotated[int, about("When it was submitted.", Form(rank=6, codec=TIME))]
    updated_ms: Annotated[int, about("When it changed last.", Form(rank=6, codec=TIME))]


class Run(Struct, frozen=True, kw_only=True):
    """One attempt of one task of a job, as it is stored."""

    run_id: Annotated[RunId, about("Number of the run.")]
    job_id: Annotated[JobId, about("Number of its job.")]
    task: Annotated[int | None, about("Index of its task, if its job is an array.", Form(computed=True))] = None
    attempt: Annotated[Natural, about("Number of the attempt, from 1: how many runs of the task have started.")]
    worker_id: Annotated[WorkerId | None, about("The worker that has or had it.")] = None
    status: Annotated[RunStatus, about("State of the run.")]
    reason: Annotated[str | None, about("Why it is in this state: a stable word for programs.", Form(shown=Reason))] = (
        None
    )
    detail: Annotated[str | None, about("A sentence for people on the reason. It may change.")] = None
    due_ms: Annotated[int | None, about("When it may start, if it waits for a time.", Form(codec=TIME))] = None
    blocked: Annotated[int, about("Bits of Blocked, which keep a pending run from starting.", Form(json=HIDDEN))] = 0
    avoids: Annotated[WorkerId | None, about("The worker on which its task has failed before.", Form(json=HIDDEN))] = (
        None
    )
    exit_code: Annotated[int | None, about("Exit code of its process.")] = None
    signal: Annotated[int | None, about("Number of the signal that ended its process.")] = None
    crashes: Annotated[Natural, about("How many runs of the task may have killed their workers.")] = 0
    failures: Annotated[Natural, about("How many runs of the task before this one failed by themselves.")] = 0
    returns: Annotated[Natural, about("How often a run of the task came back from a worker unstarted.")] = 0
    probation: Annotated[bool, about("Whether it is on probation; if it has ended: whether it was then.")] = False
    claimed_ms: Annotated[int | None, about("When a worker got it, by the scheduler's clock.", Form(json=HIDDEN))] = (
        None
    )
    started_ms: Annotated[
        int | None, about("When it started, by the worker's clock.", Form(json="start_time", codec=TIME))
    ] = None
    finished_ms: Annotated[
        int | None, about("When it ended, by the worker's clock.", Form(json="end_time", codec=TIME))
    ] = None
    cancel_ms: Annotated[int | None, about("When it was cancelled.", Form(json=HIDDEN))] = None
    created_ms: Annotated[int, about("When it was made.", Form(codec=TIME))]


# Structs: they are made for each run, and frozen dataclasses take five times as long to make.
class Stream(Struct, frozen=True, kw_only=True):
    """The kept part of an output stream: its first bytes, its last bytes, and the length of the whole stream."""

    head: bytes = b""
    tail: bytes = b""
    total: int = 0

    @property
    def cut(self) -> int:
        """Number of bytes between head and tail that were not kept."""
        return self.total - len(self.head) - len(self.tail)


class Outcome(Struct, frozen=True, kw_only=True):
    """How a run ended, as its worker reports it. `status` is success or failed. `left_out`: artifacts that were not
    kept.
    """

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
    artifacts: tuple[File, ...] = ()
    left_out: int = 0


class Worker(Struct, frozen=True, kw_only=True):
    """A worker as it is stored. `boot_id` and `lock` prove that an earlier start of it is dead.

    A field that a worker announces comes in `Register` (protocol/frames.py) and, for a worker that polls, in
    `RegisterBody` (api/body.py).
    """

    worker_id: Annotated[WorkerId, about("Name of the worker.")]
    status: Annotated[WorkerStatus, about("`active`: it is connected, or polls.")]
    kind: Annotated[WorkerKind, about("How it speaks: over ZeroMQ, or by polling over REST.")]
    slots: Annotated[Id, about("How many runs it executes at the same time.")]
    host: Annotated[str, about("Name of its host.")] = ""
    incarnation: Annotated[str, about("Random text of its last start.", Form(json=HIDDEN))] = ""
    boot_id: Annotated[str, about("Random text of its host's last boot.", Form(json=HIDDEN))] = ""
    lock: Annotated[
        tuple[int, int],
        about(
            "Device and inode of the file that it holds locked.",
            Form(("lock_device", "lock_inode"), json=HIDDEN, codec=Codec(read=tuple, write=tuple)),
        ),
    ] = (0, 0)
    agent: Annotated[str, about("Program and release.")] = ""
    can: Annotated[tuple[str, ...], about("Its features, such as `env` and `user`.", Form(codec=ARRAY))] = ()
    labels: Annotated[Mapping[str, str], about("Its labels.", Form(codec=LABELS))] = {}
    queues: Annotated[
        tuple[str, ...], about("The queues that it serves; `*`: all. Absent: `default`.", Form(codec=ARRAY))
    ] = (DEFAULT_QUEUE,)
    leaving_ms: Annotated[int | None, about("When it announced its end, if it did.", Form(codec=TIME))] = None
    last_seen_ms: Annotated[int, about("When it was heard last.", Form(json="last_seen", codec=TIME))]
    registered_ms: Annotated[int, about("When it registered first.", Form(codec=TIME))]
