"""The types of the frames that scheduler and workers exchange. Pure: no encoding (see `codec`), no I/O.

docs/protocol.md describes the same frames for authors of workers in other languages; it changes in the same commit as
this file.

A frame is one msgpack map of at most FRAME_FROM_WORKER_BYTES_MAX or FRAME_TO_WORKER_BYTES_MAX bytes. `t` is its type
and `v` the protocol version. Unknown keys are ignored, so that a neighbouring release may add some. There are no
floats: fractions travel as thousandths.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from zsched.model.fields import QueueName, WorkerName
from zsched.model.files import File
from zsched.model.launch import Launch
from zsched.model.limits import (
    INTEGER_MAX,
    LOG_BYTES_MAX,
    RESULTS_PER_FRAME_MAX,
    SLOTS_MAX,
    WORKER_FACTS_BYTES_MAX,
)
from zsched.model.types import StreamName, Verdict

VERSION: Final = 1
VERSIONS: Final = (1,)

Natural = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
RunNumber = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
Word = Annotated[str, Meta(max_length=64)]
Line = Annotated[str, Meta(max_length=1024)]

Phase = Literal["waiting", "running", "finished"]
ErrorCode = Literal["E_VERSION", "E_KEY", "E_SESSION", "E_DUP", "E_BUSY", "E_BAD"]


class Held(Struct, frozen=True, gc=False):
    """A run that a worker holds: waiting for a slot, running, or finished with an unacknowledged result."""

    run: RunNumber
    phase: Phase


class Output(Struct, frozen=True, gc=False):
    """The kept output of one stream of a run: its first bytes, its last bytes, and its total length in bytes.

    When `total` is len(head) + len(tail), the output is complete.
    """

    head: bytes = b""
    tail: bytes = b""
    total: Natural = 0


class RunResult(Struct, frozen=True, gc=False, omit_defaults=True):
    """The end of a run. Times are milliseconds since 1970 UTC by the worker's clock. `started_ms` is None for a run
    that never started.

    `files`: its artifacts, or the last of them: `parts` frames with the others came before. `left_out`: how many
    artifacts were not kept; `detail` says why.
    """

    run: RunNumber
    status: Literal["success", "failed"]
    reason: Literal["exit", "signal", "timeout", "cancelled", "spawn_error", "lease_stop", "cwd_missing"]
    finished_ms: Natural
    started_ms: Natural | None = None
    exit_code: Annotated[int, Meta(ge=-(2**31), le=2**31)] | None = None
    signal: Annotated[int, Meta(ge=1, le=128)] | None = None
    detail: Line = ""
    stdout: Output = Output()
    stderr: Output = Output()
    files: tuple[File, ...] = ()
    parts: Natural = 0
    left_out: Natural = 0


class RunOrder(Launch, frozen=True, gc=False, omit_defaults=True):
    """The description of one run for the worker that executes it, with the fields of Launch.

    `command` is an argument of `/bin/sh -c --`. `timeout_ms` None: no limit. The values of `secret_env` are in plain
    text here, and never shown. `lease_ms`: the worker must end the run within this time after the scheduler last heard
    from it; None: the run continues. `signal`: the main process gets this signal `signal_ms` after its start. `entry`:
    the job gets it as ZSCHED_ENTRY, and in its arguments in the place of `{}`. `files` belong into a scratch folder, in
    which the patterns `artifacts` are looked for after the run.
    """

    run: RunNumber
    job: RunNumber
    task: Natural
    attempt: Natural
    command: str
    grace_ms: Natural
    output_bytes_max: Natural
    timeout_ms: Natural | None = None
    probation: bool = False
    lease_ms: Natural | None = None
    stdin: str | None = None
    files: tuple[File, ...] = ()
    signal: Annotated[int, Meta(ge=1, le=64)] | None = None
    signal_ms: Natural = 0
    entry: str | None = None

    @property
    def has_scratch(self) -> bool:
        """Whether the run has a scratch folder."""
        return bool(self.files or self.artifacts)


class Foreign(Struct, frozen=True, gc=False, omit_defaults=True):
    """The runs and results that a worker holds for another database. `running`: live runs, which continue. `ending`:
    live runs that a `discard` has killed. `results`: the number of results on the worker's disk.

    Only in a register: `finished`, the runs of these results, and `ended`, the discarded runs that have ended.
    """

    db: Word
    running: tuple[RunNumber, ...] = ()
    ending: tuple[RunNumber, ...] = ()
    results: Natural = 0
    finished: tuple[RunNumber, ...] = ()
    ended: tuple[RunNumber, ...] = ()


class Frame(Struct, frozen=True, tag_field="t", kw_only=True):
    """The fields of every frame besides its type."""

    v: int = VERSION


class FromWorker(Frame, frozen=True):
    """A frame of a registered worker. `s` is the session token from `registered`."""

    s: Word


class FromScheduler(Frame, frozen=True):
    """A frame to a registered worker: its session token and the scheduler's epoch."""

    s: Word
    ep: Natural


# --- from the worker -------------------------------------------------------------------------------------------------


class Register(Frame, frozen=True, tag="register"):
    """Request for a session, with everything that the worker holds. `lock`: (device, inode) of its locked lock file.

    `incarnation` changes with each start of the worker, but not with a restart of its agent. `db`: the database of
    `runs`, empty without one; `foreign`: what it holds for other databases. `sent_ms`: by a clock of the machine that
    never goes back during one boot; 0 without such a clock. `queues`: those that the worker serves, `*` for all; empty:
    `default` alone. `leaving`: as in Ready.
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
    queues: tuple[QueueName, ...] = ()
    runs: tuple[Held, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    leaving: bool = False

    def __post_init__(self) -> None:
        size = facts_bytes(self.can, self.labels, self.queues)
        if size > WORKER_FACTS_BYTES_MAX:
            raise ValueError(too_many_facts(size))
        _demand_distinct(self.foreign, self.db)


class Heartbeat(FromWorker, frozen=True, tag="heartbeat"):
    """Sign of life, with everything that the worker holds. `n`: the number of the last `run` frame received in this
    session, 0 before the first. `stuck`: held runs whose killed processes do not end. `foreign`: what it holds for
    other databases. `leaving`: as in Ready.
    """

    seq: Natural
    n: Natural
    window: Natural
    ahead: Natural
    runs: tuple[Held, ...] = ()
    stuck: tuple[RunNumber, ...] = ()
    foreign: tuple[Foreign, ...] = ()
    load_milli: Natural = 0
    disk_free_bytes: Natural = 0
    leaving: bool = False

    def __post_init__(self) -> None:
        if self.foreign:
            _demand_distinct(self.foreign)


class Ready(FromWorker, frozen=True, tag="ready"):
    """The worker's capacity: at most `window` unfinished runs, `ahead` of them beyond its slots. `leaving`: the worker
    was asked to end, so none of its runs is blamed for its loss from now on.
    """

    window: Natural
    ahead: Natural
    leaving: bool = False


class Started(FromWorker, frozen=True, tag="started"):
    """A run's process exists. Sent for runs that live longer than 100 ms or are on probation. Idempotent."""

    run: RunNumber
    pid: Natural
    at_ms: Natural


class Result(FromWorker, frozen=True, tag="result"):
    """Runs that ended. Sent again until acknowledged. Of several results for one run the first counts."""

    results: Annotated[tuple[RunResult, ...], Meta(min_length=1, max_length=RESULTS_PER_FRAME_MAX)]


class Artifacts(FromWorker, frozen=True, tag="artifacts"):
    """Artifacts of a run that do not fit its result, which follows. `n` numbers the frames of a run from 0. A file
    with the path of the one before, in this frame or the previous one, continues it.
    """

    run: RunNumber
    n: Natural
    files: Annotated[tuple[File, ...], Meta(min_length=1)]


class Return(FromWorker, frozen=True, tag="return"):
    """Runs that the worker hands back unstarted."""

    runs: Annotated[tuple[RunNumber, ...], Meta(min_length=1)]


class Log(FromWorker, frozen=True, tag="log"):
    """Output of a watched run's stream from byte `offset` on. Best effort: the result has the whole output."""

    run: RunNumber
    stream: StreamName
    offset: Natural
    data: Annotated[bytes, Meta(max_length=LOG_BYTES_MAX)]


class WorkerBye(FromWorker, frozen=True, tag="bye"):
    """The worker ends its session. The reason `guard_lost` counts as a loss of its runs; others have no consequence.

    `runs`: all that it still holds; None: not stated.
    """

    reason: Word
    runs: tuple[Held, ...] | None = None


# --- from the scheduler ----------------------------------------------------------------------------------------------


class Registered(FromScheduler, frozen=True, tag="registered"):
    """A new session. The worker continues the runs in `keep`, kills those in `kill`, and then sends its results.

    `discard`: databases whose runs the worker kills and whose results it drops; it keeps those of all others.
    """

    db: Word
    heartbeat_ms: Natural
    timeout_ms: Natural
    keep: tuple[RunNumber, ...] = ()
    kill: tuple[RunNumber, ...] = ()
    discard: tuple[Word, ...] = ()


class HeartbeatAck(FromScheduler, frozen=True, tag="heartbeat_ack"):
    """Answer to the heartbeat `seq`. `kill`: held runs that are not this worker's. `cancel`: its own runs to stop.
    `discard`: as in `registered`.
    """

    seq: Natural
    kill: tuple[RunNumber, ...] = ()
    cancel: tuple[RunNumber, ...] = ()
    discard: tuple[Word, ...] = ()


class Dispatch(FromScheduler, frozen=True, tag="run"):
    """Runs to execute, already stored as running on this worker. `n` grows with each of these frames in a session."""

    n: Natural
    runs: tuple[RunOrder, ...]


class ResultAck(FromScheduler, frozen=True, tag="result_ack"):
    """Answer to results, as (run, verdict). The worker forgets the run, whatever the verdict is."""

    verdicts: tuple[tuple[RunNumber, Verdict], ...]


class Cancel(FromScheduler, frozen=True, tag="cancel"):
    """Runs to stop: TERM, their grace, KILL. Repeated in each heartbeat_ack until the result arrives. `discard`: as in
    `registered`.
    """

    runs: tuple[RunNumber, ...]
    discard: tuple[Word, ...] = ()


class Watch(FromScheduler, frozen=True, tag="watch"):
    """Request for `log` frames of a running run, for `for_ms`, from these offsets of its streams on."""

    run: RunNumber
    stdout: Natural
    stderr: Natural
    for_ms: Natural


class SchedulerBye(FromScheduler, frozen=True, tag="bye"):
    """The scheduler stops. The worker keeps its runs and looks for the next scheduler."""

    reason: Word


class Error(Frame, frozen=True, tag="error"):
    """The scheduler refused a frame of the worker. After a fatal error it ends; after E_SESSION it registers again."""

    code: ErrorCode
    fatal: bool
    detail: Line


WorkerFrame = Register | Heartbeat | Ready | Started | Result | Artifacts | Return | Log | WorkerBye
SchedulerFrame = Registered | HeartbeatAck | Dispatch | ResultAck | Cancel | Watch | SchedulerBye | Error


def facts_bytes(can: Iterable[str], labels: Mapping[str, str], queues: Iterable[str] = ()) -> int:
    """The size of a worker's `can`, `labels` and `queues`, in bytes of UTF-8."""
    return sum(len(text.encode(errors="replace")) for text in (*can, *labels, *labels.values(), *queues))


def too_many_facts(size: int) -> str:
    """The error sentence for `can`, `labels` and `queues` of that size."""
    most = f"at most {WORKER_FACTS_BYTES_MAX} bytes of UTF-8 together"
    return f"can, labels and queues have {most}, not {size}: send fewer"


def _demand_distinct(foreign: tuple[Foreign, ...], db: str = "") -> None:
    """Raises ValueError if a database is listed twice."""
    named = [held.db for held in foreign]
    if len(set(named)) < len(named) or (db and db in named):
        raise ValueError("foreign has a database twice: list each once, and not the one of db")


def entries(frame: WorkerFrame) -> int:
    """The number of entries in a frame's lists: the cost of handling it, besides the frame itself."""
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
