"""The frames that scheduler and workers exchange: their types, how they are packed, what is refused.

Called by the loop and by the worker's link, which see bytes; dispatcher and agent see only the types below. Pure: bytes
in, a frame or ProtocolError out, nothing else. docs/protocol.md describes the same frames for people who write a worker
in another language, and changes in the same commit as this file.

One frame is one msgpack map of at most FRAME_FROM_WORKER_BYTES_MAX or FRAME_TO_WORKER_BYTES_MAX bytes. `t` names its
type and `v` the protocol's version; unknown keys are ignored, so a neighbouring release may add some. There are no
floats: fractions travel as thousandths.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal

import msgpack
import msgspec
from msgspec import Meta, Struct

from zsched.model.limits import (
    FRAME_FROM_WORKER_BYTES_MAX,
    FRAME_KEYS_MAX,
    FRAME_LIST_MAX,
    FRAME_TO_WORKER_BYTES_MAX,
    FRAME_VALUES_MAX,
    LOG_BYTES_MAX,
    RESULTS_PER_FRAME_MAX,
    SLOTS_MAX,
    WORKER_FACTS_BYTES_MAX,
)
from zsched.model.types import Launch

VERSION: Final = 1
VERSIONS: Final = (1,)

# The largest integer that JSON readers in other languages and SQLite both carry without loss.
INTEGER_MAX: Final = 2**53

Natural = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
RunId = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
# One line of printable characters without spaces, quotes or slashes: safe in URLs, paths and logs.
WorkerName = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:-]*\Z")]
Word = Annotated[str, Meta(max_length=64)]
Line = Annotated[str, Meta(max_length=1024)]

# What a frame is packed in at first. msgpack would take 256 KiB, which costs ten times what packing does.
_PACK_BYTES: Final = 1024

Phase = Literal["waiting", "running", "finished"]
StreamName = Literal["stdout", "stderr"]
Verdict = Literal["stored", "duplicate", "stale", "unknown"]
ErrorCode = Literal["E_VERSION", "E_KEY", "E_SESSION", "E_DUP", "E_BUSY", "E_BAD"]


class ProtocolError(Exception):
    """The peer sent something that is no frame. The sentence may be sent back to it; nothing was changed."""


class Held(Struct, frozen=True, gc=False):
    """A run that a worker holds: waiting for a slot, running, or finished with its result not yet acked."""

    run: RunId
    phase: Phase


class Output(Struct, frozen=True, gc=False):
    """What a run wrote to one stream: its first and last bytes, and how many there were in all.

    When `total` is len(head) + len(tail), nothing was cut out between them.
    """

    head: bytes = b""
    tail: bytes = b""
    total: Natural = 0


class RunResult(Struct, frozen=True, gc=False, omit_defaults=True):
    """How a run ended. Times are milliseconds since 1970 UTC by the worker's clock; `started_ms` is None if it never
    started.
    """

    run: RunId
    status: Literal["success", "failed"]
    reason: Literal["exit", "signal", "timeout", "cancelled", "spawn_error", "lease_stop"]
    finished_ms: Natural
    started_ms: Natural | None = None
    exit_code: Annotated[int, Meta(ge=-(2**31), le=2**31)] | None = None
    signal: Annotated[int, Meta(ge=1, le=128)] | None = None
    detail: Line = ""
    stdout: Output = Output()
    stderr: Output = Output()


class RunOrder(Launch, frozen=True, gc=False, omit_defaults=True):
    """What a worker needs to execute one run, with the fields of Launch. `command` is an argument of `/bin/sh -c --`.
    `timeout_ms` None: no limit. The values of `secret_env` are in plain text here, and never shown. `lease_ms`: the
    worker ends the run before the scheduler has not heard from it for that time; None: the run goes on.
    """

    run: RunId
    job: RunId
    task: Natural
    attempt: Natural
    command: str
    grace_ms: Natural
    output_bytes_max: Natural
    timeout_ms: Natural | None = None
    probation: bool = False
    lease_ms: Natural | None = None


class Foreign(Struct, frozen=True, gc=False, omit_defaults=True):
    """What a worker holds for another database. `running`: processes exist and go on. `ending`: they exist, and were
    killed by a `discard`. `results` counts the results on the worker's disk.

    Only in a register: `finished`, the runs of these results, and `ended`, the discarded runs that are gone.
    """

    db: Word
    running: tuple[RunId, ...] = ()
    ending: tuple[RunId, ...] = ()
    results: Natural = 0
    finished: tuple[RunId, ...] = ()
    ended: tuple[RunId, ...] = ()


class Frame(Struct, frozen=True, tag_field="t", kw_only=True):
    """What every frame carries besides its type."""

    v: int = VERSION


class FromWorker(Frame, frozen=True):
    """A frame of a registered worker: `s` is the session that the scheduler gave it."""

    s: Word


class FromScheduler(Frame, frozen=True):
    """A frame to a registered worker: its session and the scheduler's epoch."""

    s: Word
    ep: Natural


# --- from the worker -------------------------------------------------------------------------------------------------


class Register(Frame, frozen=True, tag="register"):
    """A worker introduces itself and tells all it holds. `lock` is (device, inode) of the file it holds locked.

    `incarnation` is new at each start of the worker, and stays when only its agent is restarted. `db` is the database
    of its `runs`, empty if none; `foreign` is what it holds for other databases. `sent_ms` is by a clock of the machine
    that never goes back during one boot; 0 if there is none. `leaving`: as in Ready.
    """

    versions: tuple[int, ...]
    worker: WorkerName
    incarnation: Word
    boot_id: Word
    lock: tuple[Natural, Natural]
    slots: Annotated[int, Meta(ge=1, le=SLOTS_MAX)]
    heartbeat_ms: Natural
    db: Word = ""
    sent_ms: Natural = 0
    host: Annotated[str, Meta(max_length=255)] = ""
    agent: Word = ""
    can: tuple[Word, ...] = ()
    labels: dict[Word, Word] = {}
    runs: tuple[Held, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    leaving: bool = False

    def __post_init__(self) -> None:
        size = facts_bytes(self.can, self.labels)
        if size > WORKER_FACTS_BYTES_MAX:
            raise ValueError(too_many_facts(size))


class Heartbeat(FromWorker, frozen=True, tag="heartbeat"):
    """I live, and this is all I hold. `n` is the number of the last `run` frame seen in this session, 0 before the
    first. `stuck`: those of the held runs whose processes were killed and do not end. `foreign`: what is held for
    other databases. `leaving`: as in Ready.
    """

    seq: Natural
    n: Natural
    window: Natural
    ahead: Natural
    runs: tuple[Held, ...] = ()
    stuck: tuple[RunId, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    load_milli: Natural = 0
    disk_free_bytes: Natural = 0
    leaving: bool = False


class Ready(FromWorker, frozen=True, tag="ready"):
    """How much the worker takes: at most `window` unfinished runs, `ahead` of them beyond its slots. `leaving`: it was
    told to end, so none of its runs is to blame when it is lost from now on.
    """

    window: Natural
    ahead: Natural
    leaving: bool = False


class Started(FromWorker, frozen=True, tag="started"):
    """A run's process exists. Sent for runs that live longer than 100 ms or are on probation; repeating it does no
    harm.
    """

    run: RunId
    pid: Natural
    at_ms: Natural


class Result(FromWorker, frozen=True, tag="result"):
    """Runs that ended. Sent again until acked. Of several results for one run the first counts."""

    results: Annotated[tuple[RunResult, ...], Meta(min_length=1, max_length=RESULTS_PER_FRAME_MAX)]


class Return(FromWorker, frozen=True, tag="return"):
    """Runs that the worker hands back unstarted."""

    runs: Annotated[tuple[RunId, ...], Meta(min_length=1)]


class Log(FromWorker, frozen=True, tag="log"):
    """What a watched run wrote to a stream from byte `offset` on. Best effort: the result has it all."""

    run: RunId
    stream: StreamName
    offset: Natural
    data: Annotated[bytes, Meta(max_length=LOG_BYTES_MAX)]


class WorkerBye(FromWorker, frozen=True, tag="bye"):
    """The worker leaves. `guard_lost` counts as a loss of its runs; any other reason counts against nothing. `runs` are
    all that it still holds; None: it does not say.
    """

    reason: Word
    runs: tuple[Held, ...] | None = None


# --- from the scheduler ----------------------------------------------------------------------------------------------


class Registered(FromScheduler, frozen=True, tag="registered"):
    """A new session. The worker goes on with the runs in `keep`, kills those in `kill`, and then sends what it has
    finished. `discard`: databases whose runs it kills and whose results it drops; it keeps those of all others.
    """

    db: Word
    heartbeat_ms: Natural
    timeout_ms: Natural
    keep: tuple[RunId, ...] = ()
    kill: tuple[RunId, ...] = ()
    discard: tuple[Word, ...] = ()


class HeartbeatAck(FromScheduler, frozen=True, tag="heartbeat_ack"):
    """The heartbeat `seq` came. `kill`: held, but not this worker's to run. `cancel`: its own runs that shall stop.
    `discard` as in `registered`.
    """

    seq: Natural
    kill: tuple[RunId, ...] = ()
    cancel: tuple[RunId, ...] = ()
    discard: tuple[Word, ...] = ()


class Run(FromScheduler, frozen=True, tag="run"):
    """Runs to execute, already stored as running on this worker. `n` counts these frames in the session."""

    n: Natural
    runs: tuple[RunOrder, ...]


class ResultAck(FromScheduler, frozen=True, tag="result_ack"):
    """What became of each result, as (run, verdict). The worker forgets the run whatever the verdict is."""

    verdicts: tuple[tuple[RunId, Verdict], ...]


class Cancel(FromScheduler, frozen=True, tag="cancel"):
    """Runs that shall stop: TERM, their grace, KILL. Repeated in each heartbeat_ack until the result comes. `discard`
    as in `registered`.
    """

    runs: tuple[RunId, ...]
    discard: tuple[Word, ...] = ()


class Watch(FromScheduler, frozen=True, tag="watch"):
    """Somebody looks at a running run: send `log` frames for `for_ms`, from these offsets of its streams on."""

    run: RunId
    stdout: Natural
    stderr: Natural
    for_ms: Natural


class SchedulerBye(FromScheduler, frozen=True, tag="bye"):
    """The scheduler stops. The worker keeps its runs and looks for the next scheduler."""

    reason: Word


class Error(Frame, frozen=True, tag="error"):
    """Something the worker sent was refused. After a fatal one it stops; after E_SESSION it registers again."""

    code: ErrorCode
    fatal: bool
    detail: Line


WorkerFrame = Register | Heartbeat | Ready | Started | Result | Return | Log | WorkerBye
SchedulerFrame = Registered | HeartbeatAck | Run | ResultAck | Cancel | Watch | SchedulerBye | Error


def pack(frame: WorkerFrame | SchedulerFrame) -> bytes:
    """The frame as bytes."""
    packed: bytes = msgpack.packb(
        msgspec.to_builtins(frame, builtin_types=(bytes,)), use_bin_type=True, buf_size=_PACK_BYTES
    )
    return packed


def unpack_from_worker(body: bytes) -> WorkerFrame:
    """The frame that a worker sent. Raises ProtocolError, and nothing else, whatever the bytes are."""
    frame: WorkerFrame = _convert(body, FRAME_FROM_WORKER_BYTES_MAX, WorkerFrame)
    return frame


def unpack_from_scheduler(body: bytes) -> SchedulerFrame:
    """The frame that the scheduler sent. Raises ProtocolError, and nothing else, whatever the bytes are."""
    frame: SchedulerFrame = _convert(body, FRAME_TO_WORKER_BYTES_MAX, SchedulerFrame)
    return frame


def facts_bytes(can: Iterable[str], labels: Mapping[str, str]) -> int:
    """What a worker says of itself, in bytes of UTF-8."""
    return sum(len(text.encode(errors="replace")) for text in (*can, *labels, *labels.values()))


def too_many_facts(size: int) -> str:
    """The sentence that refuses a worker's `can` and `labels` of that size."""
    return f"can and labels have at most {WORKER_FACTS_BYTES_MAX} bytes of UTF-8 together, these {size}: send fewer"


def entries(frame: WorkerFrame) -> int:
    """How many runs a frame speaks of in its lists: what handling it costs, beside the frame itself."""
    match frame:
        case Result():
            return len(frame.results)
        case Heartbeat():
            return len(frame.runs) + len(frame.stuck) + sum(map(_foreign_entries, frame.foreign))
        case Register():
            return len(frame.runs) + sum(map(_foreign_entries, frame.foreign))
        case Return():
            return len(frame.runs)
        case WorkerBye():
            return len(frame.runs or ())
        case _:
            return 0


def _foreign_entries(held: Foreign) -> int:
    return 1 + len(held.running) + len(held.ending) + len(held.finished) + len(held.ended)


def _convert(body: bytes, bytes_max: int, frames: Any) -> Any:
    try:
        return msgspec.convert(_decode(body, bytes_max), frames)
    except msgspec.ValidationError as error:
        raise ProtocolError(str(error)) from None


def _decode(body: bytes, bytes_max: int) -> object:
    """msgpack's own limits stop nesting and false lengths; what it lets pass and no frame needs is refused here."""
    if len(body) > bytes_max:
        raise ProtocolError(f"a frame has at most {bytes_max} bytes, this one {len(body)}")
    # A value has one byte at least, so most frames need not be counted.
    if len(body) > FRAME_VALUES_MAX and _values_exceed(body, FRAME_VALUES_MAX):
        raise ProtocolError(f"a frame has at most {FRAME_VALUES_MAX} values")
    try:
        return msgpack.unpackb(
            body,
            object_pairs_hook=_unique_keys,
            ext_hook=_no_extensions,
            max_array_len=FRAME_LIST_MAX,
            max_map_len=FRAME_KEYS_MAX,
        )
    except ProtocolError:
        raise
    # msgpack raises ValueError and its own classes, TypeError for unhashable keys, RecursionError for depth.
    except Exception as error:
        raise ProtocolError(f"not a msgpack map: {type(error).__name__}") from None


# The bytes of a value by its first one, of an array or a map without what is in it. 0: its length follows.
_SIZES: Final = bytes(
    (
        *[1] * 0xA0,  # small integers, maps and arrays
        *range(1, 33),  # short texts
        *(1, 1, 1, 1),  # nil, one that is never used, false, true
        *(0, 0, 0, 0, 0, 0),  # binaries, extensions
        *(5, 9),  # floats
        *(2, 3, 5, 9, 2, 3, 5, 9),  # integers
        *(3, 4, 6, 10, 18),  # short extensions
        *(0, 0, 0),  # texts
        *(3, 5, 3, 5),  # arrays, maps
        *[1] * 0x20,  # small negative integers
    )
)
# In how many bytes the length is, and how many come before the content.
_LENGTHS: Final = (
    {0xC4: (1, 2), 0xC5: (2, 3), 0xC6: (4, 5)}  # binaries
    | {0xC7: (1, 3), 0xC8: (2, 4), 0xC9: (4, 6)}  # extensions, which have a type too
    | {0xD9: (1, 2), 0xDA: (2, 3), 0xDB: (4, 5)}  # texts
)


def _values_exceed(body: bytes, most: int) -> bool:
    """Whether there are more values than that. Goes from head to head, however they are nested, and makes nothing."""
    at, end = 0, len(body)
    for _ in range(most + 1):
        if at >= end:
            return False
        if size := _SIZES[body[at]]:
            at += size
        else:
            width, before = _LENGTHS[body[at]]
            at += before + int.from_bytes(body[at + 1 : at + 1 + width])
    return True


def _unique_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ProtocolError("a map has the same key twice")
    return found


def _no_extensions(_code: int, _data: bytes) -> object:
    raise ProtocolError("msgpack extension types are not used here")
