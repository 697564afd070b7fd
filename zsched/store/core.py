"""What the parts of the store's write side share: the connection, the turn's transaction and ledger, and demands.

The parts are jobs.py, claims.py, ends.py and workers.py. Each uses this core, and none the others. writer.py puts
them together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from zsched.model.demand import Demand
from zsched.model.types import DemandId, JobId, Reason, Run, RunId, RunStatus, WorkerId
from zsched.store import rows, sql
from zsched.store.contract import Changes, StoreError
from zsched.store.engine import Engine
from zsched.store.ledger import Ledger

# Stands for a demand with a damaged row. No worker meets it.
UNREADABLE: Final = Demand(needs=("?",))


class Core:
    """One connection, and what its turn has gathered. The methods of contract.Store have their contracts there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._execute = engine.execute
        self._ledger = Ledger()
        self._record_transition = self._ledger.record_transition
        self._rows_before = 0
        self._held_read = 0
        # Demands never change once they are stored. But the id of one that is undone may come again for another, so
        # then all are forgotten.
        self._demands: dict[DemandId, Demand] = {}
        self._demand_ids: dict[Demand, DemandId] = {}
        # The same holds for owners.
        self._owner_ids: dict[str, int] = {}

    # --- transactions ---

    def begin(self) -> None:
        self._engine.begin()
        self._rows_before = self._engine.changes()
        self._held_read = 0
        self._ledger.begin()

    def commit(self) -> None:
        self._engine.commit()

    def rollback(self) -> None:
        self._ledger.cut()
        self._forget_ids()
        self._engine.rollback()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        mark = self._ledger.mark()
        self._execute("SAVEPOINT attempt")
        try:
            yield
        except StoreError:
            # The engine may have given up the whole turn already, and the savepoint with it; its caller will.
            with suppress(StoreError):
                self._undo(mark)
            raise
        except BaseException:
            self._undo(mark)
            raise
        self._execute("RELEASE attempt")

    def _undo(self, mark: tuple[int, int, int]) -> None:
        self._ledger.cut(mark)
        self._forget_ids()
        self._execute("ROLLBACK TO attempt")
        self._execute("RELEASE attempt")

    @property
    def rows_changed(self) -> int:
        return self._engine.changes() - self._rows_before

    @property
    def held_read(self) -> int:
        return self._held_read

    @property
    def changes(self) -> Changes:
        return self._ledger.changes()

    def flush_counters(self, now_ms: int) -> None:
        self._ledger.write(self._engine, now_ms)

    def verify(self) -> None:
        self._engine.verify()

    def close(self) -> None:
        """Close the connection; what was not committed is gone."""
        self._engine.close()

    # --- demands ---

    def _demand_id(self, demand: Demand) -> DemandId:
        known = self._demand_ids.get(demand)
        if known is None:
            wish = rows.demand_key(demand)
            found = self._execute(sql.FIND_DEMAND, (wish,)) or self._execute(sql.ADD_DEMAND, (wish,))
            known = self._demand_ids[demand] = DemandId(found[0][0])
        return known

    def _demand(self, demand_id: DemandId) -> Demand:
        known = self._demands.get(demand_id)
        if known is None:
            known = rows.readable_demand(self._execute(sql.DEMAND, (demand_id,))[0][0]) or UNREADABLE
            self._demands[demand_id] = known
        return known

    def _forget_ids(self) -> None:
        self._demands.clear()
        self._demand_ids.clear()
        self._owner_ids.clear()

    # --- owners ---

    def _owner_id(self, owner: str) -> int:
        """The number that an owner has in this database; a new owner gets the next one."""
        known = self._owner_ids.get(owner)
        if known is None:
            found = self._execute(sql.FIND_OWNER, (owner,)) or self._execute(sql.ADD_OWNER, (owner,))
            known = self._owner_ids[owner] = int(found[0][0])
        return known

    # --- runs ---

    def run(self, run_id: RunId) -> Run | None:
        found = self._execute(sql.RUN, (run_id,))
        return rows.run(found[0]) if found else None

    def _end(
        self,
        run_id: RunId,
        job_id: JobId,
        worker_id: WorkerId | None,
        status: RunStatus,
        reason: Reason,
        detail: str,
        now_ms: int,
        *,
        was: RunStatus = RunStatus.RUNNING,
        crash: bool = False,
    ) -> None:
        """End a run by the scheduler's own decision."""
        self._execute(sql.END, (status, reason, detail or None, crash, now_ms, run_id))
        self._record_transition(
            now_ms, "scheduler", job_id, run_id, was, status, worker_id=worker_id, reason=reason, detail=detail
        )
