"""The store's write side, on any engine: its parts put together. Called by the loop thread alone, inside the turn's
transaction (see contract.py).
"""

from __future__ import annotations

from typing import Final

from zsched.limits import RESTORE_IDS_GAP
from zsched.model import DemandId, RunId
from zsched.store import sql
from zsched.store.access import AccessWriter
from zsched.store.claims import Claims
from zsched.store.ends import Ends
from zsched.store.engine import Engine
from zsched.store.idempotency import IdempotencyWriter
from zsched.store.jobs import Jobs
from zsched.store.workers import Workers

# How far a restored database raises the ids of each table. A run has up to four events.
ID_GAPS: Final = {"jobs": RESTORE_IDS_GAP, "runs": RESTORE_IDS_GAP, "events": 10 * RESTORE_IDS_GAP, "schedulers": 1_000}


class Writer(Jobs, Claims, Ends, Workers):
    """Implements contract.Store; its methods' contracts stand there. Each of the parts has its own module."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.access = AccessWriter(engine, self._ledger)
        self.idempotency = IdempotencyWriter(engine)
        self._identity = str(self._execute(sql.IDENTITY)[0][0])

    @property
    def identity(self) -> str:
        return self._identity

    def predecessors(self) -> tuple[str, ...]:
        return tuple(str(db) for (db,) in self._execute(sql.PREDECESSORS))

    def succeed(
        self,
        identity: str,
        made_ms: int | None,
        now_ms: int,
        *,
        actor: str = "scheduler",
        detail: str = "",
        lease_ms: int = 0,
    ) -> int:
        self._execute(sql.ADD_PREDECESSOR, (self._identity, made_ms, now_ms))
        self._execute(sql.REPLACE_IDENTITY, (identity, now_ms))
        for table, count in ID_GAPS.items():
            if not self._execute(sql.RAISE_IDS, (count, table)):
                self._execute(sql.START_IDS, (table, count))
        self._ledger.event(now_ms, actor, None, "restored", detail=f"{detail}; it was {self._identity}")
        self._identity = identity
        running = self._execute(sql.RUNNING)
        for (run_id,) in running:
            why = "the database was restored from a backup, which does not know how the run ended"
            self.lose(RunId(run_id), why, crash=False, suspect=False, due_ms=None, now_ms=now_ms)
        for (demand_id,) in self._execute(sql.PENDING_DEMANDS) if lease_ms else ():
            if self._demand(DemandId(demand_id)).leased:
                self._execute(sql.DELAY, (now_ms + lease_ms, demand_id))
        return len(running)

    def begin_epoch(self, host: str, pid: int, version: str, now_ms: int) -> int:
        return int(self._execute(sql.BEGIN_EPOCH, (host, pid, version, now_ms))[0][0])

    def end_epoch(self, epoch: int, now_ms: int) -> None:
        self._execute(sql.END_EPOCH, (now_ms, epoch))
