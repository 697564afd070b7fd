"""The read side of a store."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Protocol

from zsched.model.access import Token, WorkerKey
from zsched.model.demand import Demand
from zsched.model.files import Listed
from zsched.model.queues import Queue
from zsched.model.records import Event, ForeignRuns, Instance, Usage, UsageBy
from zsched.model.types import Job, JobId, Run, RunId, RunStatus, Stream, Worker, WorkerId, WorkerStatus
from zsched.store.contract.access import Tokens
from zsched.store.contract.dependencies import Waits
from zsched.store.contract.idempotency import Submitted
from zsched.store.contract.queues import QueueState
from zsched.store.contract.retention import Old
from zsched.store.contract.tasks import Task


@dataclass(frozen=True, slots=True)
class RunOutput:
    """The stored output of a run. `text`: a REST worker sent one text for both streams; it is in stdout."""

    text: bool
    stdout: Stream
    stderr: Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """What all jobs of a list have in common; None: anything. `worker`: it had a run of theirs. `search`: a part of
    their names, where ASCII letters match whatever their case.
    """

    status: RunStatus | None = None
    owner: str | None = None
    name: str | None = None
    tag: str | None = None
    worker: WorkerId | None = None
    search: str | None = None
    queue: str | None = None
    flow: JobId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """What all events of a list have in common; None: anything. `job`, `run`: they are about it. `kind`: the state that
    they led to, or what was done.
    """

    job: JobId | None = None
    run: RunId | None = None
    worker: WorkerId | None = None
    kind: str | None = None


class Reader(Tokens, Protocol):
    """Reads of a consistent committed state, one Reader per thread. They never wait for the loop.

    A list is a generator: each row is read when it is consumed, and all rows are of one moment. Close a generator that
    is not exhausted, because it holds a read transaction until then.
    """

    # --- jobs ---

    def jobs(
        self,
        status: RunStatus | None,
        limit: int,
        offset: int = 0,
        before: JobId | None = None,
        owner: str | None = None,
    ) -> Generator[Job]:
        """Jobs with an id below `before`, newest first, without the first `offset`. `owner` None: of all owners."""

    def search_jobs(self, wanted: JobFilter, first: JobId, last: JobId, limit: int) -> Generator[Job]:
        """Jobs that match, with an id from `first` to `last`, both included, newest first.

        Where no index helps, this reads all jobs with these ids: callers bound the work by the range.
        """

    def count_old(self, old: Old, first: JobId, last: JobId) -> int:
        """Number of the jobs with an id from `first` to `last`, both included, that Retention.purge_jobs removes."""

    def last_job(self) -> JobId:
        """The highest id; 0 without jobs."""

    def job_since(self, at_ms: int) -> JobId:
        """The lowest id of the jobs submitted at that time or later; above all ids if there is none. If the clock was
        set back, this takes one of the moments when it showed that time.
        """

    def jobs_between(self, first: JobId, last: JobId, limit: int) -> Generator[Job]:
        """Jobs with an id from `first` to `last`, both included, oldest first."""

    def count_jobs_between(self, first: JobId, last: JobId) -> int: ...

    def job(self, job_id: JobId) -> Job | None: ...

    def status(self, job_id: JobId) -> RunStatus | None: ...

    def statuses_between(self, first: JobId, last: JobId) -> Generator[tuple[JobId, RunStatus]]:
        """The status of each job with an id from `first` to `last`, both included, oldest first."""

    def unfinished(self, owner: str | None) -> Generator[JobId]:
        """Pending and running jobs without a schedule, in any order. `owner` None: of all owners."""

    def left(self, owner: str) -> tuple[int, int]:
        """Number of an owner's pending and running jobs, and of its recurring jobs that still fire."""

    def totals(self) -> dict[RunStatus, int]:
        """Number of tasks by the status of their last run, from counters."""

    # --- runs ---

    def run(self, run_id: RunId) -> Run | None: ...

    def last_run(self, job_id: JobId) -> Run | None:
        """The job's run with the highest id; None before the first fire of a recurring job."""

    def runs(self, job_id: JobId, limit: int, before: RunId | None = None) -> Generator[Run]:
        """A job's runs with an id below `before`, newest first."""

    def task_runs(
        self, job_id: JobId, part: tuple[int, int], limit: int, before: RunId | None = None
    ) -> Generator[Run]:
        """Runs of an array's tasks with an index from the first to the last, newest first. Sorts all of them."""

    def tasks(self, job: Job, first: int, last: int, status: RunStatus | None = None) -> Generator[Task]:
        """The tasks of an array at these positions, both included, in order; only those with the status if one is
        given. Raises ValueError for damaged entries.
        """

    def live_run(self, job_id: JobId) -> Run | None:
        """A live run of an array, a ready one if there is one."""

    def has_unmade(self, job_id: JobId) -> bool:
        """Whether an array has tasks that become runs by themselves."""

    def demand(self, run_id: RunId) -> Demand | None:
        """The demand of a run; None if the run does not exist or the demand's row is damaged."""

    def output(self, run_id: RunId) -> RunOutput | None:
        """The stored output of a run; None if there is none."""

    def artifacts(self, run_id: RunId) -> list[Listed]:
        """The artifacts of a run, without their contents; empty if it has none."""

    def artifact(self, run_id: RunId, path: str) -> bytes | None:
        """The content of an artifact; None if the run has none with this path."""

    # --- jobs that wait for others ---

    def waits_for(self, job_id: JobId, limit: int, *, same: bool = False) -> Waits:
        """The jobs that a job still waits for, up to `limit` of them by their ids. `same`: instead those for whose
        tasks its own may wait.
        """

    def flow(self, flow: JobId) -> Generator[JobId]:
        """The jobs of a flow that exist, in order."""

    def count_flow(self, flow: JobId) -> dict[RunStatus, int]:
        """Number of the jobs of a flow by their status, without those that are 0."""

    # --- queues ---

    def queues(self) -> list[QueueState]:
        """The queues that are paused or fair, those with pending or running tasks, and `default`, by name."""

    def queue(self, name: str) -> Queue:
        """What is set for a queue."""

    def running_by_key(self) -> dict[str, int]:
        """Running runs of each key of limits, by the key as it is stored."""

    # --- workers ---

    def worker(self, worker_id: WorkerId) -> Worker | None: ...

    def workers(self, after: str = "") -> Generator[Worker]:
        """All workers that ever registered and whose name is greater than `after`, by name."""

    def usage(self, by: UsageBy, since_ms: int, limit: int) -> list[Usage]:
        """What ended runs have used since the day (UTC) of a time: the most run time first."""

    def workers_by_status(self) -> dict[WorkerStatus, int]:
        """Number of workers by status."""

    def foreign(self, worker: str = "", db: str = "") -> Generator[ForeignRuns]:
        """Foreign runs greater than (`worker`, `db`), by worker and database."""

    def foreign_of(self, worker_id: WorkerId) -> list[ForeignRuns]: ...

    def foreign_undecided(self) -> tuple[int, int]:
        """Number of foreign runs without a decision, and number of workers that hold them."""

    # --- schedulers ---

    def instances(self) -> list[Instance]:
        """The schedulers that have published themselves, the active one first. On SQLite none does."""

    def key_check(self) -> str | None:
        """The identity as sealed by secret.key, None if it was never stored."""

    # --- access ---

    def submitted(self, caller: str, key: bytes, after_ms: int) -> Submitted | None:
        """Result of the caller's submit with this key, if it was stored after after_ms."""

    def tokens(self, after: str = "", *, valid_ms: int = 0) -> Generator[Token]:
        """Tokens that were valid after a time, oldest first, or those of them after the token with id `after`; nothing
        if that id is unknown.
        """

    def worker_keys(self, after: str = "", *, valid_ms: int = 0) -> Generator[WorkerKey]:
        """Keys of workers that were valid after a time, by worker, oldest first, or those of them after the key
        `after`; none if that is unknown.
        """

    # --- events ---

    def events(self, after: int, limit: int) -> Generator[Event]:
        """Events with a number above `after`, in order."""

    def search_events(self, wanted: EventFilter, first: int, last: int, limit: int) -> Generator[Event]:
        """Events that match, with a number from `first` to `last`, both included, in order. Reads all with these
        numbers.
        """

    def event_since(self, at_ms: int) -> int:
        """The number of the first event at that time or later, as for `job_since`."""

    def last_event(self) -> int:
        """Number of the newest event; 0 without events."""

    def jobs_of_events(self, after: int, limit: int) -> list[tuple[int, JobId | None]]:
        """Numbers of the events above `after`, in order, each with its job, None if it belongs to no job."""
