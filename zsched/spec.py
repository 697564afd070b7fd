"""From what a caller wrote to a JobSpec, or to a SpecError that says which field is wrong and how to mend it. Pure."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from zsched import schedule
from zsched.limits import COMMAND_BYTES_MAX, NAME_CHARS_MAX, SCHEDULE_CHARS_MAX
from zsched.model import JobSpec
from zsched.units import USER_NAME, parse_duration_ms


class SpecError(Exception):
    """A job that can't be accepted. `field` is its name, empty for the job as a whole."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field
        self.detail = detail


class JobBody(Struct, forbid_unknown_fields=True, frozen=True):
    """A job as it is submitted. `timeout` is a duration (`10m`) or a number of seconds, `user` a name on the worker's
    host.
    """

    name: str | None = None
    command: str | None = None
    schedule: str | None = None
    run_now: bool = False
    timeout: str | int | None = None
    user: str | None = None


REQUIRED: Final = "Name and command are required"


def job_spec(body: JobBody) -> JobSpec:
    """The job that a body asks for. Raises SpecError."""
    name, command = body.name or "", body.command or ""
    if not name.strip():
        raise SpecError("name", REQUIRED)
    if not command.strip():
        raise SpecError("command", REQUIRED)
    if len(name) > NAME_CHARS_MAX:
        raise SpecError("name", f"at most {NAME_CHARS_MAX} characters, not {len(name)}")
    if (size := len(command.encode())) > COMMAND_BYTES_MAX:
        raise SpecError("command", f"at most {COMMAND_BYTES_MAX} bytes, not {size}: put it into a script")
    # The first clients sent an empty schedule where there was none.
    cron = (body.schedule or "").strip() or None
    if cron is not None and len(cron) > SCHEDULE_CHARS_MAX:
        raise SpecError("schedule", f"at most {SCHEDULE_CHARS_MAX} characters, not {len(cron)}")
    if cron is not None:
        try:
            schedule.check(cron)
        except schedule.ScheduleError as error:
            raise SpecError("schedule", str(error)) from None
    if body.user is not None and not USER_NAME.fullmatch(body.user):
        raise SpecError("user", "a user's name: a letter, then letters, digits and . _ -")
    return JobSpec(
        name=name,
        command=command,
        schedule=cron,
        run_now=body.run_now,
        timeout_ms=_timeout_ms(body.timeout),
        user=body.user,
    )


def _timeout_ms(timeout: str | int | None) -> int | None:
    if timeout is None:
        return None
    try:
        timeout_ms = parse_duration_ms(f"{timeout}s" if isinstance(timeout, int) else timeout)
    except ValueError as error:
        raise SpecError("timeout", str(error)) from None
    if timeout_ms <= 0:
        raise SpecError("timeout", "longer than nothing: leave it out for no limit")
    return timeout_ms
