"""Workers: registration, liveness, end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from zsched.model.types import Worker, WorkerId


class Workers(Protocol):
    """Workers that have ever registered."""

    def worker(self, worker_id: WorkerId) -> Worker | None:
        """A worker, as this transaction sees it; None if it never registered."""

    def register(self, worker: Worker, now_ms: int) -> Worker:
        """Store a worker's registration, and return the worker as it is stored.

        It is active and not leaving. The time of its first registration is kept.
        """

    def reactivate(self, worker_id: WorkerId, now_ms: int) -> None:
        """Mark a worker as active and seen now; records an event if it was inactive."""

    def note_seen(self, seen: Mapping[WorkerId, int]) -> None:
        """Store when workers were last heard, in ms by the wall clock. Changes nothing else; skips known values."""

    def leave(self, worker_id: WorkerId, now_ms: int) -> None:
        """Record that a worker announced its end. Repeating it does nothing."""

    def deactivate(self, worker_id: WorkerId, reason: str, now_ms: int) -> None:
        """Mark a worker as inactive; records an event if it was active."""

    def remove(self, worker_id: WorkerId, actor: str, now_ms: int) -> bool:
        """Remove an inactive worker; records an event. Returns False if it is active, or does not exist."""

    def active_workers(self) -> list[Worker]:
        """All active workers, by name."""
