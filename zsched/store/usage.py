"""Counters of ended runs and their time, by day (UTC), owner and queue. A turn gathers them, and writes a row for each
owner, and for each queue but `default`, whose runs are those of all owners that are in no other queue.

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
_MORE: Final = """
    ON CONFLICT (kind, day, name) DO UPDATE SET success = usage.success + excluded.success,
        failed = usage.failed + excluded.failed, cancelled = usage.cancelled + excluded.cancelled,
        run_ms = usage.run_ms + excluded.run_ms"""
ADD_OWNER_USAGE: Final = f"""
    INSERT INTO usage (kind, name, day, success, failed, cancelled, run_ms)
    VALUES ('owner', coalesce((SELECT owner FROM owners WHERE owner_id = ?), ''), ?, ?, ?, ?, ?){_MORE}"""  # noqa: S608
ADD_QUEUE_USAGE: Final = f"""
    INSERT INTO usage (kind, name, day, success, failed, cancelled, run_ms)
    VALUES ('queue', ?, ?, ?, ?, ?, ?){_MORE}"""  # noqa: S608  (of constants)
# Times of runs that the scheduler has ended.
TIMES: Final = "SELECT run_id, started_ms FROM runs WHERE run_id IN (VALUES (?)) AND started_ms IS NOT NULL"
USAGE: Final = """
    SELECT name, sum(success), sum(failed), sum(cancelled), sum(run_ms) FROM usage
    WHERE kind = ? AND day >= ? GROUP BY name ORDER BY sum(run_ms) DESC, name LIMIT ?"""
TOTAL_USAGE: Final = """
    SELECT coalesce(sum(success), 0), coalesce(sum(failed), 0), coalesce(sum(cancelled), 0), coalesce(sum(run_ms), 0)
    FROM usage WHERE kind = ? AND day >= ?"""
DELETE_USAGE: Final = "DELETE FROM usage WHERE kind = ? AND day < ?"

# A run that has ended: its job, how, and how many ms it ran.
Ended = tuple[JobId, RunStatus, int]


class Usage:
    """What the turn has counted and not written yet."""

    def __init__(self) -> None:
        self._ended: list[Ended] = []
        # The owners, by number, and the queues of their jobs; None: no owner, the queue `default`.
        self._jobs: dict[JobId, tuple[int | None, str | None]] = {}

    def __len__(self) -> int:
        return len(self._ended)

    def begin(self) -> None:
        """A turn begins."""
        self._jobs.clear()

    def add(self, ended: Iterable[Ended]) -> None:
        self._ended += ended

    def know(self, job_id: JobId, owner_id: int | None, queue: str | None) -> None:
        """The owner and the queue of a job with a run that has ended."""
        self._jobs[job_id] = owner_id, queue

    def cut(self, count: int) -> None:
        """Forget all but the first `count` runs."""
        del self._ended[count:]

    def write(self, engine: Engine, now_ms: int) -> None:
        """Write what was counted; `cut` forgets it. A job whose owner is not known counts as one without."""
        if not self._ended:
            return
        of_owners: defaultdict[int | None, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        of_queues: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
        jobs = self._jobs
        for job_id, status, run_ms in self._ended:
            owner_id, queue = jobs.get(job_id, (None, None))
            counted = [of_owners[owner_id]] if queue is None else [of_owners[owner_id], of_queues[queue]]
            for counts in counted:
                counts[_RESULTS[status]] += 1
                counts[_RUN_MS] += run_ms
        for owner_id, counts in of_owners.items():
            engine.send(ADD_OWNER_USAGE, (owner_id, now_ms // DAY_MS, *counts), rows=1)
        for queue, counts in of_queues.items():
            engine.send(ADD_QUEUE_USAGE, (queue, now_ms // DAY_MS, *counts), rows=1)
