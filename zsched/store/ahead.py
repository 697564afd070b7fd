"""Runs that a turn has read before it handles what is reported of them, or before it claims them.

On a distant engine each read is a round trip. So the turn reads once what many frames will ask for. What it has read
holds as long as the turn changes it only by `moved` and `forget`: there is no other writer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from zsched.model.lifecycle import MOVES, Cause, state_of
from zsched.model.types import DemandId, RunStatus
from zsched.store.engine import Row


class Reported:
    """Runs of which the turn's frames report something, as rows of sql.REPORTED."""

    def __init__(self) -> None:
        self._runs: dict[int, Row] = {}

    def fill(self, rows: Iterable[Row]) -> None:
        self._runs = {row[0]: row for row in rows}

    def clear(self) -> None:
        self._runs.clear()

    def find(self, status: RunStatus, cause: Cause, runs: Sequence[int], worker_id: str) -> list[Row] | None:
        """Those of the runs that a report of a worker moves, as moves.MOVED. None: some of the runs were not read."""
        if not self._runs:
            return None
        found: list[Row] = []
        for run_id in runs:
            row = self._runs.get(run_id)
            if row is None:
                return None
            _, _, holder, cancelled, stuck, _, stored, started_ms = row
            move = MOVES[state_of(RunStatus(stored), cancelled, stuck)].get(cause)
            if stored != status or move is None or (move.fenced and holder != worker_id):
                continue
            if (move.unstarted and started_ms is not None) or (move.started and started_ms is None):
                continue
            found.append(row[:6])
        return found

    def note(self, cause: Cause, moved: Sequence[Row], at_ms: int) -> None:
        """Runs were moved, given as moves.MOVED."""
        if not self._runs:
            return
        for run_id, *_ in moved:
            row = self._runs.pop(run_id, None)
            if row is not None and cause is Cause.START:
                self._runs[run_id] = (*row[:7], at_ms if row[7] is None else row[7])


class Waiting(NamedTuple):
    """Ready runs of a demand, best first, as rows of sql.CLAIMABLE_AHEAD. `all`: the demand has no more."""

    demand_id: DemandId
    rows: Sequence[Row]
    all: bool


class Ahead:
    """What a turn has read ahead. `pending`: the stored number of pending tasks, None when it is to be read."""

    __slots__ = ("pending", "reported", "waiting")

    def __init__(self) -> None:
        self.reported = Reported()
        self.waiting: Waiting | None = None
        self.pending: int | None = None

    def clear(self) -> None:
        self.reported.clear()
        self.waiting = None
        self.pending = None
