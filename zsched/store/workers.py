"""Workers in the store. Part of the write side (see core.py)."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from zsched.model.events import EventKind
from zsched.model.types import Worker, WorkerId, WorkerStatus
from zsched.store import rows, sql
from zsched.store.core import Core
from zsched.store.ledger import Note

ACTIVE, INACTIVE = WorkerStatus.ACTIVE, WorkerStatus.INACTIVE


class WorkersWriter(Core):
    """The role contract.Workers."""

    def register(self, worker: Worker, now_ms: int) -> Worker:
        was = self._status(worker.worker_id)
        introduced = replace(worker, status=ACTIVE, registered_ms=now_ms, last_seen_ms=now_ms, leaving_ms=None)
        stored = self._execute(sql.REGISTER, rows.row_of_worker(introduced))
        self._note(worker.worker_id, was, ACTIVE, "registered", f"worker {worker.worker_id}", now_ms)
        return rows.worker(stored[0])

    def reactivate(self, worker_id: WorkerId, now_ms: int) -> None:
        was = self._status(worker_id)
        self._execute(sql.SEEN, (now_ms, worker_id))
        if was is INACTIVE:
            self._note(worker_id, was, ACTIVE, "seen", f"worker {worker_id}", now_ms)

    def note_seen(self, seen: Mapping[WorkerId, int]) -> None:
        self._engine.executemany(sql.NOTE_SEEN, ((ms, worker_id, ms) for worker_id, ms in seen.items()))

    def leave(self, worker_id: WorkerId, now_ms: int) -> None:
        for (status,) in self._execute(sql.LEAVE, (now_ms, worker_id)):
            self._note(worker_id, status, WorkerStatus(status), "leaving", f"worker {worker_id}", now_ms)

    def deactivate(self, worker_id: WorkerId, reason: str, now_ms: int) -> None:
        was = self._status(worker_id)
        self._execute(sql.RETIRE, (worker_id,))
        if was is ACTIVE:
            self._note(worker_id, was, INACTIVE, reason, "scheduler", now_ms)
        # The worker may never come back.
        self._loads.drop(worker_id)

    def remove(self, worker_id: WorkerId, actor: str, now_ms: int) -> bool:
        if not self._execute(sql.DELETE_WORKER, (worker_id,)):
            return False
        self._note(worker_id, INACTIVE, EventKind.WORKER_REMOVED, None, actor, now_ms)
        self._loads.drop(worker_id)
        return True

    def active_workers(self) -> list[Worker]:
        return [rows.worker(row) for row in self._execute(sql.ACTIVE_WORKERS)]

    def _status(self, worker_id: WorkerId) -> WorkerStatus | None:
        stored = self._execute(sql.WORKER_STATUS, (worker_id,))
        return WorkerStatus(stored[0][0]) if stored else None

    def _note(
        self,
        worker_id: WorkerId,
        was: WorkerStatus | None,
        became: WorkerStatus | EventKind,
        reason: str | None,
        actor: str,
        at_ms: int,
    ) -> None:
        self._ledger.note(Note(at_ms=at_ms, actor=actor, worker_id=worker_id, was=was, became=became, reason=reason))
