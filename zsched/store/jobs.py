"""Jobs in the store, from submit to cancel, and what is due by the wall clock. Part of the write side (see core.py)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from zsched.model.demand import Demand
from zsched.model.types import DemandId, Job, JobId, JobSpec, OnLost, Reason, RunId, RunStatus, WorkerId
from zsched.store import rows, sql
from zsched.store.contract import Cancelled, Due, Target
from zsched.store.core import Core
from zsched.store.engine import Row

PENDING, RUNNING, CANCELLED = RunStatus.PENDING, RunStatus.RUNNING, RunStatus.CANCELLED


class Jobs(Core):
    """Of contract.Store what is about jobs and fires."""

    def submit(
        self,
        specs: Sequence[JobSpec],
        next_fires: Sequence[int | None],
        actor: str,
        now_ms: int,
        *,
        owner: str = "",
        metered: bool = False,
    ) -> list[JobId]:
        asked = [(spec.needs, spec.policy.on_lost is OnLost.FAIL) for spec in specs]
        known = {(needs, once): self._demand_id(Demand(needs=needs, once=once)) for needs, once in set(asked)}
        demands = [known[one] for one in asked]
        owner_id = self._owner_id(owner) if owner else None
        facts: list[Row] = [
            (
                *rows.row_of_job_fields(spec), *rows.row_of_policy(spec.policy),
                demand_id, next_fire_ms, now_ms, now_ms, owner_id, metered,
            )
            for spec, demand_id, next_fire_ms in zip(specs, demands, next_fires, strict=True)
        ]  # fmt: skip
        job_ids = [JobId(number) for number in self._add(sql.ADD_JOB, facts)]
        at_once: list[tuple[JobId, DemandId]] = []
        for job_id, spec, demand_id in zip(job_ids, specs, demands, strict=True):
            if spec.schedule is not None:
                self._ledger.event(now_ms, actor, None, "scheduled", job_id=job_id)
            if spec.schedule is None or spec.run_now:
                at_once.append((job_id, demand_id))
        made: list[Row] = [(job_id, demand_id, 0, now_ms) for job_id, demand_id in at_once]
        runs = [RunId(number) for number in self._add(sql.ADD_RUN, made)]
        if len(runs) == 1:
            self._record_transition(now_ms, actor, at_once[0][0], runs[0], None, PENDING)
        elif runs:
            self._ledger.record_created(now_ms, actor, [job_id for job_id, _ in at_once], runs[0], runs[-1])
        return job_ids

    def _add(self, insert: str, given: list[Row]) -> list[int]:
        """Insert rows by few statements; returns their ids, which rise."""
        added: list[Row] = []
        for begin in range(0, len(given), sql.ROWS_PER_INSERT):
            batch = given[begin : begin + sql.ROWS_PER_INSERT]
            added += sorted(self._execute(sql.for_rows(insert, len(batch)), list(chain.from_iterable(batch))))
        return [row[0] for row in added]

    def pending_tasks(self) -> int:
        return int(self._execute(sql.TOTAL_PENDING)[0][0]) + self._ledger.pending

    def job(self, job_id: JobId) -> Job | None:
        found = self._execute(sql.JOB, (job_id,))
        return rows.job(found[0]) if found else None

    def cancel(self, job_id: JobId, actor: str, now_ms: int) -> Cancelled:
        pending = self._execute(sql.CANCEL_PENDING, (actor, now_ms, now_ms, job_id))
        for (run_id,) in pending:
            self._record_transition(now_ms, actor, job_id, run_id, PENDING, CANCELLED, reason=Reason.CANCELLED)
        running = [
            (WorkerId(worker_id), RunId(run_id)) for worker_id, run_id in self._execute(sql.RUNNING_OF_JOB, (job_id,))
        ]
        if pending or running:
            self._execute(sql.MARK_JOB_CANCELLED, (actor, now_ms, now_ms, job_id))
        if running:
            self._execute(sql.MARK_CANCELLED, (actor, now_ms, job_id))
        for worker_id, run_id in running:
            self._ledger.event(
                now_ms,
                actor,
                RUNNING,
                RUNNING,
                job_id=job_id,
                runs=(run_id, run_id),
                worker_id=worker_id,
                reason="cancel",
            )
        return Cancelled(len(pending), running)

    # --- recurring jobs ---

    def pause_schedule(self, job_id: JobId, actor: str, now_ms: int) -> bool:
        changed = self._execute(sql.PAUSE_SCHEDULE, (now_ms, now_ms, job_id))
        return self._note_change(bool(changed), "schedule_paused", job_id, actor, now_ms)

    def resume_schedule(self, job_id: JobId, next_fire_ms: int | None, actor: str, now_ms: int) -> bool:
        changed = self._execute(sql.RESUME_SCHEDULE, (next_fire_ms, now_ms, job_id))
        return self._note_change(bool(changed), "schedule_resumed", job_id, actor, now_ms)

    def end_schedule(self, job_id: JobId, actor: str, now_ms: int) -> bool:
        changed = self._execute(sql.END_SCHEDULE, (now_ms, now_ms, job_id))
        return self._note_change(bool(changed), "schedule_ended", job_id, actor, now_ms)

    def _note_change(self, changed: bool, what: str, job_id: JobId, actor: str, now_ms: int) -> bool:
        if changed:
            self._ledger.event(now_ms, actor, None, what, job_id=job_id)
        return changed

    def edit(self, job: Job, actor: str, detail: str, now_ms: int) -> None:
        timeout_ms = job.policy.timeout_ms
        self._execute(
            sql.EDIT_JOB, (job.name, job.command, job.schedule, timeout_ms, job.next_fire_ms, now_ms, job.job_id)
        )
        self._ledger.event(now_ms, actor, None, "job_edited", job_id=job.job_id, detail=detail)

    def last_fire_lives(self, job_id: JobId) -> bool:
        found = self._execute(sql.LAST_FIRE_LIVES, (job_id,))
        return bool(found and found[0][0])

    # --- jobs of an owner ---

    def count_metered(self, owner: str, most: int) -> int:
        return int(self._execute(sql.COUNT_METERED, (owner, most))[0][0])

    def count_recurring(self, owner: str, most: int) -> int:
        return int(self._execute(sql.COUNT_RECURRING_OF, (owner, most))[0][0])

    def recurring(self, owner: str | None, after: JobId, count: int) -> list[Target]:
        if owner is None:
            return self._targets(sql.RECURRING, (after, count))
        return self._targets(sql.RECURRING_OF, (owner, after, count))

    def live(self, owner: str | None, after: JobId, count: int) -> list[Target]:
        # One statement for each status, so that both come from the index in the order of their ids.
        found: list[Target] = []
        for status in (PENDING, RUNNING):
            if owner is None:
                found += self._targets(sql.LIVE, (status, after, count))
            else:
                found += self._targets(sql.LIVE_OF, (owner, status, after, count))
        found.sort(key=lambda target: target.job_id)
        return found[:count]

    def between(self, first: JobId, last: JobId, count: int) -> list[Target]:
        return self._targets(sql.TARGETS_BETWEEN, (first, last, count))

    def _targets(self, statement: str, parameters: Row) -> list[Target]:
        return [
            Target(JobId(job_id), owner or "", RunStatus(status))
            for job_id, owner, status in self._execute(statement, parameters)
        ]

    # --- what is due ---

    def due(self, now_ms: int, count: int) -> list[Due]:
        # `live` follows from the counters, and a fire starts them anew: what the turn has counted so far must be in
        # them.
        self.flush_counters(now_ms)
        return [
            Due(JobId(job_id), schedule, next_fire_ms, bool(live))
            for job_id, schedule, next_fire_ms, live in self._execute(sql.DUE_JOBS, (now_ms, count))
        ]

    def fire(self, job_id: JobId, next_fire_ms: int | None, actor: str, now_ms: int) -> RunId:
        demand_id, priority = self._execute(sql.START_FIRE, (next_fire_ms, now_ms, job_id))[0]
        run_id = RunId(self._execute(sql.ADD_RUN, (job_id, demand_id, priority, now_ms))[0][0])
        self._record_transition(now_ms, actor, job_id, run_id, None, PENDING, reason="fire")
        return run_id

    def skip_fire(self, job_id: JobId, next_fire_ms: int | None, actor: str, detail: str, now_ms: int) -> None:
        self._execute(sql.SET_NEXT_FIRE, (next_fire_ms, job_id))
        self._ledger.event(now_ms, actor, None, "fire_skipped", job_id=job_id, detail=detail)

    def release_due(self, now_ms: int) -> int:
        return len(self._execute(sql.RELEASE_DUE, (now_ms,)))

    def next_due_ms(self) -> int | None:
        found = self._execute(sql.NEXT_DUE)[0][0]
        return None if found is None else int(found)

    def latest_ms(self) -> int:
        found = self._execute(sql.LATEST)
        return int(found[0][0]) if found else 0

    def shift(self, by_ms: int, now_ms: int) -> None:
        self._ledger.event(now_ms, "scheduler", None, "clock_set", detail=f"by {by_ms} ms")
        self._execute(sql.SHIFT_DUE, (by_ms,))
        self._execute(sql.SHIFT_ENDS, (by_ms,))
