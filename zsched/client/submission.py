"""Jobs as POST /jobs takes them: the fields that a caller may give, and the requests that carry many jobs."""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, TypedDict, Unpack

from zsched.client.arguments import check, check_items
from zsched.client.http import ClientError, View
from zsched.model.limits import (
    JOBS_PER_SUBMIT_MAX,
    SUBMIT_BYTES_MAX,
    SUBMIT_VALUES_MAX,
)

# The default name of a job has at most this many characters of its command.
NAME_CHARS: Final = 60


class PolicyFields(TypedDict, total=False):
    """Limits of a job's runs, and what happens after a failure or a loss. Durations: `10m`, or seconds."""

    timeout: str | float | None
    kill_grace: str | float | None
    signal: str | None
    retries: int | None
    backoff: Mapping[str, str | float] | None
    retry_on: Sequence[int | str] | None
    on_lost: Literal["requeue", "fail"] | None
    on_disconnect: Literal["continue", "stop"] | None
    crash_limit: int | Literal["never"] | None


class Placement(TypedDict, total=False):
    """Where a job runs, with which input, and when."""

    cwd: str | None
    cwd_hint: str | None
    umask: str | None
    umask_hint: str | None
    stdin: str | None
    files: Mapping[str, str | bytes | Mapping[str, str]] | None
    artifacts: Sequence[str] | None
    run_at: str | None
    delay: str | float | None
    deadline: str | float | None


class TurnFields(TypedDict, total=False):
    """When a job has its turn, and on which workers."""

    priority: int | None
    queue: str | None
    labels: Mapping[str, str] | None
    limits: Mapping[str, int] | None
    unique: str | None
    after: Sequence[int | str] | None


class Fields(PolicyFields, Placement, TurnFields, total=False):
    """The fields of a job besides its command, as docs/rest.md describes them. `array`: its tasks by index, `0-15:4%4`;
    with entries only how many may run at once, `%4`.
    """

    array: str | None
    max_fails: int | None
    name: str | None
    schedule: str | None
    run_now: bool
    hold: bool
    tags: list[str] | tuple[str, ...] | None
    user: str | None
    env: Mapping[str, str] | None
    secret_env: Mapping[str, str] | None


def spec(command: str | Sequence[str], **fields: Unpack[Fields]) -> View:
    """A job as POST /jobs takes it. A sequence is a program and its arguments, which are executed without a shell. The
    default name of a job is the beginning of its command.

    Raises ClientError for an invalid command.
    """
    check("command", command, str | list | tuple)
    words = [command] if isinstance(command, str) else list(command)
    check_items("command", words, str)
    if fault := next(filter(None, map(_fault, words)), ""):
        raise ClientError(f"a command {fault}")
    if not words:
        raise ClientError("a command has at least a program")
    # False and empty values are left out; 0 is not, nor is an empty input.
    if (files := fields.get("files")) is not None:
        fields["files"] = {path: _file(content) for path, content in files.items()}
    given = {
        name: dict(value) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if value is not None and value is not False and value not in ({}, [], ())
    }
    program = {"command": command} if isinstance(command, str) else {"argv": words}
    return {**given, "name": fields.get("name") or _title(" ".join(words)), **program}


def batches(bodies: Sequence[View]) -> Iterator[Sequence[View]]:
    """Split jobs into as few requests as can carry them, in order."""
    begin, size, values = 0, 0, 0
    for place, body in enumerate(bodies):
        length, count = len(json.dumps(body)), _values(body)
        large = size + length > SUBMIT_BYTES_MAX or values + count > SUBMIT_VALUES_MAX
        if place - begin == JOBS_PER_SUBMIT_MAX or (large and place > begin):
            yield bodies[begin:place]
            begin, size, values = place, 0, 0
        size += length
        values += count
    if begin < len(bodies):
        yield bodies[begin:]


def _file(content: str | bytes | Mapping[str, str]) -> str | Mapping[str, str]:
    """A file as JSON has it. Bytes and what JSON can't carry are base64."""
    if isinstance(content, str) and "\0" in content:
        content = content.encode()
    if isinstance(content, bytes):
        return {"base64": b2a_base64(content, newline=False).decode()}
    return content


def _values(value: object) -> int:
    """The number of JSON values in a value, including itself and the names of members."""
    if isinstance(value, Mapping):
        return 1 + len(value) + sum(map(_values, value.values()))
    if isinstance(value, list | tuple):
        return 2 + sum(map(_values, value))
    return 1


def _fault(command: str) -> str:
    """Why a command is invalid; empty if it is valid."""
    if "\0" in command:
        return "can't have a NUL character"
    try:
        command.encode()
    except UnicodeEncodeError:
        return "must be UTF-8"
    return ""


def _title(command: str) -> str:
    line = " ".join(command.split())
    return line if len(line) <= NAME_CHARS else line[: NAME_CHARS - 1] + "…"
