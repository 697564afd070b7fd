"""Tasks of arrays: made in bounded turns, and what callers do with some of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from zsched.model.types import JobId, Run, RunStatus
from zsched.store.contract.jobs import Cancelled


@dataclass(frozen=True, slots=True)
class TaskStep:
    """A step of a rerun: how many tasks run again, and the last index that it has looked at; None: that was the end."""

    done: int
    after: int | None


@dataclass(frozen=True, slots=True)
class Again:
    """Which tasks of an array run again: the ended ones of a part. `failed`: only those that failed, or that were
    cancelled because others had.
    """

    job_id: JobId
    part: tuple[int, int]
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task of an array. `last`: its last run; a task that was not made yet has none. `held`: it is not made before it
    is released. `reason`: why it is in its state.
    """

    index: int
    status: RunStatus
    held: bool = False
    reason: str | None = None
    entry: str | None = None
    last: Run | None = None


class Tasks(Protocol):
    """Tasks of arrays. A `part` is the first and the last index of some tasks, both included."""

    def make_tasks(self, now_ms: int, most: int) -> bool:
        """Give runs that wait for it a place under the cap of their array, and make tasks of arrays that have room; in
        all `most` runs or a few more. Ends the arrays in which too many tasks have failed, and unmade tasks at the
        deadline.

        Called before placement, and before `end_jobs`. Returns whether it has stopped at `most`.
        """

    def tasks_short(self) -> bool:
        """Whether an array has so few ready runs left after placement that more of its tasks must be made at once."""

    def cancel_tasks(
        self, job_id: JobId, actor: str, now_ms: int, reason: str = "", part: tuple[int, int] | None = None
    ) -> Cancelled:
        """Cancel the live tasks of an array, those without runs included; None: all of them."""

    def hold_tasks(self, job_id: JobId, part: tuple[int, int], actor: str, reason: str, now_ms: int) -> int:
        """Hold the live tasks of a part. Running runs go on; what follows them is held. Returns how many were not held
        before.
        """

    def release_tasks(self, job_id: JobId, part: tuple[int, int], actor: str, reason: str, now_ms: int) -> int:
        """Let held tasks of a part start again. Returns how many were held."""

    def rerun_array(self, job_id: JobId, actor: str, reason: str, now_ms: int) -> bool:
        """Run all tasks of an ended array again. False: it is live."""

    def rerun_tasks(self, again: Again, most: int, actor: str, reason: str, now_ms: int) -> TaskStep:
        """Run the ended ones among the first `most` tasks of a part again."""
