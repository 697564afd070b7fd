"""What a store promises to the scheduler. The dispatcher knows only this; the contract tests run it against every
engine.

All methods of `Store` are called by the loop thread, between `begin` and `commit`. What they write is durable when
`commit` has returned (it survives a power cut), and not before: so the loop sends and answers only after it. A method
that raises StoreError has changed nothing that a later `commit` would keep, once the caller has rolled back to where it
stood.

`Reader` is the other door: each thread its own, read-only, always a consistent committed state, never waiting for the
loop.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, Protocol

from zsched.model.access import KeyOrigin, Token, WorkerKey
from zsched.model.demand import Demand
from zsched.model.fields import HIDDEN, Form, Id, about
from zsched.model.records import Event, ForeignDecision, ForeignRuns
from zsched.model.types import (
    Backoff,
    DemandId,
    Job,
    JobId,
    JobSpec,
    Order,
    Outcome,
    Reason,
    Run,
    RunId,
    RunStatus,
    Stream,
    Succession,
    Worker,
    WorkerId,
    WorkerStatus,
)

Verdict = Literal["stored", "duplicate", "stale", "unknown"]


class StoreError(Exception):
    """The store could not do it: the disk's or another process's fault. Nothing is half done; trying again later may
    work.
    """


class StoreBusy(StoreError):
    """Another process held the database for longer than the busy timeout."""


class StoreFull(StoreError):
    """No space is left for the database. Reads go on; writes work again when there is space."""


class StoreUnsure(StoreError):
    """A sync to disk failed, so what is durable is not known. The process must end and start anew; never retry."""


class StoreCorrupt(StoreError):
    """The database's file is damaged."""


class StoreMisplaced(StoreError):
    """The file under the database's name is a backup, or another file than the one its WAL was written for; or it was
    deleted or replaced while it was open. The sentence says what to do.
    """


class StoreNewer(StoreError):
    """The database was written by a newer release, which this one can't read."""


class StoreForeign(StoreError):
    """The file is a database of another program."""


class StoreLoose(StoreError):
    """The database, or the folder beside it, is another user's, or others than its owner can get at it."""


class StoreLocked(StoreError):
    """Another scheduler has this database open."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A demand with runs that could start now: the highest priority among them, and the oldest run of that priority."""

    demand_id: DemandId
    demand: Demand
    priority: int
    run_id: RunId


class Claimed(Order, frozen=True, kw_only=True):
    """A run that was just given to a worker, with all that the worker needs. The secrets are still sealed."""

    run_id: Annotated[RunId, about("Number of the run.")]
    job_id: Annotated[JobId, about("Number of the job.", Form(json="id", rank=0))]
    task: Annotated[int, about("Number of the task in its job.", Form(json=HIDDEN))]
    attempt: Annotated[Id, about("Number of the attempt, from 1.")]
    probation: Annotated[bool, about("Whether the run is on probation.", Form(json=HIDDEN))]
    lease_ms: Annotated[int | None, about("The lease that the worker has to follow.", Form(json=HIDDEN))] = None

    @property
    def size(self) -> int:
        """What it takes in a frame, in characters, without what is small."""
        if not self.env and not self.secret_env:
            return len(self.command)
        own = (*(self.env or {}).items(), *(self.secret_env or {}).items())
        return len(self.command) + sum(len(name) + len(value) for name, value in own)


@dataclass(frozen=True, slots=True)
class Lineage:
    """A database that a restore replaces: its identities, the present one last, its counters of ids by table, and the
    longest lease that a worker may still go by.
    """

    dbs: tuple[str, ...] = ()
    ids: Mapping[str, int] = field(default_factory=dict)
    lease_ms: int = 0


NO_LINEAGE: Final = Lineage()


@dataclass(frozen=True, slots=True)
class Holding:
    """A run that is `running` on a worker, as the store believes. `probation` as in Demand, 0 from when it was cleared.
    `once`: it may start at most once. `stuck`: its processes were killed and do not end.
    """

    run_id: RunId
    job_id: JobId
    handed_n: int
    claimed_ms: int
    started: bool
    probation: int
    cancelled: bool
    crashes: int
    stuck: bool = False
    once: bool = False


@dataclass(frozen=True, slots=True)
class Load:
    """How many runs a worker holds, and how many of them are on probation. `together`: the least that one of these lets
    be on probation at once; `lease_ms`: the longest lease of any run. Both are 0 for none.
    """

    running: int
    probation: int
    together: int = 0
    lease_ms: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """A run that failed by itself, and what its job says of that. `failures` are those before it; `started`: it came
    so far. `once`: it may start at most once if it was lost.
    """

    run_id: RunId
    job_id: JobId
    task: int
    attempt: int
    failures: int
    crashes: int
    reason: str
    started: bool
    demand_id: DemandId
    once: bool
    retries: int
    backoff: Backoff


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What a cancel met: how many pending runs it ended, and the running ones that it marked, with their workers."""

    pending: int
    running: list[tuple[WorkerId, RunId]]


@dataclass(frozen=True, slots=True)
class Target:
    """A job that a call on many jobs may change: its owner, empty for none, and its status by the counters."""

    job_id: JobId
    owner: str
    status: RunStatus


@dataclass(frozen=True, slots=True)
class Ending:
    """A revoked token whose jobs are being ended: who asked for it, and the last job that was cancelled."""

    token_id: str
    owner: str
    actor: str
    ended_to: JobId


@dataclass(frozen=True, slots=True)
class Due:
    """A recurring job whose time has come. `live`: its last fire has not ended."""

    job_id: JobId
    schedule: str
    next_fire_ms: int
    live: bool


@dataclass(frozen=True, slots=True)
class RunOutput:
    """What is kept of a run's output. `text`: a REST worker sent one text for both streams; it stands in stdout."""

    text: bool
    stdout: Stream
    stderr: Stream


@dataclass(frozen=True, slots=True)
class Submitted:
    """What a submit with an Idempotency-Key stored: so many jobs, the first and the last of them. `digest` is its
    request's.
    """

    digest: bytes
    first: JobId
    last: JobId
    jobs: int


class Access(Protocol):
    """Who may come in: the tokens of callers and the keys of workers. A part of the write side."""

    def token(self, token_id: str) -> Token | None:
        """A token, also one that is worth nothing any more."""

    def token_named(self, name: str) -> Token | None:
        """The token of a name, also a revoked one."""

    def add_token(self, token: Token) -> None:
        """Store a token that is new. Its name, or its id where it has no name, is new as well."""

    def use_token(self, token_id: str, now_ms: int) -> None:
        """Note that a token was used. There is no event of it."""

    def revoke_token(self, token_id: str, actor: str, now_ms: int) -> bool:
        """The token is worth nothing from now on. False: there is none, or it was revoked before."""

    def end_jobs(self, token_id: str, actor: str, now_ms: int) -> None:
        """Note, with an event, that the jobs of a revoked token shall be ended; `ending` has it until `ended`."""

    def ending(self) -> Ending | None:
        """The first token whose jobs are being ended; None when there is none."""

    def ended_to(self, token_id: str, job_id: JobId) -> None:
        """The token's jobs up to this one have been cancelled."""

    def ended(self, token_id: str) -> None:
        """None of the token's jobs is left to end."""

    def key(self, public_key: str) -> WorkerKey | None:
        """A worker's key, also one that was revoked."""

    def key_of(self, worker_id: WorkerId) -> WorkerKey | None:
        """The key that a worker has now."""

    def has_remote_key(self) -> bool:
        """Whether a worker of another host may have a key: one is not revoked and was not enrolled on this host."""

    def bind_key(
        self,
        worker_id: WorkerId,
        public_key: str,
        origin: KeyOrigin,
        actor: str,
        now_ms: int,
        *,
        slots_max: int | None = None,
    ) -> None:
        """A key that is new is the worker's from now on; one that it had before is revoked. `slots_max`: the most slots
        of a worker with this key.
        """

    def limit_key(self, public_key: str, slots_max: int | None, actor: str, now_ms: int) -> None:
        """Set the most slots of a worker with this key, with an event; None: any number."""

    def revoke_key(self, worker_id: WorkerId, actor: str, now_ms: int) -> bool:
        """The worker's key is worth nothing from now on. False: it has none."""


class Idempotency(Protocol):
    """Submits that are done once, each by its caller and the SHA-256 of its key. A part of the write side."""

    def find(self, caller: str, key: bytes, after_ms: int) -> Submitted | None:
        """What the caller's submit with this key stored, if that was after after_ms."""

    def keep(self, caller: str, key: bytes, submitted: Submitted, now_ms: int) -> None:
        """Keep what a submit has stored in this transaction. It takes the place of an older one with its key."""

    def forget(self, until_ms: int, count: int) -> int:
        """Drop up to count of those that were kept until until_ms, the oldest first; returns how many."""


class Foreign(Protocol):
    """What workers hold for other databases, and the operator's decisions. A part of the write side."""

    def of(self, worker_id: WorkerId) -> list[ForeignRuns]:
        """What a worker holds, by database."""

    def found(self, held: ForeignRuns, actor: str) -> None:
        """Store what a worker holds for a database of which it said nothing before, with an event."""

    def update(self, held: ForeignRuns) -> None:
        """Store how many runs and results there are now. There is no event of it."""

    def gone(self, held: ForeignRuns, actor: str, now_ms: int) -> None:
        """Forget what a worker no longer holds, and what was decided of it, with an event."""

    def decide(self, held: ForeignRuns, decision: ForeignDecision, actor: str, now_ms: int) -> None:
        """Store a decision, with an event."""


class Store(Protocol):
    """The scheduler's write side."""

    @property
    def access(self) -> Access:
        """Tokens and keys, within the same transactions."""

    @property
    def idempotency(self) -> Idempotency:
        """Submits that are done once, within the same transactions."""

    @property
    def reads(self) -> Reader:
        """The read side within the same transactions. What `settle` writes is there after it."""

    @property
    def foreign(self) -> Foreign:
        """Foreign runs, within the same transactions."""

    # --- transactions ---

    def begin(self) -> None:
        """Open the turn's transaction, as the only writer. Raises StoreBusy."""

    def commit(self) -> None:
        """Make the turn durable. On StoreError the transaction is rolled back and nothing of the turn has happened."""

    def rollback(self) -> None:
        """Forget the turn. Does nothing when no transaction is open."""

    def savepoint(self) -> AbstractContextManager[None]:
        """One frame's or command's work within the turn: when it raises, its own changes are undone and the turn goes
        on.
        """

    @property
    def rows_changed(self) -> int:
        """Rows changed since `begin`, the measure of a turn's size."""

    @property
    def held_read(self) -> int:
        """Runs that `held_by` has returned since `begin`: what a turn costs that changes nothing."""

    def verify(self) -> None:
        """Raises StoreMisplaced when the database was deleted, replaced or overwritten since it was opened: what is
        committed from now on may be lost. Called between two turns.
        """

    # --- who we are ---

    @property
    def identity(self) -> str:
        """The database's own random name, made with it. A restored database has a new identity."""

    def predecessors(self) -> tuple[str, ...]:
        """The identities of the databases that this database was restored from, newest first; empty if it never was.
        A worker may hold runs of a predecessor: their ids are not ours, also when a run of ours has the same id.
        """

    def succeed(
        self,
        identity: str,
        made_ms: int | None,
        now_ms: int,
        *,
        actor: str = "scheduler",
        detail: str = "",
        lease_ms: int = 0,
        replaced: Lineage = NO_LINEAGE,
    ) -> int:
        """Make a backup's content the content of a new database, with an event. It gets the identity given, and its old
        identity becomes a predecessor. Job, run and event ids go on far above those given out after the backup.

        Runs found running are lost, without blame; returns how many. So are those found pending, unless their time has
        not come: they may have started since, and a run's id is given out once.

        `replaced`: the database whose place it takes. What that has given out since is not given out again, and its
        runs are a predecessor's. `made_ms`: when the backup was made, None if unknown. `lease_ms`: for how long a
        worker of the predecessor may go on with a run that must not execute twice, unless a longer lease was given;
        pending runs with a lease start no earlier.
        """

    def begin_epoch(self, host: str, pid: int, version: str, now_ms: int) -> int:
        """Note that a scheduler starts; returns its epoch, larger than every earlier one."""

    def end_epoch(self, epoch: int, now_ms: int) -> None:
        """Note that this scheduler stopped cleanly."""

    # --- jobs ---

    def submit(
        self,
        specs: Sequence[JobSpec],
        next_fires: Sequence[int | None],
        actor: str,
        now_ms: int,
        *,
        owner: str = "",
        metered: bool = False,
    ) -> list[JobId]:
        """Store jobs of an owner, in order, each with a pending run unless it only has a schedule. next_fires[i]
        belongs to specs[i]. The ids rise, and no other job's is between them. An empty owner is none. `metered`:
        count_metered shall count them.
        """

    def pending_tasks(self) -> int:
        """How many tasks are pending, as this transaction sees it; from a counter."""

    def job(self, job_id: JobId) -> Job | None:
        """The job as this transaction sees it."""

    def cancel(self, job_id: JobId, actor: str, now_ms: int) -> Cancelled:
        """Cancel what is live of a job: pending runs end here, running ones are marked for their workers to stop. A job
        with neither stays as it is.
        """

    def pause_schedule(self, job_id: JobId, actor: str, now_ms: int) -> bool:
        """A recurring job does not fire until it is resumed; a live fire goes on. False: it has no schedule, is paused,
        or its schedule has ended.
        """

    def resume_schedule(self, job_id: JobId, next_fire_ms: int | None, actor: str, now_ms: int) -> bool:
        """A paused job fires again, next at next_fire_ms. False: it is not paused."""

    def end_schedule(self, job_id: JobId, actor: str, now_ms: int) -> bool:
        """A recurring job never fires again; a live fire goes on. False: it has no schedule, or that ended before."""

    def edit(self, job: Job, actor: str, detail: str, now_ms: int) -> None:
        """Store the name, command, schedule, timeout and next fire of a job. Runs that a worker has keep what they were
        given. `detail` says what changed, in an event.
        """

    def last_fire_lives(self, job_id: JobId) -> bool:
        """Whether the last fire of a recurring job is pending or running, as this transaction sees it."""

    # --- jobs of an owner ---

    def count_metered(self, owner: str, most: int) -> int:
        """How many metered jobs of an owner are pending, counting no further than most. A recurring job is, before its
        first fire. Jobs that this turn has claimed or ended may still be counted.
        """

    def count_recurring(self, owner: str, most: int) -> int:
        """How many schedules of an owner have not ended, paused ones included, counting no further than most."""

    def recurring(self, owner: str | None, after: JobId, count: int) -> list[Target]:
        """Up to count recurring jobs of an owner, None for all owners, with an id above `after` and a schedule that has
        not ended, oldest first.
        """

    def live(self, owner: str | None, after: JobId, count: int) -> list[Target]:
        """Up to count jobs of an owner, None for all owners, with an id above `after` and a pending or running task,
        oldest first. Exact after `settle`.
        """

    def between(self, first: JobId, last: JobId, count: int) -> list[Target]:
        """Up to count jobs with an id from `first` to `last`, both included, oldest first."""

    def due(self, now_ms: int, count: int) -> list[Due]:
        """Up to count recurring jobs whose next fire is not in the future, the most overdue first. Not within
        `attempt`.
        """

    def fire(self, job_id: JobId, next_fire_ms: int | None, actor: str, now_ms: int) -> RunId:
        """Make the run of a recurring job's fire. The job counts this fire alone from here on."""

    def skip_fire(self, job_id: JobId, next_fire_ms: int | None, actor: str, detail: str, now_ms: int) -> None:
        """Let a fire pass, with an event that says why."""

    def release_due(self, now_ms: int) -> int:
        """Unblock pending runs whose time has come; returns how many."""

    def next_due_ms(self) -> int | None:
        """When the next thing is due by the wall clock: a fire, a back-off, a REST run's end. None: nothing waits."""

    def latest_ms(self) -> int:
        """When the last event was, by the wall clock; 0 when there is none."""

    def shift(self, by_ms: int, now_ms: int) -> None:
        """The wall clock jumped and shows now_ms: what waits for a span of time, and not for a date, waits for the same
        span still. The event of it makes that moment the latest.
        """

    # --- runs ---

    def ready(self, now_ms: int) -> list[Ready]:
        """The demands that have ready runs, best first: by priority, then by age. Runs of a demand that can't be read
        are failed as `quarantined`.
        """

    def ready_count(self, demand_id: DemandId, most: int) -> int:
        """How many runs of a demand are ready, counting no further than most."""

    def claim(
        self,
        worker_id: WorkerId,
        demand_id: DemandId,
        count: int,
        floor: int,
        handed_n: int,
        now_ms: int,
        *,
        lease_ms: int | None = None,
        ends: bool,
    ) -> list[Claimed]:
        """Move up to count ready runs of a demand, none of a priority below floor, to running on a worker.

        Highest priority first, oldest first within one. Each run's id is its fencing token; the caller commits before
        it sends. `lease_ms` is noted with each. `ends`: the scheduler itself will end it at timeout plus grace. Runs
        that can't be handed out are failed as `quarantined` and not returned. Returns fewer, or none, when ready runs
        run out.
        """

    def claimed(self, run_id: RunId) -> Claimed | None:
        """A running run once more, as `claim` gave it."""

    def load(self, worker_id: WorkerId) -> Load:
        """What a worker holds, in numbers."""

    def held_by(self, worker_id: WorkerId) -> list[Holding]:
        """The runs that are running on a worker, oldest first."""

    def adopt(self, worker_id: WorkerId) -> None:
        """What runs on a worker was handed out before its new session began: `handed_n` is 0 from now on."""

    def start(self, run_id: RunId, worker_id: WorkerId, started_ms: int) -> bool:
        """Note that a run's process exists; repeating it does no harm. False: it isn't running on that worker."""

    def clear_probation(self, run_id: RunId) -> bool:
        """The run has lived long enough to be trusted. False: it has not started, or was not on probation."""

    def finish(self, outcome: Outcome, worker_id: WorkerId, now_ms: int, *, text: bool = False) -> Verdict:
        """Store how a run ended, if it is running on that worker; a run with a cancel stored ends cancelled whatever it
        says.

        Otherwise nothing changes: `duplicate` when that worker's result stands already, `stale` when somebody else's
        decision does (see note_stale), `unknown` when there is no such run.
        """

    def note_stale(self, stale: Sequence[Outcome], worker_id: WorkerId, now_ms: int) -> None:
        """Leave one event for stale results, at least one, that a worker sent together. It is about the run of the
        first, and says how many there were, and for which runs.
        """

    def requeue_unstarted(self, run_id: RunId, worker_id: WorkerId, reason: Reason, now_ms: int) -> bool:
        """A handed-out run that never started is pending again (cancelled, if its cancel is stored). False: not that
        worker's.
        """

    def fail_lost(
        self, run_id: RunId, detail: str, *, crash: bool, together: int, due_ms: int | None, now_ms: int
    ) -> RunStatus:
        """End a running run as failed/worker_lost and make its successor pending; returns the task's status then.

        `crash` counts against the job's crash limit, at which the run fails for good (`crash_limit`). `together`: the
        successor is on probation, with at most that many at once on a worker; 0: as its predecessor was. One that
        carries a crash is in any case, and that number never grows. With its cancel stored the run ends cancelled. A
        run that may start only once, or is stuck (`unkillable`), has no successor. `due_ms`: not before.
        """

    def failed(self, run_id: RunId) -> Failed | None:
        """A run that has just failed; None when it did not, when its job is cancelled, or its row is damaged."""

    def retry(self, failed: Failed, why: Succession, due_ms: int | None, now_ms: int) -> RunId:
        """Make the successor of a run that failed, not ready before due_ms. Only a RETRY counts as a failure of its
        task.
        """

    def mark_stuck(self, run_id: RunId, worker_id: WorkerId, now_ms: int) -> bool:
        """Note that a worker can't end a run. False: that is known, or it isn't running on that worker."""

    def end_overdue(self, now_ms: int) -> list[tuple[WorkerId, RunId]]:
        """Fail (`timeout`) the runs that the scheduler itself has to end by now; returns them."""

    def end_cancelled(self, run_id: RunId, now_ms: int) -> None:
        """End a running run whose cancel is stored, without waiting for its worker."""

    def run(self, run_id: RunId) -> Run | None:
        """The run as this transaction sees it."""

    def live_on(self, worker_id: WorkerId, job_id: JobId) -> list[Run]:
        """The runs of a job that are running on a worker, newest first, two at most."""

    def last_on(self, worker_id: WorkerId, job_id: JobId) -> Run | None:
        """The newest run of a job that a worker was given, among the job's last hundred."""

    # --- workers ---

    def worker(self, worker_id: WorkerId) -> Worker | None:
        """The worker as this transaction sees it."""

    def register(self, worker: Worker, now_ms: int) -> None:
        """Store a worker as it introduced itself. It is active, and not leaving; its first registration's time is
        kept.
        """

    def seen(self, worker_id: WorkerId, now_ms: int) -> None:
        """The worker gave a sign of life; it is active."""

    def note_seen(self, seen: Mapping[WorkerId, int]) -> None:
        """When workers were last heard. It changes nothing else of them, and what is stored already is not written."""

    def leave(self, worker_id: WorkerId, now_ms: int) -> None:
        """The worker announced its end. Repeating it does nothing."""

    def deactivate(self, worker_id: WorkerId, reason: str, now_ms: int) -> None:
        """The worker is inactive from now on."""

    def active_workers(self) -> list[Worker]:
        """All workers that the store believes active."""

    def flush_counters(self, now_ms: int) -> None:
        """Write the counters of all jobs that the turn touched, each job once. Called last before commit."""


class Reader(Protocol):
    """The read side: one for each thread.

    A list is a generator: each row is read when it is taken, all rows are of one moment. Close it unless it was read to
    its end, because until then it holds a read transaction.
    """

    def jobs(
        self,
        status: RunStatus | None,
        limit: int,
        offset: int = 0,
        before: JobId | None = None,
        owner: str | None = None,
    ) -> Generator[Job]:
        """Jobs with an id below `before`, newest first, the first `offset` of them left out; of one owner alone where
        it is given.
        """

    def left(self, owner: str) -> tuple[int, int]:
        """How many jobs of an owner are pending or running, and how many of its recurring jobs still fire."""

    def jobs_between(self, first: JobId, last: JobId, limit: int) -> Generator[Job]:
        """Jobs with an id from `first` to `last`, both included, oldest first."""

    def count_jobs_between(self, first: JobId, last: JobId) -> int: ...

    def status(self, job_id: JobId) -> RunStatus | None: ...

    def statuses_between(self, first: JobId, last: JobId) -> Generator[tuple[JobId, RunStatus]]:
        """The status of each job with an id from `first` to `last`, both included, oldest first."""

    def unfinished(self, owner: str | None) -> Generator[JobId]:
        """The pending and running jobs of an owner, None for all owners, without recurring jobs; in any order."""

    def job(self, job_id: JobId) -> Job | None: ...

    def last_run(self, job_id: JobId) -> Run | None:
        """The job's run with the highest id; None before the first fire of a recurring job."""

    def runs(self, job_id: JobId, limit: int, before: RunId | None = None) -> Generator[Run]:
        """A job's runs with an id below `before`, newest first."""

    def run(self, run_id: RunId) -> Run | None: ...

    def demand(self, run_id: RunId) -> Demand | None:
        """What a run asks of a worker; None when there is no such run, or that can't be read."""

    def output(self, run_id: RunId) -> RunOutput | None:
        """What is kept of the run's output; None while nothing is."""

    def totals(self) -> dict[RunStatus, int]:
        """How many tasks are in each state, each by its last run; from counters."""

    def workers(self, after: str = "") -> Generator[Worker]:
        """The workers ever registered with a name after this one, by name."""

    def workers_by_status(self) -> dict[WorkerStatus, int]:
        """How many workers are in each state."""

    def worker(self, worker_id: WorkerId) -> Worker | None: ...

    def foreign(self, worker: str = "", db: str = "") -> Generator[ForeignRuns]:
        """What workers hold for other databases, by worker and database, after these two."""

    def foreign_of(self, worker_id: WorkerId) -> list[ForeignRuns]: ...

    def foreign_undecided(self) -> tuple[int, int]:
        """How many foreign runs wait for a decision, and on how many workers."""

    def submitted(self, caller: str, key: bytes, after_ms: int) -> Submitted | None:
        """What the caller's submit with this key stored, if that was after after_ms."""

    # --- who may come in ---

    def token(self, token_id: str) -> Token | None: ...

    def token_named(self, name: str) -> Token | None: ...

    def tokens(self, after: str = "") -> Generator[Token]:
        """The tokens ever made, oldest first: all, or those after the one with this id. None after an unknown id."""

    def worker_keys(self, after: str = "") -> Generator[WorkerKey]:
        """The keys that workers ever had, by worker, oldest first: all, or those after this public key. None after an
        unknown key.
        """

    def last_revoked_key(self, worker_id: WorkerId) -> WorkerKey | None:
        """The key of this worker that was revoked last; None when none was."""

    def events(self, after: int, limit: int) -> Generator[Event]:
        """What happened after the event of that number, in order."""

    def last_event(self) -> int:
        """The number of the newest event; 0 when there is none."""

    def jobs_of_events(self, after: int, limit: int) -> list[tuple[int, JobId | None]]:
        """The numbers of the events after that one, in order, each with its job if it has one."""
