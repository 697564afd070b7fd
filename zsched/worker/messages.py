"""The messages between guard and agent. Pure; channel.py carries them.

Both ends are of one release, so these messages have no version. Each is a msgpack array that begins with its type's
name.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from zsched.model.types import StreamName
from zsched.protocol import Held, RunOrder, RunResult


class ForeignRuns(Struct, frozen=True, array_like=True, gc=False):
    """The runs and results that the guard holds for another database than the current one. Lists as in
    protocol.Foreign; `leases` as in Hello.
    """

    db: str
    running: tuple[int, ...] = ()
    ending: tuple[int, ...] = ()
    results: int = 0
    finished: tuple[int, ...] = ()
    ended: tuple[int, ...] = ()
    leases: tuple[tuple[int, int], ...] = ()


class Message(Struct, frozen=True, array_like=True, tag=True, gc=False):
    """A message in either direction."""


# --- from both ---


class Alive(Message, frozen=True):
    """Sign of life: the agent asks, and the guard answers with the same. `within_ms`: the sender's next message follows
    within this time; the guard kills an agent that is silent for longer.
    """

    within_ms: int = 0


# --- from the guard --------------------------------------------------------------------------------------------------


class Hello(Message, frozen=True):
    """The first message to a new agent: the worker's identity and all that the guard holds. No run waits for a slot.

    `scheduler`: a URL, or empty for the default endpoint. `db`: the database of these runs, empty without one.
    `spool_id`: the mark of this worker's processes. `dying`: held runs that were dropped; `doomed`: held runs that were
    discarded before their database came back; Gone follows for both. `stuck` as in Stuck, `disk_fails` as in DiskFails,
    `foreign` as in Foreign. `leases`: (run, lease_ms) of live runs. `access` and `token_file`: paths, or empty.
    """

    worker: str
    scheduler: str
    slots: int
    heartbeat_ms: int
    poll_ms: int
    log_level: str
    incarnation: str
    boot_id: str
    lock: tuple[int, int]
    state_dir: str
    spool_id: str
    db: str
    stopping: bool
    held: tuple[Held, ...]
    results: tuple[RunResult, ...]
    dying: tuple[int, ...] = ()
    stuck: tuple[int, ...] = ()
    leases: tuple[tuple[int, int], ...] = ()
    access: str = ""
    token_file: str = ""
    disk_fails: bool = False
    foreign: tuple[ForeignRuns, ...] = ()
    doomed: tuple[int, ...] = ()


class Began(Message, frozen=True):
    """A run's process exists. Sent only for runs that live for a while or are on probation."""

    run: int
    pid: int
    at_ms: int


class Ended(Message, frozen=True):
    """Runs that ended. The guard keeps these results until Forget."""

    results: tuple[RunResult, ...]


class Spooled(Message, frozen=True):
    """Results that were on disk and that the agent does not know: their database is the current one now."""

    db: str
    results: tuple[RunResult, ...]


class Foreign(Message, frozen=True):
    """All that the guard holds for databases other than `db`, the current one. `stuck` as in Stuck.

    Sent when it changes, and in answer to Database: earlier messages of the guard are about the previous database. Only
    in the answer: the `live` runs of `db`, and the `doomed` ones among them (see Hello).
    """

    db: str
    held: tuple[ForeignRuns, ...]
    stuck: tuple[int, ...] = ()
    live: tuple[int, ...] = ()
    doomed: tuple[int, ...] = ()


class DiskFails(Message, frozen=True):
    """Whether the disk fails to keep results. The agent asks for no runs meanwhile; results are still reported."""

    fails: bool


class Logged(Message, frozen=True):
    """Output of a watched run's stream from byte `offset` on."""

    run: int
    stream: StreamName
    offset: int
    data: bytes


class Unstarted(Message, frozen=True):
    """Runs that the guard no longer holds and never started.

    `withdrawn`: the answer to Withdraw. `no_room`: the host could start no process, so ask for no runs for a while.
    """

    runs: tuple[int, ...]
    withdrawn: bool = False
    no_room: bool = False


class Gone(Message, frozen=True):
    """Dropped runs: all their processes have ended, and no result is kept."""

    runs: tuple[int, ...]


class Stuck(Message, frozen=True):
    """All runs whose processes were killed STUCK_MS ago and do not end. Sent when it changes."""

    runs: tuple[int, ...]


class Stopping(Message, frozen=True):
    """The worker is about to end: ask for no more runs."""


class Leave(Message, frozen=True):
    """Nothing is left to do: send `bye` to the scheduler and exit."""


# --- from the agent --------------------------------------------------------------------------------------------------


class Start(Message, frozen=True):
    """Runs to execute, in this order, as slots become free.

    `heard_ms`: when the agent received them, by the clock that both share.
    """

    orders: tuple[RunOrder, ...]
    heard_ms: int


class Lease(Message, frozen=True):
    """The scheduler received a frame that was sent at that time, by the clock that both share: leases count from it.
    Precedes the Start of the first run with a lease.
    """

    at_ms: int


class Stop(Message, frozen=True):
    """Runs to end: TERM, their grace, KILL. Each is answered by Ended (reason `cancelled`) or Unstarted."""

    runs: tuple[int, ...]


class Drop(Message, frozen=True):
    """Runs to end in the same way, without results, and results to forget. Each is answered by Gone."""

    runs: tuple[int, ...]


class Forget(Message, frozen=True):
    """Results that the scheduler has acked."""

    runs: tuple[int, ...]


class Look(Message, frozen=True):
    """Report a run's output for `for_ms`, from these offsets of its streams on. Ignored when it does not live."""

    run: int
    stdout: int
    stderr: int
    for_ms: int


class Withdraw(Message, frozen=True):
    """The session is lost: start no waiting run. Answered by one Unstarted, even if none waits."""


class Database(Message, frozen=True):
    """The current database from now on; a later agent gets it in Hello. Runs of the previous one become foreign, and
    their results stay on disk. Answered by Foreign, then by Spooled.
    """

    db: str


class Discard(Message, frozen=True):
    """Databases to discard: their runs end without results, and their results on disk are removed. Answered by
    Foreign.
    """

    dbs: tuple[str, ...]


class Refused(Message, frozen=True):
    """The scheduler refuses this worker: end with this exit code."""

    exit_code: int


# Messages that name runs of the current database by number alone.
OF_RUNS: Final = (Began, Ended, Logged, Unstarted, Gone, Stuck)

FromGuard = (
    Alive | Hello | Began | Ended | Spooled | Foreign | DiskFails | Logged | Unstarted | Gone | Stuck | Stopping | Leave
)
FromAgent = Alive | Start | Lease | Stop | Drop | Forget | Look | Withdraw | Database | Discard | Refused
