"""The numbers of demands and owners in a database. Each is stored once; jobs and runs hold the number."""

from __future__ import annotations

from typing import Final

from zsched.model.demand import Demand
from zsched.model.types import DemandId
from zsched.store import rows, sql
from zsched.store.engine import Engine

# Stands for a demand whose row is damaged. No worker fits it, and it is offered to none.
UNREADABLE: Final = Demand(needs=("?",))


class Numbers:
    """What was read or stored is remembered: it never changes. But after an undo a number may be given to another
    demand or owner, so then all are forgotten.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._demands: dict[DemandId, Demand] = {}
        self._demand_ids: dict[Demand, DemandId] = {}
        self._owner_ids: dict[str, int] = {}

    def clear(self) -> None:
        """Changes were undone."""
        self._demands.clear()
        self._demand_ids.clear()
        self._owner_ids.clear()

    def demand_id(self, demand: Demand) -> DemandId:
        """The number of a demand; a new one gets the next number."""
        demand_id = self._demand_ids.get(demand)
        if demand_id is None:
            key = rows.demand_key(demand)
            stored = self._engine.execute(sql.FIND_DEMAND, (key,))
            demand_id = self._demand_ids[demand] = DemandId(stored[0][0] if stored else self._add_demand(key))
            self._demands.setdefault(demand_id, demand)
        return demand_id

    def _add_demand(self, key: str) -> int:
        demand_id = self._engine.take_ids("demands", 1)
        self._engine.send(sql.ADD_DEMAND, (demand_id, key), rows=1)
        return demand_id

    def demand(self, demand_id: DemandId) -> Demand:
        """A demand by its number; UNREADABLE if it is damaged, or does not exist."""
        demand = self._demands.get(demand_id)
        if demand is None:
            stored = self._engine.execute(sql.DEMAND, (demand_id,))
            if not stored:
                return UNREADABLE
            demand = self._demands[demand_id] = rows.readable_demand(stored[0][0]) or UNREADABLE
        return demand

    def owner_id(self, owner: str) -> int:
        """The number of an owner; a new one gets the next number."""
        owner_id = self._owner_ids.get(owner)
        if owner_id is None:
            stored = self._engine.execute(sql.FIND_OWNER, (owner,))
            owner_id = self._owner_ids[owner] = int(stored[0][0]) if stored else self._add_owner(owner)
        return owner_id

    def _add_owner(self, owner: str) -> int:
        owner_id = self._engine.take_ids("owners", 1)
        self._engine.send(sql.ADD_OWNER, (owner_id, owner), rows=1)
        return owner_id
