"""What guard and agent tell each other. Pure; channel.py carries it.

Both ends are one release, started together, so these messages have no version. Each is a msgpack array that begins
with its type's name.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from zsched.model.types import StreamName
from zsched.protocol import Held, RunOrder, RunResult


class ForeignRuns(Struct, frozen=True, array_like=True, gc=False):
    """What the guard holds for a database other than the current one. Lists as in protocol.Foreign; `leases` as in
    Hello.
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
    """The agent says it now and then, and the guard answers with the same. `within_ms`: who says it will speak again
    within that; the guard ends an agent that does not.
    """

    within_ms: int = 0


# --- from the guard --------------------------------------------------------------------------------------------------


class Hello(Message, frozen=True):
    """The first message to a new agent: who the worker is and all that the guard holds. No run of it waits for a slot.

    `scheduler` is a URL, or empty for the default endpoint. `db` is the database whose runs these are, empty if none.
    `spool_id` is the mark of this worker's processes. `dying` are those of the held runs that were dropped, `doomed`
    those that were discarded before their database came back: Gone follows. `stuck` as in Stuck, `disk_fails` as in
    DiskFails, `foreign` as in Foreign; `leases` are pairs of a run that lives and its lease_ms. `access` and
    `token_file` are paths, empty where there are none.
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
    """A run's process exists. Told of runs that live for a while or are on probation, not of every run."""

    run: int
    pid: int
    at_ms: int


class Ended(Message, frozen=True):
    """Runs that ended. The guard keeps these results until Forget."""

    results: tuple[RunResult, ...]


class Spooled(Message, frozen=True):
    """Results that were on disk and that the agent does not know: it has come to their database."""

    db: str
    results: tuple[RunResult, ...]


class Foreign(Message, frozen=True):
    """All that the guard holds for databases other than `db`, the current one. Sent when it changes, and in answer to
    Database: what the guard said before that answer was about the runs of the database before. `stuck` as in Stuck.
    Only in the answer: the runs of `db` that `live`, and the `doomed` ones among them (see Hello).
    """

    db: str
    held: tuple[ForeignRuns, ...]
    stuck: tuple[int, ...] = ()
    live: tuple[int, ...] = ()
    doomed: tuple[int, ...] = ()


class DiskFails(Message, frozen=True):
    """Whether results can't be kept on disk now. Ask for nothing meanwhile; those that come are told all the same."""

    fails: bool


class Logged(Message, frozen=True):
    """What a watched run wrote to a stream from byte `offset` on."""

    run: int
    stream: StreamName
    offset: int
    data: bytes


class Unstarted(Message, frozen=True):
    """Runs that the guard no longer holds and never started.

    `withdrawn`: this answers Withdraw. `no_room`: the host could start no process, so ask for none for a while.
    """

    runs: tuple[int, ...]
    withdrawn: bool = False
    no_room: bool = False


class Gone(Message, frozen=True):
    """Runs that were dropped, with all their processes ended and no result kept."""

    runs: tuple[int, ...]


class Stuck(Message, frozen=True):
    """All runs whose processes were killed a good while ago and do not end. Said when it changes."""

    runs: tuple[int, ...]


class Stopping(Message, frozen=True):
    """The worker is to end: ask for nothing more."""


class Leave(Message, frozen=True):
    """Nothing is left to do: say goodbye to the scheduler and exit."""


# --- from the agent --------------------------------------------------------------------------------------------------


class Start(Message, frozen=True):
    """Runs to execute, in this order, as slots get free.

    `heard_ms`: when the agent heard of them, by the clock that both have.
    """

    orders: tuple[RunOrder, ...]
    heard_ms: int


class Lease(Message, frozen=True):
    """The scheduler got a frame that was sent at that time, by the clock that both have: leases count from then. Comes
    before the Start of the first run that has one.
    """

    at_ms: int


class Stop(Message, frozen=True):
    """Runs to end: TERM, their grace, KILL. Each is answered by Ended (reason `cancelled`) or Unstarted."""

    runs: tuple[int, ...]


class Drop(Message, frozen=True):
    """Runs to end in the same way, and results to forget: nobody wants to know. Each is answered by Gone."""

    runs: tuple[int, ...]


class Forget(Message, frozen=True):
    """Results that the scheduler has answered."""

    runs: tuple[int, ...]


class Look(Message, frozen=True):
    """Tell what a run writes, from these offsets of its streams on, for `for_ms`. Ignored when it does not live."""

    run: int
    stdout: int
    stderr: int
    for_ms: int


class Withdraw(Message, frozen=True):
    """The session is lost: start nothing of what waits. Answered by one Unstarted, even if nothing waited."""


class Database(Message, frozen=True):
    """The database whose runs follow: a later agent gets it in Hello. Runs of the one before become foreign, and their
    results wait on disk. Answered by Foreign, then by Spooled if this database has results here.
    """

    db: str


class Discard(Message, frozen=True):
    """Databases whose runs are to end without results, and whose results on disk are to be removed. Answered by
    Foreign.
    """

    dbs: tuple[str, ...]


class Refused(Message, frozen=True):
    """The scheduler will not have this worker: end with this exit code."""

    exit_code: int


# What speaks of runs of the current database by number alone.
OF_RUNS: Final = (Began, Ended, Logged, Unstarted, Gone, Stuck)

FromGuard = (
    Alive | Hello | Began | Ended | Spooled | Foreign | DiskFails | Logged | Unstarted | Gone | Stuck | Stopping | Leave
)
FromAgent = Alive | Start | Lease | Stop | Drop | Forget | Look | Withdraw | Database | Discard | Refused
