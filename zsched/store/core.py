"""What the parts of the write side share: the connection, the turn's transaction and ledger, and demands.

The parts are lives.py, jobs.py, schedules.py, claims.py, ends.py, workers.py and identity.py. Each uses this core;
writer.py combines them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from zsched.model.demand import Demand
from zsched.model.types import DemandId, RunId, Worker, WorkerId
from zsched.store import sql
from zsched.store.ahead import Ahead
from zsched.store.arrays import Arrays
from zsched.store.contract import Changes, StoreConstraint, StoreError
from zsched.store.engine import Engine
from zsched.store.ledger import Ledger, Mark
from zsched.store.loads import Loads
from zsched.store.numbers import Numbers
from zsched.store.queues import QueuesWriter
from zsched.store.reader import EngineReader
from zsched.store.tallies import Tallies


class Core:
    """One connection, and what its turn has gathered. zsched/store/contract/ documents the public methods."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._execute = engine.execute
        self._loads = Loads(engine)
        self._ledger = Ledger()
        self._numbers = Numbers(engine)
        self._arrays = Arrays(engine, self._ledger)
        self._tallies = Tallies(engine, self._ledger, self._numbers.demand)
        self.queues = QueuesWriter(engine, self._ledger)
        self.reads = EngineReader(engine)
        self.job, self.run = self.reads.job, self.reads.run
        self._ahead = Ahead()
        self._rows_before = 0
        self._held_read = 0
        # Whether some run avoids a worker, as of the last `next_due_ms`.
        self._avoiding = False

    # --- transactions ---

    def confirm_epoch(self) -> None:
        self._engine.confirm_epoch()

    def begin(self) -> None:
        self._engine.begin()
        self._rows_before = self._engine.changes()
        self._held_read = 0
        self._ahead.clear()
        self._ledger.begin()

    def commit(self) -> None:
        self._engine.commit()

    def rollback(self) -> None:
        self._ledger.cut()
        self._forget()
        self._arrays.clear()
        self._engine.rollback()

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        mark = self._ledger.mark()
        self._engine.savepoint()
        try:
            yield
            self._engine.release()
        except StoreConstraint:
            self._undo(mark)
            raise
        except StoreError:
            # The engine may have rolled back the whole turn already, and the savepoint with it. The caller rolls back.
            with suppress(StoreError):
                self._undo(mark)
            raise
        except BaseException:
            self._undo(mark)
            raise

    def _undo(self, mark: Mark) -> None:
        self._ledger.cut(mark)
        self._forget()
        self._arrays.undo()
        self._engine.undo()

    def _forget(self) -> None:
        """Forget what was read since it may have been undone."""
        self._ahead.clear()
        self._loads.clear()
        self._tallies.clear()
        self.queues.clear()
        self._numbers.clear()
        self._arrays.blocks.clear()

    def look_ahead(self, runs: Iterable[RunId]) -> None:
        if self._engine.distant:
            chosen = [(run_id,) for run_id in dict.fromkeys(runs)]
            if chosen:
                self._ahead.reported.fill(self._engine.execute_list(sql.REPORTED, chosen))

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
        self._ahead.pending = None

    def end_jobs(self, now_ms: int) -> None:
        self._ledger.end_jobs(self._engine, now_ms)

    def verify(self) -> None:
        self._engine.verify()

    def close(self) -> None:
        """Close the connection; uncommitted changes are lost."""
        self._engine.close()

    def worker(self, worker_id: WorkerId) -> Worker | None:
        return self.reads.worker(worker_id)

    # --- demands ---

    def _demand_id(self, demand: Demand) -> DemandId:
        return self._numbers.demand_id(demand)

    def _demand(self, demand_id: DemandId) -> Demand:
        return self._numbers.demand(demand_id)
