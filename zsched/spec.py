"""From what a caller wrote to a JobSpec, or to a SpecError that says which field is wrong and how to mend it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct

from zsched import schedule
from zsched.limits import (
    COMMAND_BYTES_MAX,
    ENV_BYTES_MAX,
    ENV_NAMES_MAX,
    NAME_CHARS_MAX,
    SCHEDULE_CHARS_MAX,
    SECRET_BYTES_MIN,
    SECRETS_MAX,
)
from zsched.model import JobSpec
from zsched.units import USER_NAME, VARIABLE_NAME, parse_duration_ms


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
    env: dict[str, str] | None = None
    secret_env: dict[str, str] | None = None


REQUIRED: Final = "Name and command are required"


# Makes of a variable's name and value what may be stored of the value.
Seal = Callable[[str, str], str]


def keeps_none(_name: str, _value: str) -> str:
    """The Seal of who has no key for secrets."""
    raise SpecError("secret_env", "no secrets are kept here")


def job_spec(body: JobBody, seal: Seal = keeps_none) -> JobSpec:
    """The job that a body asks for, its secrets sealed. Raises SpecError, and what `seal` raises."""
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
    _check_variables(body.env or {}, body.secret_env or {})
    secrets = {name: seal(name, value) for name, value in (body.secret_env or {}).items()}
    return JobSpec(
        name=name,
        command=command,
        schedule=cron,
        run_now=body.run_now,
        timeout_ms=_timeout_ms(body.timeout),
        user=body.user,
        env=body.env or None,
        secret_env=secrets or None,
    )


def _check_variables(env: Mapping[str, str], secret_env: Mapping[str, str]) -> None:
    """Raises SpecError, which shows no value."""
    for kind, given, most in (("env", env, ENV_NAMES_MAX), ("secret_env", secret_env, SECRETS_MAX)):
        if len(given) > most:
            raise SpecError(kind, f"at most {most} variables, not {len(given)}")
        for name, value in given.items():
            # As a step of a JSON pointer (RFC 6901).
            where = f"{kind}/{name.replace('~', '~0').replace('/', '~1')}"
            if not VARIABLE_NAME.fullmatch(name):
                raise SpecError(where, "a variable's name: letters, digits and _, no digit first")
            if name.startswith("ZSCHED_"):
                raise SpecError(where, "names that begin with ZSCHED_ are zsched's own")
            if "\0" in value:
                raise SpecError(where, "no variable can have a NUL")
            if kind == "secret_env" and name in env:
                raise SpecError(where, "it stands in env too")
            if kind == "secret_env" and len(value.encode()) < SECRET_BYTES_MIN:
                raise SpecError(
                    where, f"at least {SECRET_BYTES_MIN} bytes: shorter ones can't be told from other output"
                )
    size = sum(len(name) + len(value.encode()) + 2 for name, value in (*env.items(), *secret_env.items()))
    if size > ENV_BYTES_MAX:
        raise SpecError("secret_env" if secret_env else "env", f"at most {ENV_BYTES_MAX} bytes in all, not {size}")


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
