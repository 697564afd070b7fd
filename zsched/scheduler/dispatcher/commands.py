"""What callers ask of the dispatcher over REST, and how it refuses. Each command is one value, checked before it gets
here.

`by` is the caller of a command on jobs. `actor` is the same for other commands: a text for the event.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from zsched.model.spans import Spans
from zsched.model.types import (
    Caller,
    ForeignDecision,
    ForeignRuns,
    Job,
    JobEdit,
    JobId,
    JobSpec,
    KeyOrigin,
    Run,
    RunId,
    RunStatus,
    Stream,
    Token,
    Worker,
    WorkerId,
    WorkerKey,
)
from zsched.model.units import counted
from zsched.store.contract import Claimed, RunOutput, Submitted


class RefusedError(Exception):
    """The command can't be done; nothing was changed. `code` is a stable word, the message a sentence for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class NotFoundError(RefusedError):
    """What the command speaks of does not exist."""


class ConflictError(RefusedError):
    """It exists, but its state does not allow the command."""


class ForbiddenError(RefusedError):
    """The caller may not do this, whatever the state of the object."""


class NotOwnerError(ForbiddenError):
    """The job belongs to another owner, and the caller's scopes do not cover this on it. `needed` ends the sentence."""

    def __init__(self, job_id: JobId, owner: str, needed: str = "the scope operate to act on it") -> None:
        whose = f"belongs to {owner}" if owner else "has no owner"
        super().__init__("not_owner", f"Job {job_id} {whose}: a token needs {needed}")


class BadTokenError(RefusedError):
    """The caller's token was revoked after it was looked at."""

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

    def __init__(self, most: int) -> None:
        RefusedError.__init__(
            self,
            "too_many_pending",
            f"{counted(most, 'job')} of this token may be pending, and {'is' if most == 1 else 'are'}:"
            " submit again when some have started",
        )


class TooManyError(RefusedError):
    """More jobs at once than may ever be pending."""

    def __init__(self, jobs: int, most: int) -> None:
        super().__init__(
            "too_many", f"{counted(jobs, 'job')} at once, and at most {most} runs may be pending: submit fewer"
        )


class ReusedError(RefusedError):
    """The Idempotency-Key belongs to another request of this caller."""

    def __init__(self) -> None:
        super().__init__(
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request: send the same one, or a new key with this one",
        )


@dataclass(frozen=True, slots=True)
class Once:
    """Identifies a repeated submit: the caller, the SHA-256 of its Idempotency-Key, and that of key and request."""

    caller: str
    key: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Submit:
    """Store jobs, all or none. Replies with Made. A submit with `once` that was done before stores nothing and replies
    with the Submitted of the first time.
    """

    specs: tuple[JobSpec, ...]
    by: Caller
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """Jobs that a submit has stored, in its order. `specs` are as they were admitted, `next_fires` are per job."""

    ids: Sequence[JobId]
    specs: Sequence[JobSpec]
    next_fires: Sequence[int | None]
    owner: str
    now_ms: int

    def jobs(self) -> Generator[Job]:
        """The jobs as they were stored. Each is made when it is taken, so by the caller's thread."""
        for job_id, spec, next_fire_ms in zip(self.ids, self.specs, self.next_fires, strict=True):
            yield Job(
                job_id=job_id,
                name=spec.name,
                command=spec.command,
                status=RunStatus.PENDING,
                created_ms=self.now_ms,
                updated_ms=self.now_ms,
                schedule=spec.schedule,
                next_fire_ms=next_fire_ms,
                policy=spec.policy,
                user=spec.user,
                env=spec.env,
                secret_env=spec.secret_env,
                owner=self.owner,
                live=spec.schedule is None or spec.run_now,
            )


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a job waits: a stable code, and a sentence."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class JobState:
    """A job, its last run, what is kept of that run's output, and why the job waits if it does."""

    job: Job
    last: Run | None
    output: RunOutput | None
    cause: Cause | None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel what is live of a job. Replies with the JobState."""

    job_id: JobId
    by: Caller


@dataclass(frozen=True, slots=True)
class PauseSchedule:
    """A recurring job does not fire until it is resumed. Pausing a paused one changes nothing. Replies with the
    JobState.
    """

    job_id: JobId
    by: Caller


@dataclass(frozen=True, slots=True)
class ResumeSchedule:
    """A paused job fires again, first at the next time from now. Resuming another changes nothing. Replies with
    the JobState.
    """

    job_id: JobId
    by: Caller


@dataclass(frozen=True, slots=True)
class EndSchedule:
    """A recurring job never fires again. With `cancel`, its live fire is cancelled; without, a live fire is a
    ConflictError. Ending an ended schedule changes nothing. Replies with the JobState.
    """

    job_id: JobId
    by: Caller
    cancel: bool = False


@dataclass(frozen=True, slots=True)
class EditJob:
    """Change a recurring job. Replies with the JobState."""

    job_id: JobId
    edit: JobEdit
    by: Caller


class Action(StrEnum):
    """What one call does to many jobs, each as the call on a single job does it."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    END = "end"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which jobs. `ids` names them; None means all that the action can change: for a cancel the jobs that have not
    ended, otherwise those with a schedule. `owner` and `status` restrict these where they are given.
    """

    ids: Spans | None
    owner: str | None = None
    status: RunStatus | None = None


@dataclass(frozen=True, slots=True)
class Bulk:
    """Do something to the selected jobs with an id above `after`, in the order of their ids, BULK_JOBS_MAX at most. No
    job's refusal stops the others. Replies with a BulkDone. `cancel`: as of EndSchedule.
    """

    action: Action
    selection: Selection
    by: Caller
    after: JobId
    cancel: bool = False


@dataclass(frozen=True, slots=True)
class BulkDone:
    """The jobs by outcome: `done`; `ending`, cancelled while a worker still has to end a run; or the error code of the
    same call on the single job. `after` is the last id looked at, None at the end.
    """

    outcomes: Mapping[str, Spans]
    after: JobId | None


@dataclass(frozen=True, slots=True)
class Look:
    """Somebody looks at a running run's output, and has seen these offsets of its streams. Replies with nothing."""

    run_id: RunId
    stdout: int
    stderr: int


@dataclass(frozen=True, slots=True)
class RegisterWorker:
    """A worker that polls introduces itself. Ends what its name still held. Replies with the Worker."""

    worker_id: WorkerId
    slots: int
    can: tuple[str, ...]
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life of a worker that polls. Replies with nothing."""

    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class Next:
    """A worker that polls asks for a run. Replies with a Claimed, or None when there is nothing for it."""

    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class Report:
    """A worker that polls says that its run of a job runs, or how it ended. Replies with the RunState."""

    job_id: JobId
    worker_id: WorkerId
    status: RunStatus
    run_id: RunId | None
    logs: Stream
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class RunState:
    """A run, and what is kept of its output."""

    run: Run
    output: RunOutput | None


@dataclass(frozen=True, slots=True)
class AddToken:
    """Store a token. The turn sets its times: `created_ms`, and `expires_ms` `life_ms` later (None: it never expires).
    Replies with the Token as it is stored.
    """

    token: Token
    life_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RevokeToken:
    """A token is no longer valid. With `jobs`, its live jobs are cancelled and its schedules ended, also when the token
    was revoked before. Replies with the TokenState.
    """

    token_id: str
    actor: str
    jobs: bool = False


@dataclass(frozen=True, slots=True)
class ForeignState:
    """What a worker holds for other databases, and what was decided about it."""

    held: tuple[ForeignRuns, ...]


@dataclass(frozen=True, slots=True)
class TokenState:
    """A token, how many of its owner's jobs are pending or running, and how many of its schedules still fire."""

    token: Token
    jobs: int
    schedules: int


@dataclass(frozen=True, slots=True)
class UseToken:
    """A token was used. Nobody waits for the reply, which is nothing."""

    token_id: str


@dataclass(frozen=True, slots=True)
class BindKey:
    """A worker's name is bound to its public key. `slots_max`: the most slots that a worker with this key gets.

    Binding the same key again changes its `slots_max` alone, and only for an admin or the owner that bound it. Replies
    with a KeyBound.
    """

    worker_id: WorkerId
    public_key: str
    origin: KeyOrigin
    caller: Caller
    slots_max: int | None = None


@dataclass(frozen=True, slots=True)
class KeyBound:
    """The key is bound to its worker. `outward`: the worker may be on another host."""

    outward: bool


@dataclass(frozen=True, slots=True)
class RevokeKey:
    """A worker's key is no longer valid; its live session ends. Replies with the WorkerKey."""

    worker_id: WorkerId
    actor: str


@dataclass(frozen=True, slots=True)
class DecideForeign:
    """What becomes of all that a worker holds for other databases. Deciding the same again changes nothing. Replies
    with the ForeignState.
    """

    worker_id: WorkerId
    decision: ForeignDecision
    actor: str


ScheduleChange = PauseSchedule | ResumeSchedule | EndSchedule | EditJob
Command = (
    Submit
    | Cancel
    | ScheduleChange
    | Bulk
    | Look
    | RegisterWorker
    | Beat
    | Next
    | Report
    | AddToken
    | RevokeToken
    | UseToken
    | BindKey
    | RevokeKey
    | DecideForeign
)

Reply = (
    Made
    | Token
    | Submitted
    | JobState
    | RunState
    | TokenState
    | BulkDone
    | ForeignState
    | KeyBound
    | WorkerKey
    | Worker
    | Claimed
    | RunId
    | RefusedError
    | None
)
