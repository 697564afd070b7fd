"""Counters of ended runs and their time, by day (UTC) and owner. A turn gathers them, and writes a row for each owner.

Kept in the same transaction as the ends that they count. Nothing reads runs for them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from zsched.model.types import JobId, RunStatus
from zsched.store.engine import Engine

DAY_MS: Final = 86_400_000
_RESULTS: Final = {RunStatus.SUCCESS: 0, RunStatus.FAILED: 1, RunStatus.CANCELLED: 2}
_RUN_MS: Final = 3

# A job without an owner counts for the empty name.
ADD_OWNER_USAGE: Final = """
    INSERT INTO usage (kind, name, day, success, failed, cancelled, run_ms)
    VALUES ('owner', coalesce((SELECT owner FROM owners WHERE owner_id = ?), ''), ?, ?, ?, ?, ?)
    ON CONFLICT (kind, name, day) DO UPDATE SET success = usage.success + excluded.success,
        failed = usage.failed + excluded.failed, cancelled = usage.cancelled + excluded.cancelled,
        run_ms = usage.run_ms + excluded.run_ms"""
# Times of runs that the scheduler has ended.
TIMES: Final = "SELECT run_id, started_ms FROM runs WHERE run_id IN (VALUES (?)) AND started_ms IS NOT NULL"
USAGE: Final = """
    SELECT name, sum(success), sum(failed), sum(cancelled), sum(run_ms) FROM usage
    WHERE kind = ? AND day >= ? GROUP BY name ORDER BY sum(run_ms) DESC, name LIMIT ?"""
DELETE_USAGE: Final = "DELETE FROM usage WHERE day < ?"

# A run that has ended: its job, how, and how many ms it ran.
Ended = tuple[JobId, RunStatus, int]


class Usage:
    """What the turn has counted and not written yet."""

    def __init__(self) -> None:
        self._ended: list[Ended] = []
        # The owners of their jobs, by number; None: no owner.
        self._owners: dict[JobId, int | None] = {}

    def __len__(self) -> int:
        return len(self._ended)

    def begin(self) -> None:
        """A turn begins."""
        self._owners.clear()

    def add(self, ended: Iterable[Ended]) -> None:
        self._ended += ended

    def know(self, job_id: JobId, owner_id: int | None) -> None:
        """The owner of a job with a run that has ended."""
        self._owners[job_id] = owner_id

    def cut(self, count: int) -> None:
        """Forget all but the first `count` runs."""
        del self._ended[count:]

    def write(self, engine: Engine, now_ms: int) -> None:
        """Write what was counted; `cut` forgets it. A job whose owner is not known counts as one without."""
        if not self._ended:
            return
        used: defaultdict[int | None, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        owners = self._owners
        for job_id, status, run_ms in self._ended:
            counts = used[owners.get(job_id)]
            counts[_RESULTS[status]] += 1
            counts[_RUN_MS] += run_ms
        for owner_id, counts in used.items():
            engine.send(ADD_OWNER_USAGE, (owner_id, now_ms // DAY_MS, *counts), rows=1)
