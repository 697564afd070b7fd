"""Recurring jobs, and everything else that is due by the wall clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from zsched.model.types import JobId, RunId


@dataclass(frozen=True, slots=True)
class Due:
    """A recurring job whose next fire is due. `live`: its last fire has not ended."""

    job_id: JobId
    schedule: str
    next_fire_ms: int
    live: bool


class Schedules(Protocol):
    """Schedules of recurring jobs, and due times."""

    def pause_schedule(self, job_id: JobId, actor: str, now_ms: int, reason: str = "") -> bool:
        """Stop firing a recurring job until `resume_schedule`; a live fire continues. `reason` is stored in the event.

        Returns False if the job has no schedule, is paused, or its schedule has ended.
        """

    def resume_schedule(
        self, job_id: JobId, next_fire_ms: int | None, actor: str, now_ms: int, reason: str = ""
    ) -> bool:
        """Resume a paused job; it fires next at next_fire_ms. Returns False if it is not paused."""

    def end_schedule(self, job_id: JobId, actor: str, now_ms: int, reason: str = "") -> bool:
        """End the schedule of a recurring job for good; a live fire continues.

        Returns False if the job has no schedule, or the schedule has already ended.
        """

    def last_fire_lives(self, job_id: JobId) -> bool:
        """Whether the last run of a job, of a recurring one its last fire, is pending or running. As this transaction
        sees it.
        """

    def due(self, now_ms: int, count: int) -> list[Due]:
        """Up to `count` recurring jobs whose next fire is due, the most overdue first.

        Call `flush_counters` first: `live` is read from the counters, and `fire` resets them.
        """

    def fire(self, job_id: JobId, next_fire_ms: int | None, actor: str, now_ms: int) -> RunId:
        """Make the run of a recurring job's fire. The job's counters count only this fire from now on."""

    def skip_fire(self, job_id: JobId, next_fire_ms: int | None, actor: str, detail: str, now_ms: int) -> None:
        """Skip a fire, and record an event with the reason."""

    def release_due(self, now_ms: int, count: int) -> int:
        """Unblock up to `count` pending runs that are due; returns their number. A retry whose pause is over avoids the
        worker that it has failed on for AVOID_MS.
        """

    def next_due_ms(self) -> int | None:
        """Wall-clock time of the next fire, start time, deadline, end of a back-off or of a REST run; None: nothing."""

    def latest_ms(self) -> int:
        """Wall-clock time of the last event; 0 without events."""

    def shift(self, by_ms: int, now_ms: int) -> None:
        """Adjust due times to a jump of the wall clock, which now shows now_ms.

        Back-offs, delays and ends of runs keep their remaining time; fires, start times and deadlines
        keep their date. The event of the jump becomes the latest.
        """
