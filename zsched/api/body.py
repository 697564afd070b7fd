"""Request bodies: strict, bounded JSON, and the types of bodies. That of a job is in model/spec.py.

JSON allows more than requests need: duplicate keys, NaN, huge integers, lone surrogates, NUL, deep nesting and unknown
fields are refused, and the error names their place. An unknown field is most often a misspelt one.
"""

from __future__ import annotations

import json
import math
import re
import threading
import typing
from contextlib import suppress
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Final, Literal, NoReturn, TypeVar

import falcon
import msgspec
from msgspec import Meta, Struct

from zsched.api.problem import Problem, invalid
from zsched.model.fields import QueueName, WorkerName
from zsched.model.files import FileBody
from zsched.model.limits import (
    BODY_BYTES_MAX,
    BODY_DEPTH_MAX,
    BODY_VALUES_MAX,
    INTEGER_MAX,
    JOBS_PER_SUBMIT_MAX,
    NOTE_CHARS_MAX,
    OWNER_CHARS_MAX,
    PRIORITY_MAX,
    QUEUE_REASON_CHARS_MAX,
    REASON_CHARS_MAX,
    SLOTS_MAX,
    TOKEN_PENDING_MAX,
    TOKEN_SCHEDULES_MAX,
    TOKEN_WORKERS_MAX,
    WORKER_QUEUES_MAX,
)
from zsched.model.names import DEFAULT_QUEUE, QUEUE_RULE, SERVED_QUEUE, USER_NAME
from zsched.model.spec import JobBody
from zsched.model.types import RunStatus
from zsched.scheduler.dispatcher.bulk import Action
from zsched.security import tokens

# The characters that begin or separate values, outside of strings.
_MARKS: Final = b",:[{"
# Bytes that are split at a time, so that other threads get the interpreter in between.
_SPLIT_BYTES: Final = 64 * 1024
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PATH: Final = re.compile(r"(?s)(.*?) - at `(?:key in )?\$(.*)`")

# An owner as callers name it; the last two stand for callers that have no name (see security/owners.py).
OWNER: Final = r"^((user|token):.+|me|local|anybody)\Z"

Count = Annotated[int, Meta(ge=1, le=SLOTS_MAX)]
Word = Annotated[str, Meta(max_length=64)]


class RegisterBody(Struct, forbid_unknown_fields=True, frozen=True):
    """POST /workers/register."""

    worker_id: WorkerName
    slots: Count = 1
    can: Annotated[tuple[Word, ...], Meta(max_length=64)] = ()
    labels: Annotated[dict[Word, Word], Meta(max_length=64)] = {}
    queues: Annotated[tuple[QueueName, ...], Meta(min_length=1, max_length=WORKER_QUEUES_MAX)] = (DEFAULT_QUEUE,)


class WorkerBody(Struct, forbid_unknown_fields=True, frozen=True):
    """POST /workers/heartbeat."""

    worker_id: WorkerName


class EnrolBody(Struct, forbid_unknown_fields=True, frozen=True):
    """POST /workers/enrol. The key is Z85 (ZeroMQ RFC 32); a scheduler whose workers need none takes none.
    `access_file`: the key is for an access file, so it stays the worker's until it is revoked.
    """

    worker_id: WorkerName
    public_key: str = ""
    access_file: bool = False


class TokenBody(Struct, forbid_unknown_fields=True, frozen=True):
    """POST /tokens."""

    scopes: Annotated[
        tuple[Literal["read", "submit", "operate", "worker", "admin"], ...], Meta(min_length=1, max_length=5)
    ]
    name: Annotated[str, Meta(pattern=tokens.NAME)] | None = None
    note: Annotated[str, Meta(max_length=NOTE_CHARS_MAX)] = ""
    expires: str | None = None
    run_as: Annotated[str, Meta(pattern=rf"^{USER_NAME.pattern}\Z")] | None = None
    pending_max: Annotated[int, Meta(ge=1, le=TOKEN_PENDING_MAX)] | None = None
    schedules_max: Annotated[int, Meta(ge=0, le=TOKEN_SCHEDULES_MAX)] | None = None
    priority_max: Annotated[int, Meta(ge=-PRIORITY_MAX, le=PRIORITY_MAX)] | None = None
    workers: Annotated[
        tuple[Annotated[str, Meta(pattern=tokens.WORKERS)], ...], Meta(max_length=TOKEN_WORKERS_MAX)
    ] = ()
    slots_max: Count | None = None


class FlowBody(Struct, forbid_unknown_fields=True, frozen=True):
    """POST /flows. The jobs by name. An entry of `after` is the name of a job, or the number of an earlier job, and may
    end in `:failed` or `:any`.
    """

    jobs: Annotated[dict[str, JobBody], Meta(min_length=1, max_length=JOBS_PER_SUBMIT_MAX)]


class FlowParts(Struct, forbid_unknown_fields=True, frozen=True):
    """The same with unread jobs, so that all that is wrong with them can be reported."""

    jobs: Annotated[dict[str, Any], Meta(min_length=1, max_length=JOBS_PER_SUBMIT_MAX)]


class SelectBody(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """Selects the jobs of a call on many jobs. `select`: numbers, ranges such as `1-5000,7001`, flows (`flow:12`), or
    `all`, the caller's own. `owner` leaves out the jobs of others; `all_owners`: `all` means the jobs of all owners.
    """

    select: str | tuple[Annotated[int, Meta(ge=1, le=INTEGER_MAX)], ...]
    owner: Annotated[str, Meta(pattern=OWNER, max_length=OWNER_CHARS_MAX)] | None = None
    all_owners: bool = False


class BulkBody(SelectBody, frozen=True, kw_only=True):
    """POST /jobs/bulk. Only jobs with this `status` and with a number above `after`. `cancel` is for `end`: also cancel
    what is live. `reason`: as of the call on a single job.
    """

    action: Action
    status: RunStatus | None = None
    cancel: bool = False
    reason: Annotated[str, Meta(max_length=REASON_CHARS_MAX)] = ""
    after: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] = 0


class PurgeBody(Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """POST /jobs/purge. Jobs that changed last longer ago than `older_than`, and with this final `status` if it is
    given. `dry_run`: only count them.
    """

    older_than: str
    status: Literal["success", "failed", "cancelled"] | None = None
    dry_run: bool = False


class ReasonBody(Struct, forbid_unknown_fields=True, frozen=True):
    """POST /queues/{queue}/pause and resume. `reason`: why, for people."""

    reason: Annotated[str, Meta(max_length=QUEUE_REASON_CHARS_MAX)] = ""


class QueueBody(Struct, forbid_unknown_fields=True, frozen=True):
    """PATCH /queues/{queue}. `fair`: `owner` shares the queue between owners; null: the oldest job comes first."""

    fair: Literal["owner"] | None


class WaitBody(SelectBody, frozen=True, kw_only=True):
    """POST /jobs/wait. `until` any or all of the jobs have ended, but no longer than `timeout`. `after`: the number
    `next` of an earlier answer; only what has happened since then counts.
    """

    timeout: str | Annotated[float, Meta(ge=0)] = "20s"
    until: Literal["any", "all"] = "any"
    after: Annotated[int, Meta(ge=0, le=INTEGER_MAX)] | None = None


class LogBody(Struct, forbid_unknown_fields=True, frozen=True):
    """POST /jobs/{id}/log."""

    worker_id: WorkerName
    status: Literal["running", "success", "failed"]
    logs: str | None = None
    exit_code: Annotated[int, Meta(ge=-(2**31), le=2**31)] | None = None
    artifacts: dict[str, str | FileBody] | None = None
    run_id: Annotated[int, Meta(ge=1, le=INTEGER_MAX)] | None = None


# The rule of a text in words, by the pattern in msgspec's sentence.
_WORKER_NAME: Final = "1 to 128 letters, digits and . _ @ : - (a letter or digit first)"
_PATTERNS: Final = {
    tokens.NAME: "1 to 64 letters, digits and . _ - (a letter or digit first), unlike an id",
    tokens.WORKERS: "a worker's name, in which * stands for any characters and ? for one",
    USER_NAME.pattern: "a user's name: a letter, then letters, digits and . _ -",
    OWNER: "me, user:NAME or token:NAME",
    SERVED_QUEUE.pattern: f"a queue's name ({QUEUE_RULE}), or * for all",
}

ShapeT = TypeVar("ShapeT", bound=Struct)

_preparing = threading.Lock()
_prepared: set[type[Struct]] = set()


def read(req: falcon.Request, shape: type[ShapeT], *, bytes_max: int = BODY_BYTES_MAX) -> ShapeT:
    """The request's body as the type of an endpoint. Raises a 400 or 413 Problem that names the field."""
    return convert(parse(read_bytes(req, bytes_max=bytes_max)), shape, "#")


def read_bytes(req: falcon.Request, *, bytes_max: int) -> bytes:
    """The request's body. Raises a 413 Problem, and a 503 Problem while too many large bodies are in memory."""
    # Waitress has received the whole body, so the length is always known.
    length = req.content_length or 0
    if length > bytes_max:
        raise Problem(413, "too_large", f"The body of this request has at most {bytes_max} bytes")
    req.context.admission.admit(req, length)
    return bytes(req.bounded_stream.read(length))


def parse(body: bytes) -> Any:
    """Parse strict JSON. Raises a 400 Problem, and a 413 Problem for too many values before it builds any."""
    if _too_many_values(body):
        detail = f"The JSON of one request has at most {BODY_VALUES_MAX} values: send less in each"
        raise Problem(413, "too_many", detail)
    try:
        value = json.loads(body.decode(), object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise invalid("#", "the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise invalid("#", f"the body is not JSON: {error}") from None
    except RecursionError:
        raise invalid("#", f"nested deeper than {BODY_DEPTH_MAX} levels") from None
    # Python itself refuses integers of thousands of digits.
    except ValueError:
        raise invalid("#", f"an integer lies outside ±{INTEGER_MAX}") from None
    _check(value, "#", 1)
    return value


def _too_many_values(body: bytes) -> bool:
    """Whether JSON has more values than BODY_VALUES_MAX. Linear in the body, and builds no value. Invalid JSON gives an
    arbitrary answer: the parser refuses it later.
    """
    # Cheap tests first: a body has at most as many marks as bytes, and few bodies have that many marks with strings.
    if len(body) < BODY_VALUES_MAX or _marks(body) < BODY_VALUES_MAX:
        return False
    # Without escaped backslashes and quotes, each remaining quote begins or ends a string.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    count, inside = 1, 0
    for begin in range(0, len(plain), _SPLIT_BYTES):
        parts = plain[begin : begin + _SPLIT_BYTES].split(b'"')
        count += _marks(b"".join(parts[inside::2]))
        if count > BODY_VALUES_MAX:
            return True
        inside ^= (len(parts) - 1) % 2
    return False


def _marks(text: bytes) -> int:
    return len(text) - len(text.translate(None, _MARKS))


def convert(value: object, shape: type[ShapeT], pointer: str) -> ShapeT:
    """A JSON value as the type of an endpoint. `pointer` is its place in the body. Raises a 400 Problem."""
    if shape not in _prepared:
        _prepare(shape)
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        sentence = str(error)
        if (found := _PATH.fullmatch(sentence)) is not None:
            sentence = found[1]
            pointer += found[2].replace("[...]", "").replace("[", "/").replace("]", "").replace(".", "/")
        if "matching regex" in sentence:
            # msgspec writes the pattern as Python does.
            meant = (words for pattern, words in _PATTERNS.items() if repr(pattern)[1:-1] in sentence)
            sentence = next(meant, _WORKER_NAME)
        if sentence.startswith("Invalid enum value"):
            sentence += _choice(shape, pointer.rpartition("/")[2])
        if (named := re.search(r"(?:unknown|required) field `(.*)`", sentence)) is not None:
            pointer += f"/{escaped(named[1])}"
            sentence = "unknown field" if "unknown" in sentence else "required"
        raise invalid(pointer, sentence) from None


def _prepare(shape: type[Struct]) -> None:
    """Let msgspec read the annotations of a type, as at the first use. Two threads that do so at the same time
    crash the process (SIGSEGV in msgspec 0.22.0).
    """
    with _preparing:
        with suppress(msgspec.ValidationError):
            msgspec.convert({}, shape)
        _prepared.add(shape)


def _choice(shape: type[Struct], field: str) -> str:
    """The allowed values of a field, as the end of an error sentence. Empty for a nested field."""
    kind = typing.get_type_hints(shape).get(field)
    parts = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, UnionType) else (kind,)
    words: list[str] = []
    for part in parts:
        if isinstance(part, type) and issubclass(part, Enum):
            words += [str(one.value) for one in part]
        elif typing.get_origin(part) is Literal:
            words += typing.get_args(part)
    if not words:
        return ""
    return f"; it is {'a number or' if int in parts else 'one of'} {', '.join(words)}"


def escaped(name: str) -> str:
    """A name as a step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise invalid("#", f"the key {json.dumps(name)} stands there twice")
        found[name] = value
    return found


def _no_constant(word: str) -> NoReturn:
    raise invalid("#", f"{word} is not a JSON number")


def _check(value: object, pointer: str, depth: int) -> None:
    """Refuse values that the store or a shell can't carry, at any depth. Raises a 400 Problem."""
    match value:
        case str():
            if "\0" in value:
                raise invalid(pointer, "a NUL character can't be stored or run")
            if not value.isascii() and _SURROGATE.search(value):
                raise invalid(pointer, "a lone surrogate is not a character")
        case bool() | None:
            pass
        case int():
            if abs(value) > INTEGER_MAX:
                raise invalid(pointer, f"an integer lies outside ±{INTEGER_MAX}")
        case float():
            if not math.isfinite(value):
                raise invalid(pointer, "a number is too large for a float of 64 bits")
        case dict() | list():
            if depth > BODY_DEPTH_MAX:
                raise invalid(pointer, f"nested deeper than {BODY_DEPTH_MAX} levels")
            members = value.items() if isinstance(value, dict) else enumerate(value)
            for name, member in members:
                _check(name, pointer, depth)
                _check(member, f"{pointer}/{escaped(str(name))}", depth + 1)
