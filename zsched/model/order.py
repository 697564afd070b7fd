"""What a worker needs to know of a job. Pure."""

from __future__ import annotations

from typing import Annotated

from zsched.model.fields import HIDDEN, TIME, Form, Natural, about
from zsched.model.types import Work


class Order(Work, frozen=True, kw_only=True):
    """What a worker needs to know of a job."""

    timeout_ms: Annotated[Natural | None, about("Limit of the run in milliseconds. None: no limit.")] = None
    grace_ms: Annotated[int, about("Time from SIGTERM to SIGKILL in milliseconds.", Form(json=HIDDEN))]
    signal: Annotated[
        str | None,
        about("Signal to the main process before its timeout, such as `USR1@1m`.", Form(columns=("early_signal",))),
    ] = None
    job_created_ms: Annotated[
        int, about("When the job was submitted.", Form(("created_ms",), json="created_at", codec=TIME))
    ]
    job_updated_ms: Annotated[
        int, about("When the job changed last.", Form(("updated_ms",), json="updated_at", codec=TIME))
    ]
