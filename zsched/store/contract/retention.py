"""Retention: old jobs are removed, with their runs, outputs, tags and events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from zsched.model.types import JobId, RunId, RunStatus


@dataclass(frozen=True, slots=True)
class Step:
    """What one step has done: the number of rows that it removed, and the last id that it has looked at; None: nothing
    old follows.
    """

    removed: int
    reached: int | None


@dataclass(frozen=True, slots=True)
class FireStep:
    """The same for fires: the number of fires removed, and the job and the run that it has reached; None: the end."""

    removed: int
    reached: tuple[JobId, RunId] | None


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
        or this turn has changed it. An array with many runs is removed in steps, of which this is the first.
        """

    def remove_more(self, actor: str, now_ms: int) -> bool:
        """The next step of the removal of an array. False: there is none to be removed."""

    @property
    def removing(self) -> bool:
        """Whether the removal of an array is under way."""

    def purge_usage(self, now_ms: int) -> None:
        """Remove usage of more than USAGE_DAYS_MAX days ago."""

    def purge_fires(self, old: Sequence[Old], after: tuple[JobId, RunId], count: int, now_ms: int) -> FireStep:
        """Remove old fires of recurring jobs, with their runs and outputs, but not the last FIRES_KEPT of each job.

        Looks at `count` fires at most, and at the jobs from `after` on: the job, and its last run looked at.
        """

    def purge_events(self, before_ms: int, purged_ms: int | None, after: int, count: int) -> Step:
        """Remove events about jobs and runs that are removed, and those of removals before `purged_ms`. Looks at
        `count` events with a number above `after`, up to the first one at `before_ms` or later.
        """

    def purge_tokens(self, valid_ms: int, count: int, now_ms: int) -> int:
        """Remove up to `count` tokens that were not valid any more at a time; returns their number. Their names stay
        taken. Keeps a token whose jobs are being ended.
        """

    def shrink(self) -> bool:
        """Give some unused space back to the file system, where the engine needs that. Returns whether more is left."""
