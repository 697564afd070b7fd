"""The transaction of a turn."""

from __future__ import annotations

from collections.abc import Iterable, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from zsched.model.types import JobId, RunId


@dataclass(frozen=True, slots=True)
class Changes:
    """What a turn has changed: jobs and runs with a new state or event, and whether it recorded any event.

    `ended`: jobs that ended in it. A recurring job ends with each fire, and may have fired again in the same turn.

    Runs that were created together are not named, because no caller can wait for them yet.
    """

    jobs: Set[JobId] = frozenset()
    runs: Set[RunId] = frozenset()
    events: bool = False
    ended: Set[JobId] = frozenset()


class Transactions(Protocol):
    """One write transaction at a time."""

    def begin(self) -> None:
        """Open the transaction of a turn, as the only writer. Raises StoreBusy.

        Raises StoreDeposed if another scheduler has taken over since `begin_epoch`. So a turn that could begin proves
        that until then no other scheduler led.
        """

    def confirm_epoch(self) -> None:
        """Check the same outside a turn, by a read. Raises StoreDeposed, and StoreError if it can't be read."""

    def commit(self) -> None:
        """Make the turn durable. On StoreError the transaction is rolled back and nothing of the turn is stored."""

    def rollback(self) -> None:
        """Undo the turn. Does nothing when no transaction is open."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Scope of one frame or command within the turn. An exception undoes its changes.

        The turn continues, unless that is a StoreError other than StoreConstraint.
        """

    def look_ahead(self, runs: Iterable[RunId]) -> None:
        """Frames of this turn will report on these runs. A store whose database is distant reads them all at once."""

    def flush_counters(self, now_ms: int) -> None:
        """Write the events and the job counters that the turn has gathered, each job once.

        Called last before `commit`, and before any query that reads job counters or a job's status.
        """

    def end_jobs(self, now_ms: int) -> None:
        """Find which jobs have ended with the tasks that ended so far: `changes.ended`. Called before placement.

        `flush_counters` does the same for tasks that end later.
        """

    @property
    def rows_changed(self) -> int:
        """Rows changed since `begin`: the size of the turn."""

    @property
    def held_read(self) -> int:
        """Runs that `held_by` has returned since `begin`: the cost of a turn that changes nothing."""

    @property
    def changes(self) -> Changes:
        """Changes since `begin`. Complete after `flush_counters`, and until the next `begin`."""

    def verify(self) -> None:
        """Raise StoreMisplaced if the database was deleted, replaced or overwritten since it was opened.

        Later commits could be lost then. Called between two turns.
        """
