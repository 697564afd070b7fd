"""Removal of old jobs and events. Part of the write side, within its transactions."""

from __future__ import annotations

from zsched.model import spans
from zsched.model.events import EventKind
from zsched.model.limits import SPANS_SHOWN_MAX, USAGE_DAYS_MAX
from zsched.model.types import JobId, RunStatus
from zsched.store import acts, sql, usage
from zsched.store.contract.retention import Old, Step
from zsched.store.engine import Engine, Row
from zsched.store.ledger import Ledger, Note


class RetentionWriter:
    """Implements contract.Retention."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self._engine = engine
        self._ledger = ledger
        self.shrink = engine.shrink

    @property
    def default(self) -> bool:
        return bool(self._engine.execute(sql.RETAINS)[0][0])

    def purge_jobs(self, old: Old, after: JobId, count: int, actor: str, now_ms: int) -> Step:
        found = self._engine.execute(sql.ENDED_JOBS, (old.status, after, count))
        # A job changes last after it was submitted, and ids grow with the time.
        looked = [row for row in found if row[1] < old.ended_ms]
        # A job that this turn has changed may be live again, which its row does not show yet.
        changing = self._ledger.counting
        jobs = [row for row in looked if row[2] < old.ended_ms and not row[7] and row[0] not in changing]
        if jobs:
            self._remove(jobs, actor, now_ms)
        return Step(len(jobs), looked[-1][0] if len(looked) == count else None)

    def remove(self, job_id: JobId, actor: str, reason: str, now_ms: int) -> bool:
        jobs = self._engine.execute(acts.REMOVABLE, (job_id,))
        if not jobs or job_id in self._ledger.counting:
            return False
        self._remove(jobs, actor, now_ms, reason)
        return True

    def _remove(self, jobs: list[Row], actor: str, now_ms: int, reason: str = "") -> None:
        """Remove jobs, given as rows of sql.ENDED_JOBS."""
        engine = self._engine
        ids: list[Row] = [(row[0],) for row in jobs]
        for row in jobs:
            for tag in (row[6] or "").split():
                engine.send(sql.DELETE_TAG, (tag, row[0]), rows=1)
            if row[8] is not None:
                engine.execute(sql.FREE_UNIQUE, (row[8], row[0]))
        engine.execute_list(sql.DELETE_RUNS, ids)
        engine.execute_list(sql.DELETE_JOBS, ids)
        for place, status in ((3, RunStatus.SUCCESS), (4, RunStatus.FAILED), (5, RunStatus.CANCELLED)):
            if tasks := sum(row[place] for row in jobs):
                engine.send(sql.ADD_TO_TOTALS, (-tasks, status), rows=1)
        removed = spans.of_numbers(row[0] for row in jobs).head(SPANS_SHOWN_MAX)
        detail = f"{len(jobs)} jobs: {removed}" + (f"; {reason}" if reason else "")
        note = Note(at_ms=now_ms, actor=actor, became=EventKind.PURGED, detail=detail)
        self._ledger.note(note)

    def purge_usage(self, now_ms: int) -> None:
        self._engine.execute(usage.DELETE_USAGE, (now_ms // usage.DAY_MS - USAGE_DAYS_MAX,))

    def purge_events(self, before_ms: int, after: int, count: int) -> Step:
        found = self._engine.execute(sql.OLD_EVENTS, (after, count))
        looked = [row for row in found if row[1] < before_ms]
        of_jobs = {row[2] for row in looked if row[2] is not None}
        there = {job for (job,) in self._engine.execute_list(sql.JOBS_THERE, [(job,) for job in of_jobs])}
        gone: list[Row] = []
        for event_id, _, job_id, first, last in looked:
            if job_id is not None and job_id not in there:
                gone.append((event_id,))
            elif job_id is None and first is not None and not self._engine.execute(sql.RUN_BETWEEN, (first, last)):
                # Runs that were made together.
                gone.append((event_id,))
        if gone:
            self._engine.execute_list(sql.DELETE_EVENTS, gone)
        return Step(len(gone), looked[-1][0] if len(looked) == count else None)
