"""Queues that are paused or fair. Part of the write side, within its transactions."""

from __future__ import annotations

from typing import Final, Literal

from msgspec.structs import replace

from zsched.model.events import EventKind
from zsched.model.queues import Queue
from zsched.store import rows
from zsched.store.engine import Engine
from zsched.store.ledger import Ledger, Note
from zsched.store.mapping import columns, insert, stored_columns

_COLUMNS: Final = columns(Queue)
QUEUES: Final = f"SELECT {_COLUMNS} FROM queues ORDER BY queue"  # noqa: S608  (of constants)
QUEUE: Final = f"SELECT {_COLUMNS} FROM queues WHERE queue = ?"  # noqa: S608
_SET: Final = insert(
    "queues",
    stored_columns(Queue),
    " ON CONFLICT (queue) DO UPDATE SET fair = excluded.fair, paused_ms = excluded.paused_ms,"
    " paused_by = excluded.paused_by, pause_reason = excluded.pause_reason",
)
_FORGET: Final = "DELETE FROM queues WHERE queue = ?"


class QueuesWriter:
    """Implements contract.Queues. Read once, then kept up to date until changes are undone."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self._execute = engine.execute
        self._ledger = ledger
        self._known: dict[str, Queue] | None = None
        self._paused: frozenset[str] = frozenset()
        self._fair: frozenset[str] = frozenset()

    def clear(self) -> None:
        """Changes were undone."""
        self._known = None

    @property
    def paused(self) -> frozenset[str]:
        """Names of the queues that are paused."""
        self._load()
        return self._paused

    @property
    def fair(self) -> frozenset[str]:
        """Names of the queues that are shared fairly between owners."""
        self._load()
        return self._fair

    def count(self) -> int:
        return len(self._load())

    def find(self, name: str) -> Queue:
        return self._load().get(name) or Queue(queue=name)

    def pause(self, name: str, reason: str, actor: str, now_ms: int) -> bool:
        queue = self.find(name)
        if queue.paused_ms is not None:
            return False
        self._store(replace(queue, paused_ms=now_ms, paused_by=actor, pause_reason=reason or None))
        self._note(EventKind.QUEUE_PAUSED, name, reason, actor, now_ms)
        return True

    def resume(self, name: str, reason: str, actor: str, now_ms: int) -> bool:
        queue = self.find(name)
        if queue.paused_ms is None:
            return False
        self._store(Queue(queue=name, fair=queue.fair))
        self._note(EventKind.QUEUE_RESUMED, name, reason, actor, now_ms)
        return True

    def share(self, name: str, fair: Literal["owner"] | None, actor: str, now_ms: int) -> bool:
        queue = self.find(name)
        if queue.fair == fair:
            return False
        self._store(replace(queue, fair=fair))
        self._note(EventKind.QUEUE_CHANGED, name, f"fair: {fair or 'none'}", actor, now_ms)
        return True

    def _note(self, became: EventKind, name: str, more: str, actor: str, at_ms: int) -> None:
        self._ledger.note(Note(at_ms=at_ms, actor=actor, became=became, detail=f"{name}: {more}" if more else name))

    def _store(self, queue: Queue) -> None:
        """Store what is set for a queue. One for which nothing is set has no row."""
        if queue == Queue(queue=queue.queue):
            self._execute(_FORGET, (queue.queue,))
        else:
            self._execute(_SET, rows.row_of_queue(queue))
        self._known = None

    def _load(self) -> dict[str, Queue]:
        if self._known is None:
            queues = [rows.queue(row) for row in self._execute(QUEUES)]
            self._known = {queue.queue: queue for queue in queues}
            self._paused = frozenset(queue.queue for queue in queues if queue.paused_ms is not None)
            self._fair = frozenset(queue.queue for queue in queues if queue.fair == "owner")
        return self._known
