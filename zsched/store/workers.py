"""Workers in the store. Part of the write side (see core.py)."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from zsched.model.types import Worker, WorkerId, WorkerStatus
from zsched.store import rows, sql
from zsched.store.core import Core


class Workers(Core):
    """Of contract.Store what is about workers."""

    def worker(self, worker_id: WorkerId) -> Worker | None:
        found = self._execute(sql.WORKER, (worker_id,))
        return rows.worker(found[0]) if found else None

    def register(self, worker: Worker, now_ms: int) -> None:
        was = self._execute(sql.WORKER_STATUS, (worker.worker_id,))
        introduced = replace(
            worker, status=WorkerStatus.ACTIVE, registered_ms=now_ms, last_seen_ms=now_ms, leaving_ms=None
        )
        self._execute(sql.REGISTER, rows.row_of_worker(introduced))
        before = was[0][0] if was else None
        self._worker_event(
            now_ms, f"worker {worker.worker_id}", before, WorkerStatus.ACTIVE, worker.worker_id, "registered"
        )

    def seen(self, worker_id: WorkerId, now_ms: int) -> None:
        was = self._execute(sql.WORKER_STATUS, (worker_id,))
        self._execute(sql.SEEN, (now_ms, worker_id))
        if was and was[0][0] != WorkerStatus.ACTIVE:
            self._worker_event(now_ms, f"worker {worker_id}", was[0][0], WorkerStatus.ACTIVE, worker_id, "seen")

    def note_seen(self, seen: Mapping[WorkerId, int]) -> None:
        self._engine.executemany(sql.NOTE_SEEN, ((ms, worker_id, ms) for worker_id, ms in seen.items()))

    def leave(self, worker_id: WorkerId, now_ms: int) -> None:
        for (status,) in self._execute(sql.LEAVE, (now_ms, worker_id)):
            self._worker_event(now_ms, f"worker {worker_id}", status, status, worker_id, "leaving")

    def deactivate(self, worker_id: WorkerId, reason: str, now_ms: int) -> None:
        was = self._execute(sql.WORKER_STATUS, (worker_id,))
        self._execute(sql.RETIRE, (worker_id,))
        if was and was[0][0] == WorkerStatus.ACTIVE:
            self._worker_event(now_ms, "scheduler", WorkerStatus.ACTIVE, WorkerStatus.INACTIVE, worker_id, reason)

    def active_workers(self) -> list[Worker]:
        return [rows.worker(row) for row in self._execute(sql.ACTIVE_WORKERS)]

    def _worker_event(
        self, now_ms: int, actor: str, was: str | None, became: str, worker_id: WorkerId, reason: str
    ) -> None:
        self._ledger.event(now_ms, actor, was, became, worker_id=worker_id, reason=reason)
