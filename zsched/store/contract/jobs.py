"""Jobs: submit, cancel, edit, and an owner's jobs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from zsched.model.types import Job, JobId, JobSpec, RunId, RunStatus, WorkerId


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Effect of a cancel: the number of pending runs it ended, and the running runs it marked, with their workers."""

    pending: int
    running: list[tuple[WorkerId, RunId]]


@dataclass(frozen=True, slots=True)
class Target:
    """A job that a bulk call may change: its owner (empty: no owner), and its status by the counters."""

    job_id: JobId
    owner: str
    status: RunStatus


class Jobs(Protocol):
    """Jobs from submit to cancel. Reads see the current transaction."""

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
        """Store jobs in order; each gets a pending run unless it only has a schedule. Returns contiguous, rising ids.

        `next_fires[i]` belongs to `specs[i]`. `owner` "" means no owner. `metered`: `count_metered` counts these jobs.
        """

    def count_new_demands(self, specs: Sequence[JobSpec], owner: str) -> int:
        """Number of the different demands of an owner's jobs that are counted and not live: see `live_demands`."""

    def adds_demand(self, job: Job) -> bool:
        """Whether a new run of a stored job adds to `live_demands`. Its queue may differ from the stored one."""

    @property
    def live_demands(self) -> int:
        """Number of demands that name a queue, an owner or limits, and have pending or running runs."""

    def live_demands_of(self, owner: str) -> int:
        """Number of those that belong to an owner alone: by its own keys of limits, or in a fair queue."""

    def unique_holders(self, keys: Collection[str]) -> dict[str, JobId]:
        """For those of some unique keys that are not free, the job that has not ended. As this transaction sees it."""

    def pending_tasks(self) -> int:
        """Number of pending tasks, from a counter."""

    def job(self, job_id: JobId) -> Job | None:
        """A job; None if it does not exist. Its counters are those of the last `flush_counters`."""

    def cancel(self, job_id: JobId, actor: str, now_ms: int, reason: str = "") -> Cancelled:
        """Cancel the live runs of a job: end pending runs, mark running ones for their workers to stop.

        A job without live runs is not changed. `reason` is stored with the job and in the events.
        """

    def hold(self, job_id: JobId, actor: str, reason: str, now_ms: int) -> bool:
        """Hold a job: none of its runs starts, nor a successor of one. Running runs go on. False: it was held."""

    def release(self, job_id: JobId, actor: str, reason: str, now_ms: int) -> bool:
        """Let a held job's runs start again. False: it was not held."""

    def rerun(self, job_id: JobId, actor: str, reason: str, now_ms: int) -> RunId | None:
        """Make a run of a job that has ended, without earlier failures, crashes and returns. None: it is live, or has
        never had a run.

        The run is held if the job is. It has the job's deadline only if that has not passed.
        """

    def edit(self, job: Job, actor: str, detail: str, now_ms: int) -> None:
        """Store the changed fields and the next fire of a job. Runs already claimed keep the old values.

        `detail` describes the change in the event.
        """

    def count_metered(self, owner: str, most: int) -> int:
        """Number of pending metered jobs of an owner, at most `most`. A recurring job counts before its first fire.

        Jobs that this turn has claimed or ended may still be counted.
        """

    def count_recurring(self, owner: str, most: int) -> int:
        """Number of schedules of an owner that have not ended, paused ones included, at most `most`."""

    def recurring(self, owner: str | None, after: JobId, count: int) -> list[Target]:
        """Up to `count` jobs with a schedule that has not ended and an id above `after`, oldest first.

        `owner` None: of all owners.
        """

    def live(self, owner: str | None, after: JobId, count: int) -> list[Target]:
        """Up to `count` jobs with a pending or running task and an id above `after`, oldest first.

        `owner` None: of all owners. Exact after `flush_counters`.
        """

    def held(self, owner: str | None, after: JobId, count: int) -> list[Target]:
        """Up to `count` held jobs that have not ended, with an id above `after`, oldest first.

        `owner` None: of all owners. Exact after `flush_counters`.
        """

    def ended(self, owner: str | None, status: RunStatus, after: JobId, count: int) -> list[Target]:
        """Up to `count` jobs with a final status, without a schedule, and with an id above `after`, oldest first.

        `owner` None: of all owners. Exact after `flush_counters`.
        """

    def between(self, first: JobId, last: JobId, count: int) -> list[Target]:
        """Up to `count` jobs with an id from `first` to `last`, both included, oldest first."""
