"""How long a job's runs may take, and what happens when something goes wrong: its retries and losses. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Struct

from zsched.model.backoff import USUAL_BACKOFF, Backoff, backoff_text, read_backoff
from zsched.model.failures import FAILURES
from zsched.model.fields import DURATION, LIMIT, Codec, Form, Natural, about
from zsched.model.limits import CRASH_LIMIT_DEFAULT, GRACE_MS_DEFAULT, LEASE_MARGIN_MS


class OnLost(StrEnum):
    """What happens to a task whose worker is lost: it runs again (at least once), or not (at most once)."""

    REQUEUE = "requeue"
    FAIL = "fail"


class OnDisconnect(StrEnum):
    """What a run does while its worker can't reach the scheduler: it continues, or ends before another run starts."""

    CONTINUE = "continue"
    STOP = "stop"


def lease_margin_ms(lease_ms: int) -> int:
    """How long after the end of a lease another run of its task may start: both clocks may be wrong."""
    return max(LEASE_MARGIN_MS, lease_ms // 30)


class Policy(Struct, frozen=True, kw_only=True):
    """How long a job's run may take, and what happens when something goes wrong."""

    timeout_ms: Annotated[
        int | None,
        about("A run that takes longer is stopped and fails. None: no limit.", Form(json="timeout", codec=DURATION)),
    ] = None
    grace_ms: Annotated[
        int,
        about("Time from SIGTERM to SIGKILL when a run is stopped.", Form(json="kill_grace", codec=DURATION)),
    ] = GRACE_MS_DEFAULT
    signal: Annotated[
        str | None,
        about("Signal to the main process before its timeout, such as `USR1@1m`.", Form(columns=("early_signal",))),
    ] = None
    retries: Annotated[Natural, about("How often a failed task is tried again.")] = 0
    backoff: Annotated[
        Backoff,
        about("How long retries wait.", Form(codec=Codec(read_backoff, backoff_text, nullable=True))),
    ] = USUAL_BACKOFF
    retry_on: Annotated[
        tuple[str, ...],
        about(
            "Which failures are tried again: exit codes, signals and reasons. None: all of them.", Form(codec=FAILURES)
        ),
    ] = ()
    on_lost: Annotated[
        OnLost,
        about("What happens to a task whose worker is lost: `requeue` (at least once), `fail` (at most once)."),
    ] = OnLost.REQUEUE
    on_disconnect: Annotated[
        OnDisconnect,
        about("What a run does while its worker can't reach the scheduler: `continue`, or `stop`."),
    ] = OnDisconnect.CONTINUE
    crash_limit: Annotated[
        int | None,
        about("The crash with this number fails a task for good; `never`: no crash does.", Form(codec=LIMIT)),
    ] = CRASH_LIMIT_DEFAULT
