"""Jobs that wait for other jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from zsched.model.after import Dependency
from zsched.model.arrays import TaskArray
from zsched.model.types import JobId, RunStatus


@dataclass(frozen=True, slots=True)
class Parent:
    """A job for which others may wait. `ended`: its final status, None while it is live or this turn changes it.
    `ran`: not so if it failed without a start. `some_ended`: some of its tasks have, or may have. `followers`: how many
    arrays wait for it task by task.
    """

    owner: str
    recurring: bool
    ended: RunStatus | None
    ran: bool = True
    array: TaskArray | None = None
    some_ended: bool = False
    followers: int = 0


@dataclass(frozen=True, slots=True)
class Waits:
    """What a job still waits for: the first jobs with their status, and how many there are."""

    first: Sequence[tuple[Dependency, RunStatus]]
    count: int


class Dependencies(Protocol):
    """Jobs that wait for other jobs. A run of such a job is blocked until all of them have ended as it needs."""

    def parents(self, jobs: Sequence[JobId]) -> Mapping[JobId, Parent]:
        """Those of the jobs that exist."""

    def judge(self, now_ms: int, count: int) -> bool:
        """Judge about `count` dependencies on jobs that have ended: unblock runs, or fail them (`dependency`). Returns
        whether more are left. Called after `end_jobs`, and before placement.

        The jobs that fail by this have ended, too, so those that wait for them are judged next.
        """

    @property
    def judging(self) -> bool:
        """Whether there may be something to judge. May be true after a start or a rollback."""
