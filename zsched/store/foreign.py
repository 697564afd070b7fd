"""Foreign runs in the store, on any engine. Part of the write side, and of its transactions (see contract.py).

Each change leaves an event that is about no job or run; `detail` begins with the worker's name.
"""

from __future__ import annotations

import json

from zsched.model.events import DECISIONS, EventKind
from zsched.model.types import ForeignDecision, ForeignRuns, WorkerId
from zsched.store import rows, sql
from zsched.store.engine import Engine
from zsched.store.ledger import Ledger


class ForeignWriter:
    """Implements contract.Foreign; its methods' contracts stand there."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self._execute = engine.execute
        self._event = ledger.event

    def of(self, worker_id: WorkerId) -> list[ForeignRuns]:
        return [rows.foreign(row) for row in self._execute(sql.FOREIGN_OF, (worker_id,))]

    def found(self, held: ForeignRuns, actor: str) -> None:
        named = json.dumps(held.runs)
        self._execute(sql.FOREIGN_FOUND, (held.worker_id, held.db, held.running, held.results, named, held.since_ms))
        detail = f"{held.worker_id}: {held.running} runs and {held.results} results of database {held.db}"
        self._event(held.since_ms, actor, None, EventKind.FOREIGN_FOUND, detail=detail)

    def update(self, held: ForeignRuns) -> None:
        self._execute(sql.FOREIGN_UPDATE, (held.running, held.results, json.dumps(held.runs), held.worker_id, held.db))

    def gone(self, held: ForeignRuns, actor: str, now_ms: int) -> None:
        self._execute(sql.FOREIGN_GONE, (held.worker_id, held.db))
        self._event(
            now_ms, actor, None, EventKind.FOREIGN_GONE, detail=f"{held.worker_id}: nothing of database {held.db}"
        )

    def decide(self, held: ForeignRuns, decision: ForeignDecision, actor: str, now_ms: int) -> ForeignRuns:
        stored = self._execute(sql.FOREIGN_DECIDE, (decision, actor, now_ms, held.worker_id, held.db))
        detail = f"{held.worker_id}: {held.running} runs and {held.results} results of database {held.db}"
        self._event(now_ms, actor, None, DECISIONS[decision], detail=detail)
        return rows.foreign(stored[0])
