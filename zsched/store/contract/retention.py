"""Retention: old jobs are removed, with their runs, outputs, tags and events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from zsched.model.types import JobId, RunStatus


@dataclass(frozen=True, slots=True)
class Step:
    """What one step has done: the number of rows that it removed, and the last id that it has looked at; None: nothing
    old follows.
    """

    removed: int
    reached: int | None


@dataclass(frozen=True, slots=True)
class Old:
    """Which jobs are old: those with this final status that changed last before a time."""

    status: RunStatus
    ended_ms: int


class Retention(Protocol):
    """Small steps, so that no turn takes long. Each looks at some rows after an id."""

    @property
    def default(self) -> bool:
        """Whether old jobs are removed unless the settings say otherwise. Not in a database of an earlier release."""

    def purge_jobs(self, old: Old, after: JobId, count: int, actor: str, now_ms: int) -> Step:
        """Remove old jobs, with everything of theirs but their events. Looks at `count` jobs with an id above `after`,
        up to the first one that is submitted too late to be old.

        Keeps jobs with a schedule.
        """

    def remove(self, job_id: JobId, actor: str, reason: str, now_ms: int) -> bool:
        """Remove a job that has ended, with everything of it but its events. False: it has not ended, has a schedule,
        or this turn has changed it.
        """

    def purge_usage(self, now_ms: int) -> None:
        """Remove usage of more than USAGE_DAYS_MAX days ago."""

    def purge_events(self, before_ms: int, after: int, count: int) -> Step:
        """Remove events about jobs that are removed. Looks at `count` events with a number above `after`, up to the
        first one at `before_ms` or later.
        """

    def shrink(self) -> bool:
        """Give some unused space back to the file system, where the engine needs that. Returns whether more is left."""
