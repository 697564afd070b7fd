"""Check a submitted job or edit: a JobSpec or JobEdit, or a SpecError that names the field and the remedy. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from zsched.model import schedule
from zsched.model.limits import (
    BACKOFF_FACTOR_MAX,
    BACKOFF_MS_MAX,
    COMMAND_BYTES_MAX,
    CRASH_LIMIT_DEFAULT,
    CRASH_LIMIT_MAX,
    DURATION_MS_MAX,
    ENV_BYTES_MAX,
    ENV_NAMES_MAX,
    GRACE_MS_DEFAULT,
    GRACE_MS_MAX,
    NAME_CHARS_MAX,
    RETRIES_MAX,
    SCHEDULE_CHARS_MAX,
    SECRET_BYTES_MIN,
    SECRETS_MAX,
    TAGS_MAX,
)
from zsched.model.names import TAG, USER_NAME, VARIABLE_NAME
from zsched.model.types import USUAL_BACKOFF, Backoff, Job, JobSpec, Launch, OnDisconnect, OnLost, Policy, launch_fields
from zsched.model.units import format_duration_ms, parse_duration_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEdit:
    """Changes of a recurring job, checked. None leaves a field unchanged; `timeout_ms` 0 removes the limit."""

    name: str | None = None
    command: str | None = None
    schedule: str | None = None
    timeout_ms: int | None = None

    def applied_to(self, job: Job) -> Job:
        """The job with the changes. Its `next_fire_ms` stays as it was."""
        timeout_ms = job.policy.timeout_ms if self.timeout_ms is None else self.timeout_ms or None
        return replace(
            job,
            name=self.name or job.name,
            command=self.command or job.command,
            schedule=self.schedule or job.schedule,
            policy=replace(job.policy, timeout_ms=timeout_ms),
        )


class SpecError(Exception):
    """An invalid job. `field` is the name of the invalid field, empty for the job as a whole."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field
        self.detail = detail


Duration = str | int | float
# `never`: a task survives any number of crashes.
CrashLimit = Annotated[int, Meta(ge=1, le=CRASH_LIMIT_MAX)] | Literal["never"]


class BackoffBody(Struct, forbid_unknown_fields=True, frozen=True):
    """How long retries wait. Durations as in JobBody; `jitter` is the largest share by which a pause is shorter."""

    initial: Duration = "5s"
    factor: Annotated[float, Meta(ge=1, le=BACKOFF_FACTOR_MAX)] = 2.0
    max: Duration = "1h"
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.1


class JobBody(Launch, forbid_unknown_fields=True, frozen=True):
    """A job as it is submitted. Durations are `10m` and the like, or a number of seconds."""

    name: str | None = None
    command: str | None = None
    schedule: str | None = None
    run_now: bool = False
    tags: tuple[str, ...] | None = None
    timeout: Duration | None = None
    kill_grace: Duration | None = None
    retries: Annotated[int, Meta(ge=0, le=RETRIES_MAX)] = 0
    backoff: BackoffBody | None = None
    on_lost: OnLost = OnLost.REQUEUE
    on_disconnect: OnDisconnect = OnDisconnect.CONTINUE
    crash_limit: CrashLimit = CRASH_LIMIT_DEFAULT


class EditBody(Struct, forbid_unknown_fields=True, frozen=True):
    """Changes of a recurring job, a JSON merge patch (RFC 7396): what is left out stays, `null` removes a timeout."""

    name: str | UnsetType | None = UNSET
    command: str | UnsetType | None = UNSET
    schedule: str | UnsetType | None = UNSET
    timeout: Duration | UnsetType | None = UNSET


REQUIRED: Final = "Name and command are required"


# Seals a secret: (name, value) → the text that is stored.
Seal = Callable[[str, str], str]


def keeps_none(_name: str, _value: str) -> str:
    """The Seal of a scheduler without a key for secrets. Raises SpecError."""
    raise SpecError("secret_env", "no secrets are kept here")


def job_spec(body: JobBody, seal: Seal = keeps_none) -> JobSpec:
    """Check a submitted job and seal its secrets. Raises SpecError, and the errors of `seal`."""
    name, command, cron = _name(body.name), _command(body.command), _schedule(body.schedule)
    if body.user is not None and not USER_NAME.fullmatch(body.user):
        raise SpecError("user", "a user's name: a letter, then letters, digits and . _ -")
    _check_variables(body.env or {}, body.secret_env or {})
    # An empty object is as good as none.
    launch = {name: None if value == {} else value for name, value in launch_fields(body).items()}
    if body.secret_env:
        launch["secret_env"] = {name: seal(name, value) for name, value in body.secret_env.items()}
    return JobSpec(
        name=name,
        command=command,
        schedule=cron,
        run_now=body.run_now,
        tags=_tags(body.tags or ()),
        policy=_policy(body),
        **launch,
    )


def job_edit(body: EditBody) -> JobEdit:
    """Check an edit, by the rules of a submit. Raises SpecError."""
    if body == EditBody():
        raise SpecError("", f"nothing to change: give at least one of {', '.join(EditBody.__struct_fields__)}")
    cron = None if body.schedule is UNSET else _schedule(body.schedule)
    if cron is None and body.schedule is not UNSET:
        raise SpecError("schedule", "a recurring job keeps a schedule: DELETE the job to end it")
    timeout_ms = None
    if body.timeout is not UNSET:
        timeout_ms = 0 if body.timeout is None else _timeout_ms(body.timeout)
    return JobEdit(
        name=None if body.name is UNSET else _name(body.name),
        command=None if body.command is UNSET else _command(body.command),
        schedule=cron,
        timeout_ms=timeout_ms,
    )


def _name(given: str | None) -> str:
    name = given or ""
    if not name.strip():
        raise SpecError("name", REQUIRED)
    if len(name) > NAME_CHARS_MAX:
        raise SpecError("name", f"at most {NAME_CHARS_MAX} characters, not {len(name)}")
    return name


def _command(given: str | None) -> str:
    command = given or ""
    if not command.strip():
        raise SpecError("command", REQUIRED)
    if (size := len(command.encode())) > COMMAND_BYTES_MAX:
        raise SpecError("command", f"at most {COMMAND_BYTES_MAX} bytes, not {size}: put it into a script")
    return command


def _tags(given: tuple[str, ...]) -> tuple[str, ...]:
    """The tags, each once, in order."""
    tags = tuple(sorted(set(given)))
    if len(tags) > TAGS_MAX:
        raise SpecError("tags", f"at most {TAGS_MAX} tags, not {len(tags)}")
    for place, tag in enumerate(given):
        if not TAG.fullmatch(tag):
            raise SpecError(f"tags/{place}", "a tag: 1 to 64 letters, digits and ._:/=@+-, a letter or digit first")
    return tags


def _schedule(given: str | None) -> str | None:
    # Old clients send an empty schedule for none.
    cron = (given or "").strip() or None
    if cron is not None and len(cron) > SCHEDULE_CHARS_MAX:
        raise SpecError("schedule", f"at most {SCHEDULE_CHARS_MAX} characters, not {len(cron)}")
    if cron is not None:
        try:
            schedule.check(cron)
        except schedule.ScheduleError as error:
            raise SpecError("schedule", str(error)) from None
    return cron


def _timeout_ms(given: Duration) -> int:
    timeout_ms = _duration_ms("timeout", given)
    if timeout_ms <= 0:
        raise SpecError("timeout", "longer than nothing: null means no limit")
    return timeout_ms


def _check_variables(env: Mapping[str, str], secret_env: Mapping[str, str]) -> None:
    """Check environment variables. Raises SpecError, whose sentence shows no value."""
    for kind, given, most in (("env", env, ENV_NAMES_MAX), ("secret_env", secret_env, SECRETS_MAX)):
        if len(given) > most:
            raise SpecError(kind, f"at most {most} variables, not {len(given)}")
        for name, value in given.items():
            # Escaped as a step of a JSON pointer (RFC 6901).
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
                    where, f"at least {SECRET_BYTES_MIN} bytes: shorter ones can't be distinguished from other output"
                )
    size = sum(len(name) + len(value.encode()) + 2 for name, value in (*env.items(), *secret_env.items()))
    if size > ENV_BYTES_MAX:
        raise SpecError("secret_env" if secret_env else "env", f"at most {ENV_BYTES_MAX} bytes in all, not {size}")


def _policy(body: JobBody) -> Policy:
    timeout_ms = None if body.timeout is None else _timeout_ms(body.timeout)
    grace_ms = GRACE_MS_DEFAULT
    if body.kill_grace is not None:
        grace_ms = _duration_ms("kill_grace", body.kill_grace, GRACE_MS_MAX)
    return Policy(
        timeout_ms=timeout_ms,
        grace_ms=grace_ms,
        retries=body.retries,
        backoff=USUAL_BACKOFF if body.backoff is None else _backoff(body.backoff),
        on_lost=body.on_lost,
        on_disconnect=body.on_disconnect,
        crash_limit=None if body.crash_limit == "never" else body.crash_limit,
    )


def _backoff(body: BackoffBody) -> Backoff:
    return Backoff(
        initial_ms=_duration_ms("backoff/initial", body.initial, BACKOFF_MS_MAX),
        factor=body.factor,
        max_ms=_duration_ms("backoff/max", body.max, BACKOFF_MS_MAX),
        jitter=body.jitter,
    )


def _seconds(given: float) -> str:
    """A number of seconds as a duration text."""
    return f"{given}s" if isinstance(given, int) else f"{given:.9f}s"


def _duration_ms(field: str, given: Duration, most_ms: int = DURATION_MS_MAX) -> int:
    try:
        duration_ms = parse_duration_ms(given if isinstance(given, str) else _seconds(given))
    except ValueError as error:
        raise SpecError(field, str(error)) from None
    if duration_ms > most_ms:
        raise SpecError(field, f"at most {format_duration_ms(most_ms)}")
    return duration_ms
