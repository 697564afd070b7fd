"""The messages between guard and agent. Pure; channel.py carries them.

Both ends are of one release, so these messages have no version. Each is a msgpack array that begins with its type's
name. A message that names runs by number alone means those of the current database.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from zsched.model.types import StreamName
from zsched.protocol import Held, RunOrder, RunResult


class ForeignRuns(Struct, frozen=True, array_like=True, gc=False):
    """The runs and results that the guard holds for another database than the current one. Lists as in
    protocol.Foreign; `leases` as in Snapshot. `stuck`: the number of runs that are stuck, as in State.
    """

    db: str
    running: tuple[int, ...] = ()
    ending: tuple[int, ...] = ()
    results: int = 0
    finished: tuple[int, ...] = ()
    ended: tuple[int, ...] = ()
    leases: tuple[tuple[int, int], ...] = ()
    stuck: int = 0


class Message(Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A message in either direction."""


# --- from both ---


class Alive(Message, frozen=True):
    """Sign of life: the agent asks, and the guard answers with the same. `within_ms`: the sender's next message follows
    within this time; the guard kills an agent that is silent for longer.
    """

    within_ms: int = 0


# --- from the guard --------------------------------------------------------------------------------------------------


class State(Message, frozen=True):
    """The state of the worker, sent when it changes.

    `foreign`: all that the guard holds for databases other than `db`, the current one. `stuck`: all runs whose
    processes were killed STUCK_MS ago and do not end. `disk_fails`: the disk fails to keep results; the agent asks for
    no runs meanwhile, and results are still reported. `stopping`: the worker is about to end, so ask for no more runs.
    `leave`: nothing is left to do, so say goodbye to the scheduler and exit.
    """

    db: str
    foreign: tuple[ForeignRuns, ...] = ()
    stuck: tuple[int, ...] = ()
    disk_fails: bool = False
    stopping: bool = False
    leave: bool = False


class Snapshot(Message, frozen=True):
    """All that the guard holds: part of Hello, and the answer to Session with another database. No run waits for a
    slot.

    `state` has the current database, empty without one. `dropped`: held runs that were dropped; `discarded`: held runs
    that were discarded before their database came back; Gone follows for both. `leases`: (run, lease_ms) of live runs.
    Earlier messages are about the previous database.
    """

    state: State
    held: tuple[Held, ...] = ()
    results: tuple[RunResult, ...] = ()
    dropped: tuple[int, ...] = ()
    discarded: tuple[int, ...] = ()
    leases: tuple[tuple[int, int], ...] = ()


class Hello(Message, frozen=True):
    """The first message to a new agent: the worker's identity, and what it holds.

    `schedulers`: their URLs, none for the default endpoint. `spool_id`: the mark of this worker's processes. `access`
    and `token_file`: paths, or empty.
    """

    worker: str
    schedulers: tuple[str, ...]
    slots: int
    heartbeat_ms: int
    poll_ms: int
    log_level: str
    incarnation: str
    boot_id: str
    lock: tuple[int, int]
    state_dir: str
    spool_id: str
    access: str = ""
    token_file: str = ""
    queues: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    snapshot: Snapshot = Snapshot(State(""))


class Began(Message, frozen=True):
    """A run's process exists. Sent only for runs that live for a while or are on probation."""

    run: int
    pid: int
    at_ms: int


class Ended(Message, frozen=True):
    """Runs that ended. The guard keeps these results until Forget.

    `found`: they were on disk, and no earlier message names these runs. `gone`: dropped runs, of which all processes
    have ended and no result is kept.
    """

    results: tuple[RunResult, ...] = ()
    found: bool = False
    gone: tuple[int, ...] = ()


class Logged(Message, frozen=True):
    """Output of a watched run's stream from byte `offset` on."""

    run: int
    stream: StreamName
    offset: int
    data: bytes


class Unstarted(Message, frozen=True):
    """Runs that the guard no longer holds and never started.

    `withdrawn`: the answer to Session with `lost`. `no_room`: the host could start no process, so ask for no runs for a
    while.
    """

    runs: tuple[int, ...]
    withdrawn: bool = False
    no_room: bool = False


# --- from the agent --------------------------------------------------------------------------------------------------


class Session(Message, frozen=True):
    """What the guard has to know of the session with the scheduler. The guard obeys the fields in this order.

    `db`: the current database from now on; a later agent gets it in Hello. Runs of the previous one become foreign, and
    their results stay on disk. A change is answered by Snapshot. `discard`: other databases to discard: their runs end
    without results, and their results on disk are removed. `heard_ms`: the scheduler received a
    frame that was sent at that time, by the clock that both share: leases count from it. It precedes the Start of the
    first run with a lease. `lost`: the session is lost, so start no waiting run. Answered by one Unstarted, even if no
    run waits.
    """

    db: str
    discard: tuple[str, ...] = ()
    heard_ms: int | None = None
    lost: bool = False


class Start(Message, frozen=True):
    """Runs to execute, in this order, as slots become free.

    `heard_ms`: when the agent received them, by the clock that both share.
    """

    orders: tuple[RunOrder, ...]
    heard_ms: int


class Stop(Message, frozen=True):
    """Runs to end: TERM, their grace, KILL. Each is answered by Ended (reason `cancelled`) or Unstarted.

    `drop`: without results, and results to forget. Each is answered in Ended.gone.
    """

    runs: tuple[int, ...]
    drop: bool = False


class Forget(Message, frozen=True):
    """Results that the scheduler has acked."""

    runs: tuple[int, ...]


class Look(Message, frozen=True):
    """Report a run's output for `for_ms`, from these offsets of its streams on. Ignored when it does not live."""

    run: int
    stdout: int
    stderr: int
    for_ms: int


class Refused(Message, frozen=True):
    """The scheduler refuses this worker: end with this exit code."""

    exit_code: int


# Messages that name runs of the current database by number alone, without the database.
OF_RUNS: Final = (Began, Ended, Logged, Unstarted)

FromGuard = Alive | Hello | Snapshot | State | Began | Ended | Logged | Unstarted
FromAgent = Alive | Session | Start | Stop | Forget | Look | Refused
