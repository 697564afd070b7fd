"""The store's write side, on any engine: its parts put together. Called by the loop thread alone, inside the turn's
transaction (see contract.py).
"""

from __future__ import annotations

from typing import Final

from zsched.model.events import EventKind
from zsched.model.limits import LEASE_MARGIN_MS, RESTORE_IDS_GAP, RESTORE_RUNS_MAX
from zsched.model.schedule import next_fire_ms
from zsched.model.types import DemandId, Reason, RunId, RunStatus, Succession
from zsched.store import sql
from zsched.store.access import AccessWriter
from zsched.store.claims import Claims
from zsched.store.contract import NO_LINEAGE, Lineage
from zsched.store.ends import Ends
from zsched.store.engine import Engine, Row
from zsched.store.foreign import ForeignWriter
from zsched.store.idempotency import IdempotencyWriter
from zsched.store.jobs import Jobs
from zsched.store.reader import EngineReader
from zsched.store.workers import Workers

PENDING, FAILED = RunStatus.PENDING, RunStatus.FAILED

_UNKNOWN_END: Final = "the database was restored from a backup, which does not know how the run ended"
_UNKNOWN_START: Final = "the database was restored from a backup, which does not know whether the run has started"

# How far a restored database raises the ids of each table. A run has up to four events.
ID_GAPS: Final = {"jobs": RESTORE_IDS_GAP, "runs": RESTORE_IDS_GAP, "events": 10 * RESTORE_IDS_GAP, "schedulers": 1_000}


class Writer(Jobs, Claims, Ends, Workers):
    """Implements contract.Store; its methods' contracts stand there. Each of the parts has its own module."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.access = AccessWriter(engine, self._ledger)
        self.foreign = ForeignWriter(engine, self._ledger)
        self.idempotency = IdempotencyWriter(engine)
        self.reads = EngineReader(engine)
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
        replaced: Lineage = NO_LINEAGE,
    ) -> int:
        given_ms = max(int(self._execute(sql.LEASE_GIVEN)[0][0]), replaced.lease_ms)
        if lease_ms and given_ms:
            lease_ms = max(lease_ms, given_ms + max(LEASE_MARGIN_MS, given_ms // 30))
        self._execute(sql.ADD_PREDECESSOR, (self._identity, made_ms, now_ms))
        self._execute(sql.REPLACE_IDENTITY, (identity, now_ms))
        for db in replaced.dbs:
            if db not in self.predecessors():
                self._execute(sql.ADD_PREDECESSOR, (db, None, now_ms))
        for table, count in ID_GAPS.items():
            given = replaced.ids.get(table, 0)
            if not self._execute(sql.RAISE_IDS, (given, count, table)):
                self._execute(sql.START_IDS, (table, given + count))
        self._ledger.event(now_ms, actor, None, EventKind.RESTORED, detail=f"{detail}; it was {self._identity}")
        self._identity = identity
        running = self._execute(sql.RUNNING)
        waiting = self._execute(sql.WAITING, (now_ms,))
        for (run_id,) in running:
            self.fail_lost(RunId(run_id), _UNKNOWN_END, crash=False, together=0, due_ms=None, now_ms=now_ms)
        for number, row in enumerate(waiting, 1):
            self._replace_waiting(row, now_ms)
            if number % RESTORE_RUNS_MAX == 0:
                self.flush_counters(now_ms)
        for (demand_id,) in self._execute(sql.PENDING_DEMANDS) if lease_ms else ():
            if self._demand(DemandId(demand_id)).leased:
                self._execute(sql.DELAY, (now_ms + lease_ms, demand_id))
        self._put_off_fires(lease_ms, now_ms)
        return len(running)

    def _put_off_fires(self, lease_ms: int, now_ms: int) -> None:
        """A fire that is due may have been made since the backup. That of a job that may start only once is left out,
        and that of a job with leases waits until they have ended.
        """
        for job_id, expression, once, leased in self._execute(sql.DUE_FIRES, (now_ms,)):
            if once:
                self._execute(sql.SET_NEXT_FIRE, (next_fire_ms(expression, now_ms), job_id))
            elif leased and lease_ms:
                self._execute(sql.SET_NEXT_FIRE, (now_ms + lease_ms, job_id))

    def _replace_waiting(self, row: Row, now_ms: int) -> None:
        """A run that was pending may have started since, so its id is not given out again."""
        run_id, job_id, demand_id, attempt, due_ms, crashes, failures = row
        self._execute(sql.END_WAITING, (_UNKNOWN_START, now_ms, run_id))
        self._record_transition(
            now_ms, "scheduler", job_id, run_id, PENDING, FAILED, reason=Reason.WORKER_LOST, detail=_UNKNOWN_START
        )
        if not self._demand(demand_id).once:
            facts = (attempt, demand_id, due_ms, crashes, failures)
            self._follow(run_id, job_id, facts, Succession.REQUEUED, now_ms)

    def begin_epoch(self, host: str, pid: int, version: str, now_ms: int) -> int:
        return int(self._execute(sql.BEGIN_EPOCH, (host, pid, version, now_ms))[0][0])

    def end_epoch(self, epoch: int, now_ms: int) -> None:
        self._execute(sql.END_EPOCH, (now_ms, epoch))
