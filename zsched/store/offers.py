"""What is ready: the demands with runs that may be claimed, best first. Part of the write side (see core.py).

The demands of paused queues are left out, and those whose limits have no room. Neither costs more for many runs.
"""

from __future__ import annotations

from typing import Final

from zsched.model.lifecycle import Cause
from zsched.model.limits import CLAIM_AHEAD_RUNS_MAX, CLAIM_RUNS_MAX
from zsched.model.types import DemandId, RunId
from zsched.store import sql, transitions
from zsched.store.ahead import Waiting
from zsched.store.contract import Ready
from zsched.store.engine import Row
from zsched.store.lives import PENDING, Change, Lives
from zsched.store.numbers import UNREADABLE

UNREADABLE_ROW: Final = "the job's row can't be read: {}"


class OffersWriter(Lives):
    """The part of the role contract.Runs that is about ready runs."""

    def ready(self, now_ms: int) -> list[Ready]:
        found = self._execute(sql.READY)
        if self._tallies.any_room:
            found += self._execute(sql.READY_LIMITED)
        demands = {demand_id: self._demand(DemandId(demand_id)) for _, demand_id, _ in found}
        paused = self.queues.paused
        offered: list[Row] = []
        # The oldest run of each fair queue, by priority: it is the age of all of the queue's demands.
        heads: dict[tuple[str, int], int] = {}
        for row in found:
            run_id, demand_id, priority = row
            demand = demands[demand_id]
            if demand is UNREADABLE:
                self._quarantine_all(demand_id, now_ms)
            elif demand.queue not in paused and (not demand.limits or self._tallies.room(demand) > 0):
                offered.append(row)
                if demand.owner:
                    place = demand.queue, priority
                    heads[place] = min(run_id, heads.get(place, run_id))
        ready = [
            self._ready(row, heads.get((demands[row[1]].queue, row[2])) if demands[row[1]].owner else None)
            for row in offered
        ]
        ready.sort(key=lambda offer: offer.rank)
        return ready

    def ready_next(self, last: Ready) -> Ready | None:
        waiting = self._ahead.waiting
        if waiting is not None and waiting.demand_id == last.demand_id and waiting.all and not waiting.rows:
            return None
        if last.demand.limits and self._tallies.room(last.demand) <= 0:
            return None
        statement = sql.READY_LIMITED_OF if last.demand.limits else sql.READY_OF
        found = self._execute(statement, (last.demand_id,))
        if not found:
            return None
        run_id, priority = found[0]
        fair = last.demand.owner and priority == last.priority
        return self._ready((run_id, last.demand_id, priority), last.rank[1] if fair else None)

    def _ready(self, row: Row, head: int | None) -> Ready:
        """The offer of a demand. `head`: the oldest run of its fair queue."""
        run_id, demand_id, priority = row
        demand = self._demand(DemandId(demand_id))
        rank = -priority, run_id if head is None else head, self._tallies.share(demand), run_id
        return Ready(DemandId(demand_id), demand, priority, RunId(run_id), rank)

    def _quarantine_all(self, demand_id: DemandId, now_ms: int) -> None:
        """Fail the runs of a damaged demand, as many as one claim may take; the next turn continues."""
        chosen = (demand_id, sql.PRIORITY_MIN, CLAIM_RUNS_MAX)
        change = Change(at_ms=now_ms, detail=UNREADABLE_ROW.format("its demand is damaged"))
        values = (None, change.detail, now_ms, *chosen)
        # It can't be read whether it had limits.
        for statement in (transitions.QUARANTINE_DEMAND, transitions.QUARANTINE_LIMITED):
            self._move((PENDING, Cause.QUARANTINE), statement, values, change)

    def ready_count(self, demand_id: DemandId, most: int) -> int:
        demand = self._demand(demand_id)
        if demand.limits:
            most = min(most, self._tallies.room(demand))
            return int(self._execute(sql.READY_LIMITED_COUNT, (demand_id, most))[0][0]) if most else 0
        if self._engine.distant and most > 0:
            waiting = self._ahead.waiting = self._read_waiting(demand_id, min(most, CLAIM_AHEAD_RUNS_MAX))
            if waiting.all or len(waiting.rows) == most:
                return len(waiting.rows)
        return int(self._execute(sql.READY_COUNT, (demand_id, most))[0][0])

    def _read_waiting(self, demand_id: DemandId, most: int) -> Waiting:
        found = self._execute(sql.CLAIMABLE_AHEAD, (demand_id, sql.PRIORITY_MIN, most))
        return Waiting(demand_id, found, len(found) < most)
