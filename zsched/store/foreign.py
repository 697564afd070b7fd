"""Foreign runs in the store. Part of the write side, within its transactions.

Each change records an event that belongs to no job or run; `detail` begins with the worker's name.
"""

from __future__ import annotations

import json

from msgspec.structs import replace

from zsched.model.events import DECISIONS, EventKind
from zsched.model.records import ForeignDecision, ForeignRuns
from zsched.model.units import counted
from zsched.store import rows, sql
from zsched.store.engine import Engine
from zsched.store.ledger import Ledger, Note
from zsched.store.reader import EngineReader


class ForeignWriter:
    """Implements contract.Foreign."""

    def __init__(self, engine: Engine, ledger: Ledger, reads: EngineReader) -> None:
        self._execute = engine.execute
        self._ledger = ledger
        self.of = reads.foreign_of

    def add(self, held: ForeignRuns, actor: str) -> None:
        undecided = replace(held, decision=None, decided_by=None, decided_ms=None)
        self._execute(sql.FOREIGN_FOUND, rows.row_of_foreign(undecided))
        self._note(EventKind.FOREIGN_FOUND, _numbers(held), actor, held.since_ms)

    def update(self, held: ForeignRuns) -> None:
        self._execute(sql.FOREIGN_UPDATE, (held.running, held.results, json.dumps(held.runs), held.worker_id, held.db))

    def remove(self, held: ForeignRuns, actor: str, now_ms: int) -> None:
        self._execute(sql.FOREIGN_GONE, (held.worker_id, held.db))
        self._note(EventKind.FOREIGN_GONE, f"{held.worker_id}: nothing of database {held.db}", actor, now_ms)

    def decide(self, held: ForeignRuns, decision: ForeignDecision, actor: str, now_ms: int) -> ForeignRuns:
        stored = self._execute(sql.FOREIGN_DECIDE, (decision, actor, now_ms, held.worker_id, held.db))
        self._note(DECISIONS[decision], _numbers(held), actor, now_ms)
        return rows.foreign(stored[0])

    def _note(self, became: EventKind, detail: str, actor: str, at_ms: int) -> None:
        self._ledger.note(Note(at_ms=at_ms, actor=actor, became=became, detail=detail))


def _numbers(held: ForeignRuns) -> str:
    runs, results = counted(held.running, "run"), counted(held.results, "result")
    return f"{held.worker_id}: {runs} and {results} of database {held.db}"
