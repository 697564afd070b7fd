"""Commands of callers over REST, their replies, and the errors that refuse them. Commands are checked at the edge.

`by` is the caller of a command on jobs. `actor` is the same for other commands: a text for the event.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from zsched.model.access import Caller, KeyOrigin, Token, WorkerKey
from zsched.model.arrays import Progress
from zsched.model.edits import JobEdit
from zsched.model.files import File
from zsched.model.names import DEFAULT_QUEUE
from zsched.model.records import ForeignDecision, ForeignRuns
from zsched.model.types import Job, JobFields, JobId, JobSpec, Run, RunId, RunStatus, Stream, Worker, WorkerId
from zsched.model.units import counted
from zsched.store.contract import Claimed, RunOutput, Submitted


class RefusedError(Exception):
    """The command is refused and has changed nothing. `code` is a stable word, the message a sentence for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class NotFoundError(RefusedError):
    """The object of the command does not exist."""


class ConflictError(RefusedError):
    """The state of the object does not allow the command."""


class ForbiddenError(RefusedError):
    """The caller may not do this, whatever the state of the object."""


class NotOwnerError(ForbiddenError):
    """The job belongs to another owner, and the caller's scopes do not cover this on it. `needed` ends the sentence."""

    def __init__(self, job_id: JobId, owner: str, needed: str = "the scope operate to act on it") -> None:
        state = f"belongs to {owner}" if owner else "has no owner"
        super().__init__("not_owner", f"Job {job_id} {state}: a token needs {needed}")


class BadTokenError(RefusedError):
    """The caller's token was revoked after the gate had accepted it."""

    def __init__(self) -> None:
        super().__init__("bad_token", "This token was revoked")


class BusyError(RefusedError):
    """The scheduler serves as many as it can; the same command may work later."""


class FullError(RefusedError):
    """As many runs are pending as may be; the same command works when some have started."""

    def __init__(self) -> None:
        super().__init__("too_many_pending", "As many runs are pending as may be: submit again when some have started")


class QuotaError(FullError):
    """As many jobs of the caller's token are pending as it may have."""

    def __init__(self, jobs_max: int) -> None:
        RefusedError.__init__(
            self,
            "too_many_pending",
            f"{counted(jobs_max, 'job')} of this token may be pending, and {'is' if jobs_max == 1 else 'are'}:"
            " submit again when some have started",
        )


class TooManyError(RefusedError):
    """More jobs at once than may ever be pending."""

    def __init__(self, jobs: int, runs_max: int) -> None:
        super().__init__(
            "too_many", f"{counted(jobs, 'job')} at once, and at most {runs_max} runs may be pending: submit fewer"
        )


class ParentError(RefusedError):
    """A job of a submit waits for a job that it can't wait for. `place`: its place in the submit, from 0; `entry`: that
    in its `after`.
    """

    def __init__(self, place: int, entry: int, why: str) -> None:
        super().__init__("invalid_request", why)
        self.place = place
        self.entry = entry


class ReusedError(RefusedError):
    """The Idempotency-Key belongs to another request of this caller."""

    def __init__(self) -> None:
        sentence = "This Idempotency-Key was used for another request: send the same one, or a new key with this one"
        super().__init__("idempotency_key_reused", sentence)


# The first and the last index of some tasks of an array, both included.
Part = tuple[int, int]

# The reply of a command; invariant, so that mypy compares it exactly.
R = TypeVar("R")


class Command(Generic[R]):
    """What a caller asks for. The type names the reply: a `Command[JobState]` is answered with a JobState."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Made:
    """Jobs that a submit has stored, in its order. `specs` are as they were admitted; `next_fires` has one for each."""

    ids: Sequence[JobId]
    specs: Sequence[JobSpec]
    next_fires: Sequence[int | None]
    owner: str
    now_ms: int

    def jobs(self) -> Generator[Job]:
        """The jobs as they were stored. Each is built when it is taken, which the caller's thread does."""
        for job_id, spec, next_fire_ms in zip(self.ids, self.specs, self.next_fires, strict=True):
            yield Job(
                job_id=job_id,
                status=RunStatus.PENDING,
                created_ms=self.now_ms,
                updated_ms=self.now_ms,
                next_fire_ms=next_fire_ms,
                owner=self.owner,
                live=spec.schedule is None or spec.run_now,
                stdin_bytes=spec.stdin_bytes,
                entries=None if spec.each is None else spec.each.count,
                tasks=None if spec.array is None else Progress(spec.tasks, spec.tasks, 0, 0, 0, 0),
                files_bytes=spec.files_bytes,
                held_ms=self.now_ms if spec.hold else None,
                **{name: getattr(spec, name) for name in JobFields.__struct_fields__},
            )


CauseCode = Literal[
    "held", "dependency", "scheduled", "paused", "backoff", "no_workers", "no_match", "draining", "foreign", "limit",
    "probation", "no_capacity"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a job waits: a stable code, and a sentence."""

    code: CauseCode
    detail: str


@dataclass(frozen=True, slots=True)
class JobState:
    """A job, its last run, what is kept of that run's output, and why the job waits if it does."""

    job: Job
    last: Run | None
    output: RunOutput | None
    cause: Cause | None


@dataclass(frozen=True, slots=True)
class RunState:
    """A run, and what is kept of its output."""

    run: Run
    output: RunOutput | None


@dataclass(frozen=True, slots=True)
class TokenState:
    """A token, how many of its owner's jobs are pending or running, and how many of its schedules still fire."""

    token: Token
    jobs: int
    schedules: int


@dataclass(frozen=True, slots=True)
class ForeignState:
    """What a worker holds for other databases, and what was decided about it."""

    held: tuple[ForeignRuns, ...]


@dataclass(frozen=True, slots=True)
class KeyBound:
    """The key speaks for its worker, which may be on another host if `outward`."""

    outward: bool


@dataclass(frozen=True, slots=True)
class Once:
    """Identity of a submit: its caller, the SHA-256 of the Idempotency-Key, and that of key and request."""

    caller: str
    key: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Submit(Command[Made | Submitted]):
    """Store jobs, all or none. Replies with Made; or with the earlier Submitted, when `once` was submitted before."""

    specs: tuple[JobSpec, ...]
    by: Caller
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class OnJob(Command[JobState]):
    """What a caller does with one job. `reason`: why, for the event; empty if the caller does not say. `tasks`: only
    with these of an array; None: with all of the job.
    """

    job_id: JobId
    by: Caller
    reason: str = ""
    tasks: Part | None = None


class Cancel(OnJob):
    """Cancel what is live of a job."""

    __slots__ = ()


class PauseSchedule(OnJob):
    """A recurring job does not fire until it is resumed. Pausing a paused one changes nothing."""

    __slots__ = ()


class ResumeSchedule(OnJob):
    """A paused job fires again, first at the next time from now. Resuming another changes nothing."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class EndSchedule(Command[JobState]):
    """A recurring job never fires again. `cancel`: its live fire is cancelled, which is a ConflictError otherwise."""

    job_id: JobId
    by: Caller
    cancel: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EditJob(Command[JobState]):
    """Change a recurring job, or one that has not started."""

    job_id: JobId
    edit: JobEdit
    by: Caller
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Look(Command[None]):
    """A caller looks at a running run's output, and has seen its streams up to these offsets."""

    run_id: RunId
    stdout: int
    stderr: int


@dataclass(frozen=True, slots=True)
class RegisterWorker(Command[Worker]):
    """A worker that polls introduces itself. Ends what its name still held."""

    worker_id: WorkerId
    slots: int
    can: tuple[str, ...]
    labels: Mapping[str, str]
    queues: tuple[str, ...] = (DEFAULT_QUEUE,)


@dataclass(frozen=True, slots=True)
class Beat(Command[None]):
    """A sign of life of a worker that polls."""

    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class Next(Command[Claimed | None]):
    """A worker that polls asks for a run. The reply is None when nothing fits."""

    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class Report(Command[RunState]):
    """A worker that polls says that its run of a job runs, or how it ended."""

    job_id: JobId
    worker_id: WorkerId
    status: RunStatus
    run_id: RunId | None
    logs: Stream
    exit_code: int | None
    artifacts: tuple[File, ...] = ()


@dataclass(frozen=True, slots=True)
class AddToken(Command[Token]):
    """Store a token. The turn sets its times: `created_ms`, and `expires_ms` `life_ms` later (None: it never expires).
    Replies with the Token as it is stored.
    """

    token: Token
    life_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RevokeToken(Command[TokenState]):
    """Revoke a token. With `jobs`, its jobs are cancelled and its schedules ended, even if it was revoked before."""

    token_id: str
    actor: str
    jobs: bool = False


@dataclass(frozen=True, slots=True)
class UseToken(Command[None]):
    """A token was used. No caller waits for the reply."""

    token_id: str


@dataclass(frozen=True, slots=True)
class BindKey(Command[KeyBound]):
    """A worker's name is bound to its public key. `slots_max`: the most slots that a worker with this key gets.

    Binding the same key again changes its `slots_max` alone, and only for an admin or the owner that bound it.
    """

    worker_id: WorkerId
    public_key: str
    origin: KeyOrigin
    caller: Caller
    slots_max: int | None = None


@dataclass(frozen=True, slots=True)
class RevokeKey(Command[WorkerKey]):
    """Revoke a worker's key; its session ends."""

    worker_id: WorkerId
    actor: str


@dataclass(frozen=True, slots=True)
class DecideForeign(Command[ForeignState]):
    """Decide about all that a worker holds for other databases. Deciding the same again changes nothing."""

    worker_id: WorkerId
    decision: ForeignDecision
    actor: str


ScheduleChange = PauseSchedule | ResumeSchedule | EndSchedule
