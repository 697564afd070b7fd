"""What a turn gathers and writes in its last moments: the events, in order, and the change of each job's counters.

So a job's row is written once a turn, however many of its runs moved, and an event costs one row of one batch.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from zsched.model.events import Became
from zsched.model.types import JobId, RunId, RunStatus
from zsched.store import sql
from zsched.store.contract import Changes
from zsched.store.engine import Engine, Row

_COUNTED: Final = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.CANCELLED)
_PLACE: Final = {status: place for place, status in enumerate(_COUNTED)}


class Ledger:
    """Two lists that only grow until they are written, so undoing a part of the turn is cutting them back to a mark."""

    def __init__(self) -> None:
        self._events: list[Row] = []
        self._moves: list[tuple[JobId, RunStatus | None, RunStatus | None]] = []
        # By how many the pending tasks have grown in all that is not yet written.
        self.pending = 0
        # The events and the jobs that the turn has written so far.
        self._written: list[Row] = []
        self._counted: set[JobId] = set()

    def begin(self) -> None:
        """A turn begins: nothing is written yet."""
        self._written.clear()
        self._counted.clear()

    def changes(self) -> Changes:
        """What the turn has written. An event of several runs stands for runs that were made together."""
        jobs = {JobId(job_id) for _, _, job_id, *_ in self._written if job_id is not None}
        runs = {RunId(first) for _, _, _, first, last, *_ in self._written if first is not None and first == last}
        return Changes(jobs | self._counted, runs, bool(self._written))

    def record_transition(
        self,
        now_ms: int,
        actor: str,
        job_id: JobId,
        run_id: RunId,
        was: RunStatus | None,
        became: RunStatus,
        *,
        worker_id: str | None = None,
        reason: str | None = None,
        detail: str | None = None,
    ) -> None:
        """A run changed its state, or was made (`was` None) as the first or the next of its task."""
        self.count(job_id, was, became)
        self.event(
            now_ms,
            actor,
            was,
            became,
            job_id=job_id,
            runs=(run_id, run_id),
            worker_id=worker_id,
            reason=reason,
            detail=detail,
        )

    def record_created(self, now_ms: int, actor: str, job_ids: list[JobId], first: RunId, last: RunId) -> None:
        """Many runs were made by one statement, one for each job: one event stands for all."""
        for job_id in job_ids:
            self.count(job_id, None, RunStatus.PENDING)
        self.event(now_ms, actor, None, RunStatus.PENDING, runs=(first, last))

    def count(self, job_id: JobId, was: RunStatus | None, became: RunStatus | None) -> None:
        """A task of a job went from one state to another; to None: its last run has a successor, which counts from now
        on.
        """
        self._moves.append((job_id, was, became))
        self.pending += (became is RunStatus.PENDING) - (was is RunStatus.PENDING)

    def event(
        self,
        now_ms: int,
        actor: str,
        was: str | None,
        became: Became,
        *,
        job_id: int | None = None,
        runs: tuple[int, int] | tuple[None, None] = (None, None),
        worker_id: str | None = None,
        reason: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Something happened that no counter follows."""
        self._events.append((now_ms, actor, job_id, *runs, worker_id, was, became, reason, detail or None))

    def mark(self) -> tuple[int, int, int]:
        """Where the lists stand now, for `cut`."""
        return len(self._events), len(self._moves), self.pending

    def cut(self, mark: tuple[int, int, int] = (0, 0, 0)) -> None:
        """Forget what was gathered since the mark."""
        del self._events[mark[0] :]
        del self._moves[mark[1] :]
        self.pending = mark[2]

    def write(self, engine: Engine, now_ms: int) -> None:
        """Write all and start anew."""
        changed: dict[JobId, list[int]] = defaultdict(lambda: [0] * len(_COUNTED))
        for job_id, was, became in self._moves:
            counts = changed[job_id]
            if became is not None:
                counts[_PLACE[became]] += 1
            if was is not None:
                counts[_PLACE[was]] -= 1
        grown = [sum(column) for column in zip(*changed.values(), strict=True)]
        engine.executemany(
            sql.ADD_TO_TOTALS, [(more, status) for status, more in zip(_COUNTED, grown, strict=False) if more]
        )
        engine.executemany(sql.COUNT_TASKS, ((*counts, now_ms, job_id) for job_id, counts in changed.items()))
        engine.executemany(sql.ADD_EVENT, self._events)
        self._written += self._events
        self._counted.update(changed)
        self.cut()
