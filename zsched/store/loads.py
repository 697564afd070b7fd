"""Each worker's load, kept until one of its runs changes. The ledger drops it with each transition of such a run."""

from __future__ import annotations

from zsched.model.types import WorkerId
from zsched.store import sql
from zsched.store.contract import Load
from zsched.store.engine import Engine


class Loads:
    """Loads by worker, read from the runs when they are asked for and not known."""

    def __init__(self, engine: Engine) -> None:
        self._execute = engine.execute
        self._known: dict[str, Load] = {}

    def of(self, worker_id: WorkerId) -> Load:
        load = self._known.get(worker_id)
        if load is None:
            load = self._known[worker_id] = Load(*self._execute(sql.LOAD, (worker_id,))[0])
        return load

    def drop(self, worker_id: str) -> None:
        """A worker's runs have changed, or it has gone."""
        self._known.pop(worker_id, None)

    def clear(self) -> None:
        """Changes were undone: any load may differ."""
        self._known.clear()
