"""Each worker's load. lives.py changes it with each move of a run from or to running, so no caller has to."""

from __future__ import annotations

from zsched.model.types import WorkerId
from zsched.store import sql
from zsched.store.contract import Load
from zsched.store.engine import Engine


class Loads:
    """Loads by worker: read from the runs once, then kept up to date."""

    def __init__(self, engine: Engine) -> None:
        self._execute = engine.execute
        self._known: dict[str, Load] = {}

    def of(self, worker_id: WorkerId) -> Load:
        load = self._known.get(worker_id)
        if load is None:
            load = self._known[worker_id] = Load(*self._execute(sql.LOAD, (worker_id,))[0])
        return load

    def enter(self, worker_id: str, runs: int, probation: int, lease_ms: int) -> None:
        """A worker got runs. `probation`: as in Demand. `lease_ms`: 0 without a lease."""
        load = self._known.get(worker_id)
        if load is not None:
            together = min(load.together, probation) if load.together and probation else load.together or probation
            suspects = load.probation + (runs if probation else 0)
            self._known[worker_id] = Load(load.running + runs, suspects, together, max(load.lease_ms, lease_ms))

    def leave(self, worker_id: str, runs: int) -> None:
        """Runs of a worker ended or were given back."""
        load = self._known.get(worker_id)
        if load is None:
            return
        if load.probation or load.lease_ms:
            # The bounds of the other runs are unknown: read them when they are needed.
            self.drop(worker_id)
        else:
            self._known[worker_id] = Load(load.running - runs, 0)

    def drop(self, worker_id: str) -> None:
        """A worker's load is unknown, or no longer needed."""
        self._known.pop(worker_id, None)

    def clear(self) -> None:
        """Changes were undone: any load may differ."""
        self._known.clear()
