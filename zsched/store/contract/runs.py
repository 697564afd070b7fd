"""Runs: from ready to claimed, what a worker holds, how runs end, and their successors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

from msgspec import Struct

from zsched.model.demand import Demand
from zsched.model.fields import HIDDEN, Form, Id, about
from zsched.model.files import FILES, File, size_of
from zsched.model.order import Order
from zsched.model.types import (
    DemandId,
    JobId,
    Outcome,
    Reason,
    Run,
    RunId,
    RunStatus,
    Verdict,
    WorkerId,
)


@dataclass(frozen=True, slots=True)
class Ready:
    """A demand with ready runs: the highest priority among them, and the oldest run of that priority.

    Better ones have a lower rank: by priority, then by age. Between the owners of a fair queue, the one with the fewest
    running runs comes before age; `rank[2]` is their number. Compared with other queues, a fair queue is as old as its
    oldest ready run.
    """

    demand_id: DemandId
    demand: Demand
    priority: int
    run_id: RunId
    rank: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Avoiding:
    """A run that would be ready, but prefers another worker than this one, on which its task has failed."""

    ready: Ready
    worker_id: WorkerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Request of up to `count` ready runs of one demand, none with a priority below `floor`, for a worker.

    `handed_n`: number of the frame that will carry them. `lease_ms`: lease stored with each run, None without one.
    `ends`: the scheduler itself ends each run at its timeout plus grace. `run_id`: only this run, one of `avoiding`.
    """

    worker_id: WorkerId
    demand_id: DemandId
    count: int
    floor: int
    handed_n: int
    lease_ms: int | None = None
    ends: bool
    run_id: RunId | None = None


class Claimed(Order, frozen=True, kw_only=True):
    """A claimed run with everything that its worker needs. Secrets are still sealed."""

    run_id: Annotated[RunId, about("Number of the run.")]
    job_id: Annotated[JobId, about("Number of the job.", Form(json="id", rank=0))]
    task: Annotated[int, about("Index of the task; left out where it is 0.", Form(omit=0))]
    attempt: Annotated[Id, about("Number of the attempt, from 1.")]
    expires_ms: Annotated[int | None, about("When it must have started.", Form(json=HIDDEN))] = None
    probation: Annotated[bool, about("Whether the run is on probation.", Form(json=HIDDEN))]
    lease_ms: Annotated[int | None, about("The lease that the worker has to follow.", Form(json=HIDDEN))] = None
    stdin: Annotated[str | None, about("Input of the job.", Form(computed=True))] = None
    entry: Annotated[str | None, about("Entry of the task, for ZSCHED_ENTRY.", Form(computed=True))] = None
    files: Annotated[
        tuple[File, ...], about("Files that belong into its scratch folder.", Form(computed=True, codec=FILES))
    ] = ()

    @property
    def size(self) -> int:
        """Approximate size in a frame, in characters: the command, arguments, input, entry and files, and the
        variables.
        """
        size = len(self.command) + len(self.stdin or "") + sum(map(len, self.argv or ())) + len(self.entry or "")
        size += size_of(self.files)
        if not self.env and not self.secret_env:
            return size
        own = (*(self.env or {}).items(), *(self.secret_env or {}).items())
        return size + sum(len(name) + len(value) for name, value in own)


@dataclass(frozen=True, slots=True)
class Holding:
    """A run that is `running` on a worker according to the store.

    `handed_n`: number of the frame that carried it. `probation`: as in Demand, 0 once it was cleared. `stuck`: its
    processes were killed and have not exited.
    """

    run_id: RunId
    job_id: JobId
    handed_n: int
    claimed_ms: int
    started_ms: int | None
    probation: int
    cancelled: bool
    crashes: int
    demand: Demand
    stuck: bool = False

    @property
    def started(self) -> bool:
        return self.started_ms is not None

    @property
    def once(self) -> bool:
        """Whether the run may start at most once."""
        return self.demand.once

    @property
    def suspected(self) -> bool:
        """Whether the run is on probation or was, since it began or as an earlier run of its task."""
        return self.demand.probation > 0


class Load(Struct, frozen=True):
    """Number of runs that a worker holds, and how many of them are on probation.

    `together`: the lowest bound that these set on runs on probation at once. `lease_ms`: the longest lease of any run.
    Both are 0 if there is none.
    """

    running: int
    probation: int
    together: int = 0
    lease_ms: int = 0


class Runs(Protocol):
    """Runs from ready to ended. Reads see the current transaction."""

    # --- from pending to running ---

    def ready(self, now_ms: int) -> list[Ready]:
        """Demands that have ready runs, best first, without those of paused queues. Runs of a demand with limits are
        ready while there is room under all of them.

        Runs of a demand whose row is damaged fail as `quarantined`.
        """

    def ready_next(self, last: Ready) -> Ready | None:
        """The same demand after a claim of some of its runs; None if none is ready any more."""

    def avoiding(self, count: int) -> list[Avoiding]:
        """Up to `count` runs that prefer another worker, oldest first. None if the last `next_due_ms` has seen none."""

    def stop_avoiding(self, runs: Sequence[RunId]) -> None:
        """Make runs of `avoiding` ready for any worker."""

    def ready_count(self, demand_id: DemandId, most: int) -> int:
        """Number of ready runs of a demand that may be claimed now, at most `most`."""

    def claim(self, wanted: Claim, now_ms: int) -> list[Claimed]:
        """Move ready runs to running on a worker: highest priority first, oldest first within one.

        Returns fewer than wanted, or none, when ready runs run out, or the room under their limits. A run's id is its
        fencing token, so the caller commits before it sends. Runs of a damaged job fail as `quarantined`, those past
        their deadline as `expired`; neither are returned.
        """

    def find_claimed(self, run_id: RunId) -> Claimed | None:
        """A running run as `claim` returned it, to send it again; None if it does not exist."""

    # --- what a worker holds ---

    def load(self, worker_id: WorkerId) -> Load:
        """What a worker holds, in numbers. The store keeps them up to date: calling it often is cheap."""

    def held_by(self, worker_id: WorkerId) -> list[Holding]:
        """Runs that are running on a worker, oldest first."""

    def live_on(self, worker_id: WorkerId, job_id: JobId) -> list[Run]:
        """Runs of a job that are running on a worker, newest first, at most two."""

    def last_on(self, worker_id: WorkerId, job_id: JobId) -> Run | None:
        """The newest run of a job that was claimed for a worker, among the job's last hundred runs."""

    def adopt(self, worker_id: WorkerId) -> None:
        """Set `handed_n` of the worker's running runs to 0: they were sent before its new session began."""

    def start(self, run_id: RunId, worker_id: WorkerId, started_ms: int) -> bool:
        """Store that a run's process exists. Repeating it is harmless. False: it is not running on that worker."""

    def clear_probation(self, run_id: RunId) -> bool:
        """End the probation of a run that has lived long enough. False: it has not started, or was not on probation."""

    def requeue_unstarted(self, run_id: RunId, worker_id: WorkerId, reason: Reason, now_ms: int) -> bool:
        """Make a claimed run that never started pending again (cancelled, if its cancel is stored).

        False: it is not running on that worker, or it has started.
        """

    # --- how runs end ---

    def finish(self, outcome: Outcome, worker_id: WorkerId, now_ms: int, *, text: bool = False) -> Verdict:
        """Store how a run ended if it is running on that worker. A run with a stored cancel ends as cancelled.

        A run that failed has a successor if its job has retries left, after a pause. One that its worker ended because
        of its lease was lost, and not by the job's fault: it has a successor at once, unless it may start only once.

        Otherwise nothing changes: `duplicate` if the worker's result is already stored, `stale` if another decision
        about the run stands (see note_stale), `unknown` if the run does not exist. `text`: the worker sent one text for
        both streams, in stdout.
        """

    def finish_many(self, outcomes: Sequence[Outcome], worker_id: WorkerId, now_ms: int) -> list[Verdict]:
        """Store how several distinct runs ended, as `finish` does for one. Returns the verdicts in the same order."""

    def note_stale(self, stale: Sequence[Outcome], worker_id: WorkerId, now_ms: int) -> None:
        """Record one event for the stale results, at least one, that a worker sent together.

        The event belongs to the first run; it states the number of results and names the runs.
        """

    def mark_stuck(self, run_id: RunId, worker_id: WorkerId, now_ms: int) -> bool:
        """Store that a worker can't end a run. False: that is known, or the run is not running on that worker."""

    def fail_lost(
        self, run_id: RunId, detail: str, *, crash: bool, together: int, due_ms: int | None, now_ms: int
    ) -> RunStatus:
        """End a running run as failed/worker_lost, and make its successor pending; returns the task's new status.

        `crash`: counts towards the job's crash limit, at which the run fails for good (`crash_limit`). `together`: the
        successor is on probation, with at most that many such runs at once on a worker; 0: as its predecessor. The
        successor of a crash is always on probation, and the bound never grows. `due_ms`: the successor is not ready
        before.

        A run with a stored cancel ends as cancelled. A run that may start only once, or is stuck (`unkillable`), gets
        no successor.
        """

    def end_overdue(self, now_ms: int) -> list[tuple[WorkerId, RunId]]:
        """Fail (`timeout`) the runs that the scheduler itself has to end by now; returns them. They may be retried."""

    def expire(self, now_ms: int, count: int) -> int:
        """Fail (`expired`) up to `count` pending runs whose deadline has come; returns their number."""

    def end_cancelled(self, run_id: RunId, now_ms: int) -> None:
        """End a running run whose cancel is stored, without waiting for its worker."""

    def quarantine(self, run_id: RunId, why: str, now_ms: int) -> None:
        """Fail a running run that can't be sent to its worker, for good."""

    def run(self, run_id: RunId) -> Run | None:
        """A run; None if it does not exist."""
