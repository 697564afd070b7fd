"""The life of a run on the scheduler's side, as a table: a state and a cause give a move. A missing pair is refused.

The table is the mechanism. The guards and new values of the store's statements are generated from it (store/moves.py),
and store/lives.py applies the effects of a move. docs/lifecycle.md shows it. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Final

from zsched.model.types import Reason, RunStatus


class State(StrEnum):
    """The state of a run. The store keeps the status, and derives STUCK and CANCELLING of a running run."""

    NEW = "new"  # not stored yet
    PENDING = "pending"
    RUNNING = "running"
    STUCK = "stuck"  # running, but its worker can't end its processes
    CANCELLING = "cancelling"  # running, but its cancel is stored
    SUCCESS = "success"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def status(self) -> RunStatus | None:
        """The status that the store keeps; None: the run is not stored yet."""
        return _STATUS[self]


_STATUS: Final[Mapping[State, RunStatus | None]] = {
    State.NEW: None,
    State.STUCK: RunStatus.RUNNING,
    State.CANCELLING: RunStatus.RUNNING,
    **{State(status.value): status for status in RunStatus},
}
_STATES: Final[Mapping[RunStatus, State]] = {status: State(status.value) for status in RunStatus}


class Cause(StrEnum):
    """What moves a run."""

    # The scheduler makes a run.
    SUBMIT = "submit"
    FIRE = "fire"
    REQUEUE = "requeue"
    RETRY = "retry"
    RERUN = "rerun"
    # The scheduler decides.
    CLAIM = "claim"
    CANCEL = "cancel"
    GIVE_UP = "give_up"
    WITHDRAW = "withdraw"
    OVERDUE = "overdue"
    EXPIRE = "expire"
    STRAND = "strand"
    QUARANTINE = "quarantine"
    RESTORE = "restore"
    OUTLIVE = "outlive"
    LOSE = "lose"
    CRASH = "crash"
    LAST_CRASH = "last_crash"
    # The worker of the run reports, or its connection fails.
    START = "start"
    HANG = "hang"
    RETURN = "return"
    BOUNCE = "bounce"
    SUCCEED = "succeed"
    FAIL = "fail"
    LAPSE = "lapse"
    REFUSE = "refuse"


CAUSES: Final[Mapping[Cause, str]] = {
    Cause.SUBMIT: "a job is submitted",
    Cause.FIRE: "a recurring job fires",
    Cause.REQUEUE: "a successor of a lost run is made",
    Cause.RETRY: "a successor of a failed run is made",
    Cause.RERUN: "its ended task is run again for a caller",
    Cause.CLAIM: "it is assigned to a worker",
    Cause.CANCEL: "its job is cancelled",
    Cause.GIVE_UP: "more tasks of its array have failed than its job allows",
    Cause.WITHDRAW: "it is cancelled, and its worker polls, so it can't be asked to end it",
    Cause.OVERDUE: "its worker polls, and its timeout is over",
    Cause.EXPIRE: "it has not started, and its deadline has come",
    Cause.STRAND: "a job or task that it waits for has ended otherwise than it needs",
    Cause.QUARANTINE: "its row or its secrets can't be read",
    Cause.RESTORE: "the database was restored, and it may have started after the backup",
    Cause.OUTLIVE: "it was on probation, and has proved harmless",
    Cause.LOSE: "its worker is lost, without blame",
    Cause.CRASH: "its worker is lost, and it is blamed",
    Cause.LAST_CRASH: "the same, and its task has reached its crash limit",
    Cause.START: "its process exists",
    Cause.HANG: "its processes were killed and do not end",
    Cause.RETURN: "its worker gives it back, or does not hold it",
    Cause.BOUNCE: "the frame with it did not leave",
    Cause.SUCCEED: "its worker reports success",
    Cause.FAIL: "its worker reports failure",
    Cause.LAPSE: "its worker ended it because its lease was over",
    Cause.REFUSE: "its worker lacks what the job requires, and no retry would help",
}


class Given(Enum):
    """Stands for a reason that the cause brings with it."""

    GIVEN = auto()


GIVEN: Final = Given.GIVEN


@dataclass(frozen=True, slots=True)
class Move:
    """What a cause does to a run in some state.

    `reason` is stored with the run and its event; where the status stays, or the run is new, only with the event.
    `successor`: the cause that makes the next run of the task. A REQUEUE needs a task that may start more than once, a
    RETRY needs retries left, and a failure that the job retries.

    Conditions: `fenced`, the run must be on the worker that reports; `unstarted` or `started`, its start must not be
    stored, or must be. Counts: `attempt`, the successor counts the run as an attempt if it has started; `failure`, as a
    failure of the task; `crash`, as a crash; `back`, the run itself counts a return. `silent`: it leaves no event.
    """

    became: State
    reason: str | Given | None = None
    successor: Cause | None = None
    fenced: bool = False
    unstarted: bool = False
    started: bool = False
    attempt: bool = False
    failure: bool = False
    crash: bool = False
    back: bool = False
    silent: bool = False

    @property
    def final(self) -> bool:
        """Whether the run has ended."""
        return not MOVES[self.became]


# In the order of a run's life. A state without moves is final.
MOVES: Final[Mapping[State, Mapping[Cause, Move]]] = {
    State.NEW: {
        Cause.SUBMIT: Move(State.PENDING),
        Cause.FIRE: Move(State.PENDING, "fire"),
        Cause.REQUEUE: Move(State.PENDING, "requeued"),
        Cause.RETRY: Move(State.PENDING, "retry"),
        Cause.RERUN: Move(State.PENDING, "rerun"),
    },
    State.PENDING: {
        Cause.CLAIM: Move(State.RUNNING),
        Cause.CANCEL: Move(State.CANCELLED, Reason.CANCELLED),
        Cause.GIVE_UP: Move(State.CANCELLED, Reason.MAX_FAILS),
        Cause.EXPIRE: Move(State.FAILED, Reason.EXPIRED),
        Cause.STRAND: Move(State.FAILED, Reason.DEPENDENCY),
        Cause.QUARANTINE: Move(State.FAILED, Reason.QUARANTINED),
        Cause.RESTORE: Move(State.FAILED, Reason.WORKER_LOST, Cause.REQUEUE),
    },
    State.RUNNING: {
        Cause.START: Move(State.RUNNING, fenced=True, silent=True),
        Cause.OUTLIVE: Move(State.RUNNING, started=True, silent=True),
        Cause.CANCEL: Move(State.CANCELLING, "cancel"),
        Cause.HANG: Move(State.STUCK, "stuck", fenced=True),
        Cause.RETURN: Move(State.PENDING, Reason.RETURNED, fenced=True, unstarted=True, back=True),
        Cause.BOUNCE: Move(State.PENDING, Reason.UNDELIVERED, fenced=True, unstarted=True, back=True),
        Cause.SUCCEED: Move(State.SUCCESS, GIVEN, fenced=True),
        Cause.FAIL: Move(State.FAILED, GIVEN, Cause.RETRY, fenced=True, attempt=True, failure=True),
        Cause.LAPSE: Move(State.FAILED, GIVEN, Cause.REQUEUE, fenced=True, attempt=True),
        Cause.REFUSE: Move(State.FAILED, GIVEN, fenced=True),
        Cause.LOSE: Move(State.FAILED, Reason.WORKER_LOST, Cause.REQUEUE, attempt=True),
        Cause.CRASH: Move(State.FAILED, Reason.WORKER_LOST, Cause.REQUEUE, attempt=True, crash=True),
        Cause.LAST_CRASH: Move(State.FAILED, Reason.CRASH_LIMIT, crash=True),
        Cause.OVERDUE: Move(State.FAILED, Reason.TIMEOUT, Cause.RETRY, attempt=True, failure=True),
        Cause.QUARANTINE: Move(State.FAILED, Reason.QUARANTINED),
    },
    # As RUNNING. But its processes still exist, so no run may follow it when its worker is lost, and it can't go back.
    State.STUCK: {
        Cause.START: Move(State.STUCK, fenced=True, silent=True),
        Cause.OUTLIVE: Move(State.STUCK, started=True, silent=True),
        Cause.CANCEL: Move(State.CANCELLING, "cancel"),
        Cause.SUCCEED: Move(State.SUCCESS, GIVEN, fenced=True),
        Cause.FAIL: Move(State.FAILED, GIVEN, Cause.RETRY, fenced=True, attempt=True, failure=True),
        Cause.LAPSE: Move(State.FAILED, GIVEN, Cause.REQUEUE, fenced=True, attempt=True),
        Cause.REFUSE: Move(State.FAILED, GIVEN, fenced=True),
        Cause.LOSE: Move(State.FAILED, Reason.UNKILLABLE),
        Cause.CRASH: Move(State.FAILED, Reason.UNKILLABLE, crash=True),
        Cause.LAST_CRASH: Move(State.FAILED, Reason.UNKILLABLE, crash=True),
        Cause.OVERDUE: Move(State.FAILED, Reason.TIMEOUT),
    },
    # Every way out ends it as cancelled.
    State.CANCELLING: {
        Cause.START: Move(State.CANCELLING, fenced=True, silent=True),
        Cause.OUTLIVE: Move(State.CANCELLING, started=True, silent=True),
        Cause.CANCEL: Move(State.CANCELLING, "cancel"),
        Cause.HANG: Move(State.CANCELLING, "stuck", fenced=True),
        Cause.RETURN: Move(State.CANCELLED, Reason.CANCELLED, fenced=True, unstarted=True),
        Cause.BOUNCE: Move(State.CANCELLED, Reason.CANCELLED, fenced=True, unstarted=True),
        Cause.SUCCEED: Move(State.CANCELLED, Reason.CANCELLED, fenced=True),
        Cause.FAIL: Move(State.CANCELLED, Reason.CANCELLED, fenced=True),
        Cause.LAPSE: Move(State.CANCELLED, Reason.CANCELLED, fenced=True),
        Cause.REFUSE: Move(State.CANCELLED, Reason.CANCELLED, fenced=True),
        Cause.LOSE: Move(State.CANCELLED, Reason.CANCELLED),
        Cause.CRASH: Move(State.CANCELLED, Reason.CANCELLED, crash=True),
        Cause.LAST_CRASH: Move(State.CANCELLED, Reason.CANCELLED, crash=True),
        Cause.OVERDUE: Move(State.CANCELLED, Reason.CANCELLED),
        Cause.WITHDRAW: Move(State.CANCELLED, Reason.CANCELLED),
    },
    State.SUCCESS: {},
    State.FAILED: {},
    State.CANCELLED: {},
}


def state_of(status: RunStatus, cancelled: object, stuck: object) -> State:
    """The state of a stored run: its status, whether its cancel is stored, and whether it is stuck."""
    if (cancelled or stuck) and status is RunStatus.RUNNING:
        return State.CANCELLING if cancelled else State.STUCK
    return _STATES[status]


def _reachable(status: RunStatus) -> frozenset[RunStatus]:
    moves = [move for state, causes in MOVES.items() if state.status is status for move in causes.values()]
    return frozenset(move.became.status for move in moves if move.became.status not in (None, status))


# The statuses that may follow each status. A trigger in the schema aborts every other change.
TRANSITIONS: Final[Mapping[RunStatus, frozenset[RunStatus]]] = {status: _reachable(status) for status in RunStatus}
TERMINAL: Final = frozenset(status for status, successors in TRANSITIONS.items() if not successors)
