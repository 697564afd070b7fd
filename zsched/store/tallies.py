"""The pending and running runs of demands that name a queue, an owner or limits.

lives.py changes them with each move of a run, and the ledger writes the sums at the end of the turn. So what is running
under a limit, or for an owner, is known without reading runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import TypeVar

from zsched.model.demand import Demand
from zsched.model.types import DemandId, RunStatus
from zsched.store import rows, sql
from zsched.store.engine import Engine
from zsched.store.ledger import Ledger

K = TypeVar("K", bound=Hashable)


class Tallies:
    """Read once, then kept up to date until changes are undone."""

    def __init__(self, engine: Engine, ledger: Ledger, demand: Callable[[DemandId], Demand]) -> None:
        self._execute = engine.execute
        self._ledger = ledger
        self._demand = demand
        self._loaded = False
        # Pending and running runs of each demand that has some.
        self._live: dict[DemandId, tuple[int, int]] = {}
        # Running runs by key of limits, and by queue and owner. Demands with limits that have pending runs.
        self._taken: Counter[str] = Counter()
        self._shares: Counter[tuple[str, str]] = Counter()
        self._limited: dict[DemandId, Demand] = {}
        # Live demands of each owner.
        self._kinds: Counter[str] = Counter()
        # Whether a demand with pending runs can't be read. It may have had limits.
        self._damaged = False

    def clear(self) -> None:
        """Changes were undone: any number may differ."""
        self._loaded = False

    def change(self, demand_id: DemandId, demand: Demand, was: RunStatus | None, became: RunStatus, runs: int) -> None:
        """Runs of a demand that is counted moved so. `was` None: they are new."""
        pending = runs * ((became is RunStatus.PENDING) - (was is RunStatus.PENDING))
        running = runs * ((became is RunStatus.RUNNING) - (was is RunStatus.RUNNING))
        self._ledger.tallied.append((demand_id, pending, running))
        if self._loaded:
            self._add(demand_id, demand, pending, running)

    @property
    def live(self) -> int:
        """Number of demands that are counted and have pending or running runs."""
        self._load()
        return len(self._live)

    def live_of(self, owner: str) -> int:
        """Number of those that belong to an owner alone."""
        self._load()
        return self._kinds[owner]

    def is_live(self, demand_id: DemandId) -> bool:
        self._load()
        return demand_id in self._live

    def room(self, demand: Demand) -> int:
        """How many more runs of a demand with limits may be running."""
        self._load()
        return max(0, min(most - self._taken[key] for key, most in demand.limits))

    def share(self, demand: Demand) -> int:
        """Running runs of the demand's owner in its queue; 0 without an owner."""
        if not demand.owner:
            return 0
        self._load()
        return self._shares[demand.queue, demand.owner]

    @property
    def any_room(self) -> bool:
        """Whether a demand with limits has pending runs, and room under all of its limits, or may be damaged."""
        self._load()
        return self._damaged or any(self.room(demand) > 0 for demand in self._limited.values())

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        self._live.clear()
        self._taken.clear()
        self._shares.clear()
        self._limited.clear()
        self._kinds.clear()
        self._damaged = False
        for demand_id, wish, pending, running in self._execute(sql.LIVE_DEMANDS):
            if (demand := rows.readable_demand(wish)) is not None:
                self._add(demand_id, demand, pending, running)
            else:
                self._damaged |= pending > 0
        # What this turn has not written yet.
        for demand_id, pending, running in self._ledger.tallied:
            self._add(demand_id, self._demand(demand_id), pending, running)

    def _add(self, demand_id: DemandId, demand: Demand, pending: int, running: int) -> None:
        before = self._live.get(demand_id, (0, 0))
        pending, total = before[0] + pending, before[1] + running
        if pending or total:
            if demand_id not in self._live:
                self._kinds[demand.whose] += 1
            self._live[demand_id] = pending, total
        elif self._live.pop(demand_id, None) is not None:
            _add_to(self._kinds, demand.whose, -1)
        if demand.owner:
            _add_to(self._shares, (demand.queue, demand.owner), running)
        if demand.limits:
            for key, _ in demand.limits:
                _add_to(self._taken, key, running)
            if pending:
                self._limited[demand_id] = demand
            else:
                self._limited.pop(demand_id, None)


def _add_to(counts: Counter[K], key: K, more: int) -> None:
    """Change a number. Those that are 0 have no key: callers may name any number of keys over time."""
    counts[key] += more
    if not counts[key]:
        del counts[key]
