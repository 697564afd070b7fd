"""Removal of old jobs, fires and events. Part of the write side, within its transactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zsched.model import spans
from zsched.model.events import EventKind
from zsched.model.limits import (
    FIRES_KEPT,
    PURGE_ENTRIES_MAX,
    PURGE_RUN_BYTES,
    PURGE_RUNS_MAX,
    PURGE_SCHEDULES_MAX,
    SPANS_SHOWN_MAX,
    USAGE_DAYS_MAX,
)
from zsched.model.records import UsageBy
from zsched.model.types import JobId, RunId, RunStatus
from zsched.model.units import counted
from zsched.store import acts, after, removal, sql, usage
from zsched.store.contract.retention import FireStep, Old, Step
from zsched.store.engine import Engine, Row
from zsched.store.ledger import Ledger, Note

# Events that age removes, although their job may stay: a recurring job may skip a fire every minute.
_PASSING: Final = (EventKind.PURGED, EventKind.FIRE_SKIPPED)


class RetentionWriter:
    """Implements contract.Retention."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self._engine = engine
        self._ledger = ledger
        self.shrink = engine.shrink

    @property
    def default(self) -> bool:
        return bool(self._engine.execute(sql.RETAINS)[0][0])

    # --- jobs ---

    def purge_jobs(self, old: Old, after: JobId, count: int, actor: str, now_ms: int) -> Step:
        found = self._engine.execute(removal.ENDED_JOBS, (old.status, after, count))
        # A job changes last after it was submitted, and ids grow with the time.
        looked = [row for row in found if not old.ended_ms <= row[1] <= now_ms]
        # A job that this turn has changed may be live again, which its row does not show yet.
        changing = self._ledger.counting
        jobs = [row for row in looked if row[2] < old.ended_ms and not row[7] and row[0] not in changing]
        needed = self._needed(jobs)
        jobs = [row for row in jobs if row[0] not in needed]
        few = self._within(jobs)
        if few:
            self._remove(few, actor, now_ms)
        elif jobs:
            # The first one is too large for one step: it comes again in the next, unless it is gone then.
            return Step(int(self._remove_some(jobs[0], actor, now_ms)), JobId(jobs[0][0] - 1))
        if len(few) < len(jobs):
            return Step(len(few), JobId(few[-1][0]))
        return Step(len(few), looked[-1][0] if len(looked) == count else None)

    def remove(self, job_id: JobId, actor: str, reason: str, now_ms: int) -> bool:
        jobs = self._engine.execute(acts.REMOVABLE, (job_id,))
        if not jobs or job_id in self._ledger.counting:
            return False
        if self._weight(jobs[0]) > PURGE_RUNS_MAX:
            self._remove_some(jobs[0], actor, now_ms, reason)
        else:
            self._remove(jobs, actor, now_ms, reason)
        return True

    def is_needed(self, job_id: JobId) -> bool:
        return bool(self._needed(self._engine.execute(acts.REMOVABLE, (job_id,))))

    def _needed(self, jobs: Sequence[Row]) -> set[int]:
        """Those of some ended jobs, given as rows of removal.ENDED_JOBS, that others wait for or have waited for, and
        those others have not ended; or whose end is not handled yet.
        """
        linked: list[Row] = [(row[0],) for row in jobs if row[10]]
        return {job_id for (job_id,) in self._engine.execute_list(after.NEEDED, linked)} if linked else set()

    def remove_more(self, actor: str, now_ms: int) -> bool:
        removing = self._engine.execute(removal.REMOVING)
        if not removing:
            return False
        self._remove_some(removing[0], actor, now_ms)
        return True

    @property
    def removing(self) -> bool:
        return bool(self._engine.execute(removal.REMOVING))

    def _remove_some(self, row: Row, actor: str, now_ms: int, reason: str = "") -> bool:
        """Remove some runs of a large array; when there are no more, itself. Returns whether that is done."""
        job_id, engine = row[0], self._engine
        if engine.execute(removal.NOTE_REMOVING, (now_ms, job_id)):
            self._note(f"job {job_id} is being removed" + (f"; {reason}" if reason else ""), actor, now_ms)
        sizes = engine.execute(removal.SIZES, (job_id, PURGE_RUNS_MAX))
        weights = [(run_id, _run_weight(size)) for run_id, size in sizes]
        left, last = PURGE_RUNS_MAX, None
        for run_id, weight in weights:
            if last is not None and weight > left:
                break
            left, last = left - weight, run_id
        if last is not None:
            engine.execute(removal.DELETE_SOME_RUNS, (job_id, last))
        if left <= 0 or (weights and last != weights[-1][0]):
            return False
        if len(engine.execute(removal.DELETE_SOME_RANGES, (job_id, job_id, left))) == left:
            return False
        if len(engine.execute(removal.DELETE_SOME_ENTRIES, (job_id, job_id, PURGE_ENTRIES_MAX))) == PURGE_ENTRIES_MAX:
            return False
        self._remove([row], actor, now_ms, reason)
        return True

    def _weight(self, row: Row) -> int:
        """What the removal of a job costs, in runs without output: if it has more than a step may remove, at least more
        than that. `row`: of removal.ENDED_JOBS.
        """
        if not row[9]:
            return 1
        # The tasks of an array may have run several times, or not at all.
        sizes = self._engine.execute(removal.SIZES, (row[0], PURGE_RUNS_MAX + 1))
        return max(sum(row[3:6]), sum(_run_weight(size) for _, size in sizes))

    def _within(self, jobs: list[Row]) -> list[Row]:
        """The first of the jobs, as many as one step may remove."""
        weight = 0
        for place, row in enumerate(jobs):
            weight += self._weight(row)
            if weight > PURGE_RUNS_MAX:
                return jobs[:place]
        return jobs

    def _remove(self, jobs: list[Row], actor: str, now_ms: int, reason: str = "") -> None:
        """Remove jobs, given as rows of removal.ENDED_JOBS."""
        engine = self._engine
        ids: list[Row] = [(row[0],) for row in jobs]
        for row in jobs:
            for tag in (row[6] or "").split():
                engine.send(sql.DELETE_TAG, (tag, row[0]), rows=1)
            if row[8] is not None:
                engine.execute(sql.FREE_UNIQUE, (row[8], row[0]))
        engine.execute_list(removal.DELETE_RUNS, ids)
        engine.execute_list(removal.DELETE_JOBS, ids)
        for place, status in ((3, RunStatus.SUCCESS), (4, RunStatus.FAILED), (5, RunStatus.CANCELLED)):
            self._count(status, sum(row[place] for row in jobs))
        detail = f"{counted(len(jobs), 'job')}: {_shown([row[0] for row in jobs])}"
        self._note(detail + (f"; {reason}" if reason else ""), actor, now_ms)

    def _count(self, status: RunStatus, tasks: int) -> None:
        """Tasks with a status were removed."""
        if tasks:
            self._engine.send(sql.ADD_TO_TOTALS, (-tasks, status), rows=1)

    def _note(self, detail: str, actor: str, now_ms: int) -> None:
        self._engine.execute(removal.NOTE_PURGED)
        self._ledger.note(Note(at_ms=now_ms, actor=actor, became=EventKind.PURGED, detail=detail))

    # --- fires ---

    def purge_fires(self, old: Sequence[Old], after: tuple[JobId, RunId], count: int, now_ms: int) -> FireStep:
        limits = {limit.status: limit.ended_ms for limit in old}
        newest_ms = max(limits.values())
        job, run = after
        # The job of `after` again, since it may have more fires.
        found = self._engine.execute(removal.FIRED, (job - 1, FIRES_KEPT - 1, PURGE_SCHEDULES_MAX))
        reached = None if len(found) < PURGE_SCHEDULES_MAX else (JobId(found[-1][0] + 1), RunId(0))
        removed: dict[int, int] = {}
        left = count
        for job_id, kept in found:
            if kept is None:
                continue
            fires = self._engine.execute(removal.FIRES, (job_id, run if job_id == job else 0, kept, left))
            left -= len(fires)
            gone = [fire for fire in fires if fire[2] in limits and fire[3] < limits[fire[2]]]
            if gone:
                self._remove_fires(job_id, gone)
                removed[job_id] = len(gone)
            if not left:
                # Fires come one after another, so all that follow a young one are younger.
                is_young = newest_ms <= fires[-1][3] <= now_ms
                reached = (JobId(job_id + 1), RunId(0)) if is_young else (JobId(job_id), RunId(fires[-1][0]))
                break
        if removed:
            fires_text = counted(sum(removed.values()), "fire")
            self._note(f"{fires_text} of the recurring jobs {_shown(removed)}", "retention", now_ms)
        return FireStep(sum(removed.values()), reached)

    def _remove_fires(self, job_id: int, fires: Sequence[Row]) -> None:
        """Remove some fires of a job, given as rows of removal.FIRES. The job counts its last fire only."""
        for first, last, status, _ in fires:
            self._engine.execute(removal.DELETE_RUNS_OF_FIRES, (job_id, first, last))
            self._engine.send(removal.DELETE_FIRES, (job_id, first, first), rows=1)
            self._count(status, 1)

    def purge_usage(self, now_ms: int) -> None:
        for kind in UsageBy:
            self._engine.execute(usage.DELETE_USAGE, (kind, now_ms // usage.DAY_MS - USAGE_DAYS_MAX))

    # --- events ---

    def purge_events(self, before_ms: int, purged_ms: int | None, after: int, count: int, now_ms: int) -> Step:
        found = self._engine.execute(removal.OLD_EVENTS, (after, count))
        looked = [row for row in found if not before_ms <= row[1] <= now_ms]
        gone = {*self._of_removed(looked)}
        if purged_ms is not None:
            gone |= {row[0] for row in looked if row[5] in _PASSING and row[1] < purged_ms}
        if gone:
            self._engine.execute_list(removal.DELETE_EVENTS, [(event_id,) for event_id in sorted(gone)])
        return Step(len(gone), looked[-1][0] if len(looked) == count else None)

    def _of_removed(self, events: Sequence[Row]) -> list[int]:
        """The numbers of those events, rows of removal.OLD_EVENTS, that are about removed jobs and runs alone."""
        engine = self._engine
        runs = {first for _, _, _, first, last, _ in events if first is not None and first == last}
        jobs = {job for _, _, job, first, last, _ in events if job is not None and (first is None or first != last)}
        runs_there = {run for (run,) in engine.execute_list(removal.RUNS_THERE, [(run,) for run in sorted(runs)])}
        jobs_there = {job for (job,) in engine.execute_list(removal.JOBS_THERE, [(job,) for job in sorted(jobs)])}
        gone = []
        for event_id, _, job, first, last, _ in events:
            if first is not None and first == last:
                there = first in runs_there
            elif job is not None:
                there = job in jobs_there
            elif first is not None:
                # Runs that were made together.
                there = bool(engine.execute(removal.RUN_BETWEEN, (first, last)))
            else:
                there = True
            if not there:
                gone.append(event_id)
        return gone

    # --- tokens ---

    def purge_tokens(self, valid_ms: int, count: int, now_ms: int) -> int:
        old = self._engine.execute(removal.OLD_TOKENS, (valid_ms, valid_ms, count))
        for token_id, name in old:
            # A new token of that name would own the jobs of this one.
            if not self._engine.execute(sql.FIND_OWNER, (f"token:{name}",)):
                owner_id = self._engine.take_ids("owners", 1)
                self._engine.send(sql.ADD_OWNER, (owner_id, f"token:{name}"), rows=1)
            self._engine.send(removal.DELETE_TOKEN, (token_id,), rows=1)
            detail = token_id if name == token_id else f"{token_id} ({name})"
            note = Note(at_ms=now_ms, actor="retention", became=EventKind.TOKEN_REMOVED, detail=detail)
            self._ledger.note(note)
        return len(old)


def _run_weight(size: int) -> int:
    """What the removal of a run costs, by the bytes of its output and artifacts."""
    return int(1 + size // PURGE_RUN_BYTES)


def _shown(jobs: Sequence[int] | dict[int, int]) -> spans.Spans:
    return spans.of_numbers(jobs).head(SPANS_SHOWN_MAX)
