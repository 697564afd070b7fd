"""The numbers of demands and owners in a database. Each is stored once; jobs and runs hold the number."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from zsched.model.demand import Demand
from zsched.model.limits import DEMANDS_REMEMBERED_MAX
from zsched.model.types import DemandId
from zsched.store import rows, sql
from zsched.store.engine import Engine

# Stands for a demand whose row is damaged. No worker fits it, and it is offered to none.
UNREADABLE: Final = Demand(needs=("?",))


class Numbers:
    """Remembers what was read or stored, which never changes: DEMANDS_REMEMBERED_MAX demands, and all owners. But after
    an undo a number may be given to another demand or owner, so then all are forgotten.
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

    def find_demands(self, demands: Collection[Demand]) -> dict[Demand, DemandId]:
        """The numbers of those of the demands, which differ, that are stored."""
        found = {demand: known for demand in demands if (known := self._demand_ids.get(demand)) is not None}
        if len(found) < len(demands):
            self._make_room()
            missing = {rows.demand_key(demand): demand for demand in demands if demand not in found}
            for demand_id, wish in self._engine.execute_list(sql.FIND_DEMANDS, [(key,) for key in missing]):
                found[missing[wish]] = DemandId(demand_id)
                self._know(DemandId(demand_id), missing[wish])
        return found

    def demand_ids(self, demands: Collection[Demand]) -> dict[Demand, DemandId]:
        """The numbers of the demands, which differ; new ones get the next numbers."""
        found = self.find_demands(demands)
        if len(found) < len(demands):
            new = [demand for demand in demands if demand not in found]
            first = self._engine.take_ids("demands", len(new))
            for demand_id, demand in enumerate(new, first):
                found[demand] = DemandId(demand_id)
                self._know(DemandId(demand_id), demand)
            keys = [(found[demand], rows.demand_key(demand)) for demand in new]
            self._engine.sendmany(sql.ADD_DEMAND, keys)
        return found

    def demand_id(self, demand: Demand) -> DemandId:
        """The number of one demand."""
        known = self._demand_ids.get(demand)
        return self.demand_ids((demand,))[demand] if known is None else known

    def _know(self, demand_id: DemandId, demand: Demand) -> None:
        self._demand_ids[demand] = demand_id
        self._demands.setdefault(demand_id, demand)

    def demand(self, demand_id: DemandId) -> Demand:
        """A demand by its number; UNREADABLE if it is damaged, or does not exist."""
        demand = self._demands.get(demand_id)
        if demand is None:
            self._make_room()
            stored = self._engine.execute(sql.DEMAND, (demand_id,))
            if not stored:
                return UNREADABLE
            demand = self._demands[demand_id] = rows.readable_demand(stored[0][0]) or UNREADABLE
        return demand

    def _make_room(self) -> None:
        if max(len(self._demands), len(self._demand_ids)) >= DEMANDS_REMEMBERED_MAX:
            self._demands.clear()
            self._demand_ids.clear()

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
