"""Foreign runs: what workers hold for other databases, and the operator's decisions."""

from __future__ import annotations

from typing import Protocol

from zsched.model.records import ForeignDecision, ForeignRuns
from zsched.model.types import WorkerId


class Foreign(Protocol):
    """Foreign runs by worker and database. Part of the write side."""

    def of(self, worker_id: WorkerId) -> list[ForeignRuns]:
        """Foreign runs of a worker, one entry per database."""

    def add(self, held: ForeignRuns, actor: str) -> None:
        """Store the runs that a worker holds for a database it has not reported before, and record an event."""

    def update(self, held: ForeignRuns) -> None:
        """Store the present numbers of runs and results. Records no event."""

    def remove(self, held: ForeignRuns, actor: str, now_ms: int) -> None:
        """Delete runs that the worker no longer holds, with the decision about them, and record an event."""

    def decide(self, held: ForeignRuns, decision: ForeignDecision, actor: str, now_ms: int) -> ForeignRuns:
        """Store a decision, record an event, and return the stored entry."""
