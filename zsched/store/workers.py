"""Workers in the store. Part of the write side (see core.py)."""

from __future__ import annotations

import json
from collections.abc import Mapping

from zsched.model.types import Worker, WorkerId, WorkerStatus
from zsched.store import rows, sql
from zsched.store.core import Core


class Workers(Core):
    """Of contract.Store what is about workers."""

    def worker(self, worker_id: WorkerId) -> Worker | None:
        found = self._execute(sql.WORKER, (worker_id,))
        return rows.worker(found[0]) if found else None

    def register(self, worker: Worker, now_ms: int) -> Worker:
        was = self._execute(sql.WORKER_STATUS, (worker.worker_id,))
        labels = json.dumps(dict(worker.labels or {}), sort_keys=True)
        identity = (worker.host, worker.incarnation, worker.boot_id, *worker.lock, worker.agent)
        stored = self._execute(
            sql.REGISTER,
            (worker.worker_id, worker.kind, worker.slots, now_ms, now_ms, *identity, json.dumps(worker.can), labels),
        )
        before = was[0][0] if was else None
        self._worker_event(
            now_ms, f"worker {worker.worker_id}", before, WorkerStatus.ACTIVE, worker.worker_id, "registered"
        )
        return rows.worker(stored[0])

    def seen(self, worker_id: WorkerId, now_ms: int) -> None:
        was = self._execute(sql.WORKER_STATUS, (worker_id,))
        self._execute(sql.SEEN, (now_ms, worker_id))
        if was and was[0][0] != WorkerStatus.ACTIVE:
            self._worker_event(now_ms, f"worker {worker_id}", was[0][0], WorkerStatus.ACTIVE, worker_id, "seen")

    def note_seen(self, seen: Mapping[WorkerId, int]) -> None:
        self._engine.executemany(sql.NOTE_SEEN, ((ms, worker_id, ms) for worker_id, ms in seen.items()))

    def leave(self, worker_id: WorkerId, now_ms: int) -> None:
        for (status,) in self._execute(sql.LEAVE, (now_ms, worker_id)):
            self._worker_event(now_ms, f"worker {worker_id}", status, WorkerStatus(status), worker_id, "leaving")

    def deactivate(self, worker_id: WorkerId, reason: str, now_ms: int) -> None:
        was = self._execute(sql.WORKER_STATUS, (worker_id,))
        self._execute(sql.RETIRE, (worker_id,))
        if was and was[0][0] == WorkerStatus.ACTIVE:
            self._worker_event(now_ms, "scheduler", WorkerStatus.ACTIVE, WorkerStatus.INACTIVE, worker_id, reason)

    def active_workers(self) -> list[Worker]:
        return [rows.worker(row) for row in self._execute(sql.ACTIVE_WORKERS)]

    def _worker_event(
        self, now_ms: int, actor: str, was: str | None, became: WorkerStatus, worker_id: WorkerId, reason: str
    ) -> None:
        self._ledger.event(now_ms, actor, was, became, worker_id=worker_id, reason=reason)
