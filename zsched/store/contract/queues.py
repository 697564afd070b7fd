"""Queues: what operators have set for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from zsched.model.queues import Queue


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue, and how many of its tasks are pending and running."""

    queue: Queue
    pending: int
    running: int


class Queues(Protocol):
    """Queues that are paused or fair; all others have no row. Part of the write side."""

    @property
    def paused(self) -> frozenset[str]:
        """Names of the queues that are paused."""

    @property
    def fair(self) -> frozenset[str]:
        """Names of the queues that are shared fairly between owners. A job is of its owner's share if its queue was
        fair when it was submitted.
        """

    def count(self) -> int:
        """Number of the queues that are paused or fair."""

    def find(self, name: str) -> Queue:
        """A queue; nothing may be set for it."""

    def pause(self, name: str, reason: str, actor: str, now_ms: int) -> bool:
        """From now on no run of the queue is claimed, and record an event. False: it is paused already."""

    def resume(self, name: str, reason: str, actor: str, now_ms: int) -> bool:
        """End a pause, and record an event. False: it is not paused."""

    def share(self, name: str, fair: Literal["owner"] | None, actor: str, now_ms: int) -> bool:
        """Set how the queue is shared, and record an event. False: it is so already."""
