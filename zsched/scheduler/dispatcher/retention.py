"""Retention: ended jobs are removed after a time, in small steps, so that no turn takes long.

A round removes the old jobs of each final status, then the old fires of recurring jobs, then the events about removed
jobs and runs, and old tokens; then it gives unused space back. It looks at the jobs in the order of their ids, and ends
where jobs are too new. Fires, events and tokens have a turn more rarely. Nothing of it is stored: after a restart a new
round finds the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from zsched.model.limits import (
    ACCESS_SHOWN_MS,
    BULK_JOBS_MAX,
    PURGE_EVENTS_INTERVAL_MS,
    PURGE_EVENTS_MAX,
    PURGE_FIRES_MAX,
    PURGE_INTERVAL_MS,
    PURGE_JOBS_MAX,
    PURGE_PAUSE_MS,
    PURGE_TOKENS_MAX,
)
from zsched.model.types import JobId, Now, RunId, RunStatus
from zsched.scheduler.dispatcher.commands import Command
from zsched.store.contract import Old, Step, Store


@dataclass(frozen=True, slots=True)
class Keep:
    """How long ended jobs are kept after their last change, in milliseconds; None: without limit. `success_ms`: those
    that succeeded; `others_ms`: those that failed or were cancelled.
    """

    success_ms: int | None = None
    others_ms: int | None = None

    def limits(self) -> dict[RunStatus, int]:
        """The final statuses whose jobs are not kept without limit."""
        limits = {
            RunStatus.SUCCESS: self.success_ms,
            RunStatus.FAILED: self.others_ms,
            RunStatus.CANCELLED: self.others_ms,
        }
        return {status: limit for status, limit in limits.items() if limit is not None}


@dataclass(frozen=True, slots=True)
class Purge(Command[Step]):
    """Remove some old jobs now: looks at BULK_JOBS_MAX with an id above `after`."""

    old: Old
    after: JobId
    actor: str


KEEP_ALL: Final = Keep()


class Retention:
    """Remembers where its round is. Times by the steady clock decide when a step is due."""

    def __init__(self, store: Store, keep: Keep, now: Now) -> None:
        self._store = store
        self._limits = keep.limits()
        self._due_ms = now.mono_ms
        # When fires and events have their next turn.
        self._events_due_ms = now.mono_ms
        self._round: Iterator[None] | None = None
        self._now = now
        # Whether a caller had jobs removed, whose events or runs are still there.
        self._asked = store.retention.removing

    @property
    def due_ms(self) -> int | None:
        """When the next step is due, by the steady clock; None: never."""
        return self._due_ms if self._limits or self._asked else None

    def on_purge(self, command: Purge, now: Now) -> Step:
        """Remove some jobs for a caller."""
        self.on_removed(now)
        retention = self._store.retention
        return retention.purge_jobs(command.old, command.after, BULK_JOBS_MAX, command.actor, now.wall_ms)

    def on_removed(self, now: Now) -> None:
        """Jobs were removed for a caller. Their events are removed by a round that begins soon."""
        self._asked, self._round = True, None
        self._due_ms = now.mono_ms + PURGE_PAUSE_MS

    def on_tick(self, now: Now) -> None:
        """Do the next step if it is due. What it removes ended long ago, so this turn has not changed it."""
        if self.due_ms is None or now.mono_ms < self._due_ms:
            return
        self._now = now
        if self._round is None:
            self._round = self._steps()
        # Set first: a step that fails must not make the next turn fail as well.
        self._due_ms = now.mono_ms + PURGE_PAUSE_MS
        try:
            next(self._round)
        except StopIteration:
            self._round, self._asked = None, False
            self._due_ms = now.mono_ms + PURGE_INTERVAL_MS

    def on_rollback(self) -> None:
        """The step was undone: a new round finds again what it has passed."""
        self._round = None

    def _steps(self) -> Iterator[None]:
        """A round: each step is one `next`."""
        while self._store.retention.remove_more("retention", self._now.wall_ms):
            yield
        yield from self._remove_jobs()
        if self._asked or self._now.mono_ms >= self._events_due_ms:
            yield from self._remove_fires()
            yield from self._remove_events()
            yield from self._remove_tokens()
            self._store.retention.purge_usage(self._now.wall_ms)
            yield
            self._events_due_ms = self._now.mono_ms + PURGE_EVENTS_INTERVAL_MS
        while self._store.retention.shrink():
            yield

    def _old(self) -> list[Old]:
        """What is old now, by status."""
        return [Old(status, self._now.wall_ms - limit_ms) for status, limit_ms in self._limits.items()]

    def _remove_jobs(self) -> Iterator[None]:
        for place in range(len(self._limits)):
            after: int | None = 0
            while after is not None:
                step = self._store.retention.purge_jobs(
                    self._old()[place], JobId(after), PURGE_JOBS_MAX, "retention", self._now.wall_ms
                )
                after = step.reached
                yield

    def _remove_fires(self) -> Iterator[None]:
        after: tuple[JobId, RunId] | None = (JobId(1), RunId(0)) if self._limits else None
        while after is not None:
            after = self._store.retention.purge_fires(self._old(), after, PURGE_FIRES_MAX, self._now.wall_ms).reached
            yield

    def _remove_tokens(self) -> Iterator[None]:
        if (keep_ms := self._limits.get(RunStatus.FAILED)) is None:
            return
        valid_ms = self._now.wall_ms - max(keep_ms, ACCESS_SHOWN_MS)
        while self._store.retention.purge_tokens(valid_ms, PURGE_TOKENS_MAX, self._now.wall_ms):
            yield

    def _remove_events(self) -> Iterator[None]:
        ages = self._limits.values()
        after: int | None = 0
        while after is not None:
            now_ms = self._now.wall_ms
            before_ms = now_ms - (0 if self._asked else min(ages))
            purged_ms = now_ms - max(ages) if ages else None
            after = self._store.retention.purge_events(before_ms, purged_ms, after, PURGE_EVENTS_MAX).reached
            yield
