"""Check single fields of a job, as a submit and a change of a job give them. Each raises SpecError. Pure."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from zsched.model import schedule
from zsched.model.arrays import TaskArray, read_array
from zsched.model.backoff import Backoff
from zsched.model.failures import Failure, parse_failures
from zsched.model.faults import SpecError
from zsched.model.limits import (
    BACKOFF_FACTOR_MAX,
    BACKOFF_MS_MAX,
    COMMAND_BYTES_MAX,
    CRASH_LIMIT_MAX,
    DURATION_MS_MAX,
    NAME_CHARS_MAX,
    SCHEDULE_CHARS_MAX,
    TAGS_MAX,
)
from zsched.model.names import DEFAULT_QUEUE, QUEUE_NAME, QUEUE_RULE, TAG
from zsched.model.units import format_duration_ms, parse_duration_ms, parse_time

Duration = str | int | float
# `never`: a task survives any number of crashes.
CrashLimit = Annotated[int, Meta(ge=1, le=CRASH_LIMIT_MAX)] | Literal["never"]
REQUIRED: Final = "Name and command are required"


class BackoffBody(Struct, forbid_unknown_fields=True, frozen=True):
    """How long retries wait. Durations as in JobBody; `jitter` is the largest share by which a pause is shorter."""

    initial: Duration = "5s"
    factor: Annotated[float, Meta(ge=1, le=BACKOFF_FACTOR_MAX)] = 2.0
    max: Duration = "1h"
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.1


def check_name(given: str | None) -> str:
    name = given or ""
    if not name.strip():
        raise SpecError("name", REQUIRED)
    if len(name) > NAME_CHARS_MAX:
        raise SpecError("name", f"at most {NAME_CHARS_MAX} characters, not {len(name)}")
    return name


def check_command(given: str | None) -> str:
    command = given or ""
    if not command.strip():
        raise SpecError("command", REQUIRED)
    if (size := len(command.encode())) > COMMAND_BYTES_MAX:
        raise SpecError("command", f"at most {COMMAND_BYTES_MAX} bytes, not {size}: put it into a script")
    return command


def check_tags(given: tuple[str, ...]) -> tuple[str, ...]:
    """The tags, each once, in order."""
    if not given:
        return ()
    tags = tuple(sorted(set(given)))
    if len(tags) > TAGS_MAX:
        raise SpecError("tags", f"at most {TAGS_MAX} tags, not {len(tags)}")
    for place, tag in enumerate(given):
        if not TAG.fullmatch(tag):
            raise SpecError(f"tags/{place}", "a tag: 1 to 64 letters, digits and ._:/=@+-, a letter or digit first")
    return tags


def check_queue(given: str | None) -> str:
    if given is not None and not QUEUE_NAME.fullmatch(given):
        raise SpecError("queue", f"a queue's name: {QUEUE_RULE}")
    return given or DEFAULT_QUEUE


def check_schedule(given: str | None) -> str | None:
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


def check_deadline(given: Duration) -> tuple[int | None, int | None]:
    """A deadline as a time, or as a duration, in ms; the other one is None."""
    if isinstance(given, str) and "-" in given:
        return time_ms("deadline", given), None
    return None, check_duration("deadline", given)


def time_ms(field: str, given: str) -> int:
    try:
        return parse_time(given)
    except ValueError as error:
        raise SpecError(field, str(error)) from None


def check_timeout(given: Duration | None) -> int | None:
    timeout_ms = None if given is None else check_duration("timeout", given)
    if timeout_ms is not None and timeout_ms <= 0:
        raise SpecError("timeout", "longer than nothing: null means no limit")
    return timeout_ms


def check_failures(given: tuple[Failure, ...]) -> tuple[str, ...]:
    try:
        return parse_failures(given)
    except ValueError as error:
        raise SpecError("retry_on", str(error)) from None


def check_backoff(body: BackoffBody) -> Backoff:
    return Backoff(
        initial_ms=check_duration("backoff/initial", body.initial, BACKOFF_MS_MAX),
        factor=body.factor,
        max_ms=check_duration("backoff/max", body.max, BACKOFF_MS_MAX),
        jitter=body.jitter,
    )


def _seconds(given: float) -> str:
    """A number of seconds as a duration text."""
    return f"{given}s" if isinstance(given, int) else f"{given:.9f}s"


def check_duration(field: str, given: Duration, most_ms: int = DURATION_MS_MAX) -> int:
    try:
        duration_ms = parse_duration_ms(given if isinstance(given, str) else _seconds(given))
    except ValueError as error:
        raise SpecError(field, str(error)) from None
    if duration_ms > most_ms:
        raise SpecError(field, f"at most {format_duration_ms(most_ms)}")
    return duration_ms


def check_array(given: str) -> TaskArray:
    try:
        return read_array(given)
    except ValueError as error:
        raise SpecError("array", str(error)) from None
