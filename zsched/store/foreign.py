"""Foreign runs in the store, on any engine. Part of the write side, and of its transactions (see contract.py).

Each change leaves an event that is about no job or run; `detail` begins with the worker's name.
"""

from __future__ import annotations

import json

from msgspec.structs import replace

from zsched.model.records import ForeignDecision, ForeignRuns
from zsched.model.types import WorkerId
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
        undecided = replace(held, decision=None, decided_by=None, decided_ms=None)
        self._execute(sql.FOREIGN_FOUND, rows.row_of_foreign(undecided))
        detail = f"{held.worker_id}: {held.running} runs and {held.results} results of database {held.db}"
        self._event(held.since_ms, actor, None, "foreign_found", detail=detail)

    def update(self, held: ForeignRuns) -> None:
        self._execute(sql.FOREIGN_UPDATE, (held.running, held.results, json.dumps(held.runs), held.worker_id, held.db))

    def gone(self, held: ForeignRuns, actor: str, now_ms: int) -> None:
        self._execute(sql.FOREIGN_GONE, (held.worker_id, held.db))
        self._event(now_ms, actor, None, "foreign_gone", detail=f"{held.worker_id}: nothing of database {held.db}")

    def decide(self, held: ForeignRuns, decision: ForeignDecision, actor: str, now_ms: int) -> None:
        self._execute(sql.FOREIGN_DECIDE, (decision, actor, now_ms, held.worker_id, held.db))
        detail = f"{held.worker_id}: {held.running} runs and {held.results} results of database {held.db}"
        self._event(now_ms, actor, None, f"foreign_{decision}", detail=detail)
