"""Retention: ended jobs are removed after a time, in small steps, so that no turn takes long.

A round removes the old jobs of each final status, then the events of removed jobs, then gives unused space back. It
looks at the jobs in the order of their ids, and ends where jobs are too new. Nothing of it is stored: after a restart a
new round finds the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from zsched.model.limits import PURGE_EVENTS_MAX, PURGE_INTERVAL_MS, PURGE_JOBS_MAX, PURGE_PAUSE_MS
from zsched.model.types import JobId, Now, RunStatus
from zsched.store.contract import Store


@dataclass(frozen=True, slots=True)
class Keep:
    """How long ended jobs are kept after their last change, in milliseconds; None: without limit. `success_ms`: those
    that succeeded; `others_ms`: those that failed or were cancelled.
    """

    success_ms: int | None = None
    others_ms: int | None = None

    def limits(self) -> list[tuple[RunStatus, int]]:
        """The final statuses whose jobs are not kept without limit."""
        limits = (
            (RunStatus.SUCCESS, self.success_ms),
            (RunStatus.FAILED, self.others_ms),
            (RunStatus.CANCELLED, self.others_ms),
        )
        return [(status, limit) for status, limit in limits if limit is not None]


KEEP_ALL: Final = Keep()


class Retention:
    """Remembers where its round is. Times by the steady clock decide when a step is due."""

    def __init__(self, store: Store, keep: Keep, now: Now) -> None:
        self._store = store
        self._limits = keep.limits()
        self._due_ms = now.mono_ms
        self._round: Iterator[None] | None = None
        self._now = now

    @property
    def due_ms(self) -> int | None:
        """When the next step is due, by the steady clock; None: never."""
        return self._due_ms if self._limits else None

    def on_tick(self, now: Now) -> None:
        """Do the next step if it is due. What it removes ended long ago, so this turn has not changed it."""
        if not self._limits or now.mono_ms < self._due_ms:
            return
        self._now = now
        if self._round is None:
            self._round = self._steps()
        # Set first: a step that fails must not make the next turn fail as well.
        self._due_ms = now.mono_ms + PURGE_PAUSE_MS
        try:
            next(self._round)
        except StopIteration:
            self._restart(now)

    def on_rollback(self) -> None:
        """The step was undone: a new round finds again what it has passed."""
        self._round = None

    def _restart(self, now: Now) -> None:
        self._round = None
        self._due_ms = now.mono_ms + PURGE_INTERVAL_MS

    def _steps(self) -> Iterator[None]:
        """A round: each step is one `next`."""
        retention = self._store.retention
        for status, limit_ms in self._limits:
            after: int | None = 0
            while after is not None:
                ended_ms = self._now.wall_ms - limit_ms
                step = retention.purge_jobs(status, ended_ms, JobId(after), PURGE_JOBS_MAX, self._now.wall_ms)
                after = step.reached
                yield
        after = 0
        while after is not None:
            before_ms = self._now.wall_ms - min(limit_ms for _, limit_ms in self._limits)
            after = retention.purge_events(before_ms, after, PURGE_EVENTS_MAX).reached
            yield
        while retention.shrink():
            yield
