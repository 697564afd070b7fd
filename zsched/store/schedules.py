"""Recurring jobs, and what is due by the wall clock. Part of the write side (see core.py)."""

from __future__ import annotations

from zsched.model.blocked import Blocked
from zsched.model.events import EventKind
from zsched.model.lifecycle import Cause
from zsched.model.limits import AVOID_MS
from zsched.model.types import DemandId, JobId, RunId
from zsched.store import sql, transitions
from zsched.store.contract import Due
from zsched.store.ledger import Note
from zsched.store.lives import Change, Lives


class SchedulesWriter(Lives):
    """The role contract.Schedules."""

    def pause_schedule(self, job_id: JobId, actor: str, now_ms: int, reason: str = "") -> bool:
        changed = self._execute(sql.PAUSE_SCHEDULE, (now_ms, now_ms, job_id))
        note = Note(at_ms=now_ms, actor=actor, became=EventKind.SCHEDULE_PAUSED, job_id=job_id, detail=reason)
        return self._note_change(bool(changed), note)

    def resume_schedule(
        self, job_id: JobId, next_fire_ms: int | None, actor: str, now_ms: int, reason: str = ""
    ) -> bool:
        changed = self._execute(sql.RESUME_SCHEDULE, (next_fire_ms, now_ms, job_id))
        note = Note(at_ms=now_ms, actor=actor, became=EventKind.SCHEDULE_RESUMED, job_id=job_id, detail=reason)
        return self._note_change(bool(changed), note)

    def end_schedule(self, job_id: JobId, actor: str, now_ms: int, reason: str = "") -> bool:
        changed = self._execute(sql.END_SCHEDULE, (now_ms, now_ms, job_id))
        # A job that never fired ends with its schedule.
        self._ledger.note_ends(JobId(job_id) for (job_id,) in changed)
        note = Note(at_ms=now_ms, actor=actor, became=EventKind.SCHEDULE_ENDED, job_id=job_id, detail=reason)
        return self._note_change(bool(changed), note)

    def _note_change(self, changed: bool, note: Note) -> bool:
        if changed:
            self._ledger.note(note)
        return changed

    # --- fires ---

    def due(self, now_ms: int, count: int) -> list[Due]:
        return [
            Due(JobId(job_id), schedule, next_fire_ms, bool(live))
            for job_id, schedule, next_fire_ms, live in self._execute(sql.DUE_JOBS, (now_ms, count))
        ]

    def fire(self, job_id: JobId, next_fire_ms: int | None, actor: str, now_ms: int) -> RunId:
        demand_id, priority = self._execute(sql.START_FIRE, (next_fire_ms, now_ms, job_id))[0]
        blocked = Blocked.LIMITED if self._demand(DemandId(demand_id)).limits else 0
        new = (job_id, demand_id, (job_id, demand_id, priority, now_ms, blocked))
        (run_id,) = self._make(Cause.FIRE, transitions.ADD_FIRE, [new], Change(at_ms=now_ms, actor=actor))
        self._engine.send(sql.ADD_FIRST_RUN, (job_id, run_id), rows=1)
        return run_id

    def skip_fire(self, job_id: JobId, next_fire_ms: int | None, actor: str, detail: str, now_ms: int) -> None:
        self._execute(sql.SET_NEXT_FIRE, (next_fire_ms, job_id))
        self._ledger.note(Note(at_ms=now_ms, actor=actor, became=EventKind.FIRE_SKIPPED, job_id=job_id, detail=detail))

    # --- due times ---

    def release_due(self, now_ms: int, count: int) -> int:
        self._ahead.waiting = None
        released = self._execute(sql.RELEASE_DUE, (now_ms + AVOID_MS, now_ms, count))
        self._arrays.stir(JobId(job_id) for job_id, placeless in released if placeless)
        return len(released)

    def next_due_ms(self) -> int | None:
        due_ms, self._avoiding = self._execute(sql.NEXT_DUE)[0]
        return None if due_ms is None else int(due_ms)

    def latest_ms(self) -> int:
        rows = self._execute(sql.LATEST)
        return int(rows[0][0]) if rows else 0

    def shift(self, by_ms: int, now_ms: int) -> None:
        self._ledger.note(Note(at_ms=now_ms, actor="scheduler", became=EventKind.CLOCK_SET, detail=f"by {by_ms} ms"))
        self._execute(sql.SHIFT_DUE, (by_ms,))
        self._execute(sql.SHIFT_ENDS, (by_ms,))
