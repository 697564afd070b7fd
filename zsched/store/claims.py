"""Runs in the store from pending to running and back: what is ready, who is given it, and what a worker holds.

Part of the write side (see core.py).
"""

from __future__ import annotations

from zsched.model.limits import CLAIM_RUNS_MAX
from zsched.model.types import DemandId, JobId, Reason, Run, RunId, RunStatus, WorkerId
from zsched.store import rows, sql
from zsched.store.contract import Claimed, Holding, Load, Ready, StoreCorrupt
from zsched.store.core import UNREADABLE, Core

PENDING, RUNNING, FAILED = RunStatus.PENDING, RunStatus.RUNNING, RunStatus.FAILED


class Claims(Core):
    """Of contract.Store what is about runs until they end."""

    # --- from pending to running ---

    def ready(self, now_ms: int) -> list[Ready]:
        found = [
            Ready(DemandId(demand_id), self._demand(DemandId(demand_id)), priority, RunId(run_id))
            for run_id, demand_id, priority in self._execute(sql.READY)
        ]
        damaged = [one for one in found if one.demand is UNREADABLE]
        for one in damaged:
            self._quarantine_all(one.demand_id, now_ms)
        return found if not damaged else [one for one in found if one.demand is not UNREADABLE]

    def _quarantine_all(self, demand_id: DemandId, now_ms: int) -> None:
        """As many as one turn may claim; those that are left come in the next."""
        taken = self._execute(sql.CLAIM, (None, None, now_ms, None, demand_id, sql.PRIORITY_MIN, CLAIM_RUNS_MAX))
        for run_id, job_id, *_ in sorted(taken):
            self._quarantine(run_id, job_id, None, "what it asks of a worker makes no sense", now_ms)

    def ready_count(self, demand_id: DemandId, most: int) -> int:
        return int(self._execute(sql.READY_COUNT, (demand_id, most))[0][0])

    def claim(
        self,
        worker_id: WorkerId,
        demand_id: DemandId,
        count: int,
        floor: int,
        handed_n: int,
        now_ms: int,
        *,
        lease_ms: int | None = None,
        ends: bool,
    ) -> list[Claimed]:
        taken = self._execute(sql.CLAIM, (worker_id, handed_n, now_ms, lease_ms, demand_id, floor, count))
        taken.sort(key=lambda row: (-row[5], row[0]))
        probation = self._demand(demand_id).probation
        claimed = []
        for row in taken:
            run_id, job_id = RunId(row[0]), JobId(row[1])
            try:
                order = self._order(run_id, job_id, row[2], row[3], probation > 0, lease_ms)
            except (StoreCorrupt, ValueError, TypeError, IndexError) as error:
                self._quarantine(run_id, job_id, worker_id, repr(error), now_ms)
                continue
            claimed.append(order)
            if probation:
                self._execute(sql.SET_PROBATION, (probation, run_id))
            if ends and order.timeout_ms is not None:
                self._execute(sql.SET_END, (now_ms + order.timeout_ms + order.grace_ms, run_id))
            self._record_transition(now_ms, "scheduler", job_id, run_id, PENDING, RUNNING, worker_id=worker_id)
        return claimed

    def claimed(self, run_id: RunId) -> Claimed | None:
        run = self.run(run_id)
        return self._order(run.run_id, run.job_id, run.task, run.attempt, False, None) if run else None

    def _order(
        self, run_id: RunId, job_id: JobId, task: int, attempt: int, probation: bool, lease_ms: int | None
    ) -> Claimed:
        """All that a worker needs of a run. Raises what a damaged row may raise."""
        order = self._execute(sql.ORDER, (job_id,))[0]
        claimed = rows.claimed((*order, run_id, job_id, task, attempt, probation, lease_ms))
        if not claimed.command:
            raise ValueError("the job has no command")
        return claimed

    def _quarantine(self, run_id: RunId, job_id: JobId, worker_id: WorkerId | None, why: str, now_ms: int) -> None:
        detail = f"the job's row can't be read: {why}"
        self._end(run_id, job_id, worker_id, FAILED, Reason.QUARANTINED, detail, now_ms, was=PENDING)

    # --- what a worker holds ---

    def load(self, worker_id: WorkerId) -> Load:
        return Load(*self._execute(sql.LOAD, (worker_id,))[0])

    def held_by(self, worker_id: WorkerId) -> list[Holding]:
        held = [
            Holding(
                run_id=RunId(run_id),
                job_id=JobId(job_id),
                handed_n=n,
                claimed_ms=claimed_ms,
                started=bool(started),
                probation=probation,
                cancelled=bool(cancelled),
                crashes=crashes,
                stuck=bool(stuck),
                once=self._demand(DemandId(demand_id)).once,
            )
            for run_id, job_id, n, claimed_ms, started, probation, cancelled, crashes, stuck, demand_id in (
                self._execute(sql.HELD, (worker_id,))
            )
        ]
        self._held_read += len(held)
        return held

    def live_on(self, worker_id: WorkerId, job_id: JobId) -> list[Run]:
        return [rows.run(row) for row in self._execute(sql.LIVE_ON_WORKER, (worker_id, job_id))]

    def last_on(self, worker_id: WorkerId, job_id: JobId) -> Run | None:
        found = self._execute(sql.LAST_ON_WORKER, (job_id, worker_id))
        return rows.run(found[0]) if found else None

    def adopt(self, worker_id: WorkerId) -> None:
        self._execute(sql.ADOPT, (worker_id,))

    def start(self, run_id: RunId, worker_id: WorkerId, started_ms: int) -> bool:
        return bool(self._execute(sql.START, (started_ms, run_id, worker_id)))

    def clear_probation(self, run_id: RunId) -> bool:
        return bool(self._execute(sql.CLEAR_PROBATION, (run_id,)))

    def requeue_unstarted(self, run_id: RunId, worker_id: WorkerId, reason: Reason, now_ms: int) -> bool:
        changed = self._execute(sql.PUT_BACK, (reason, now_ms, run_id, worker_id))
        for job_id, status, why in changed:
            self._record_transition(
                now_ms, "scheduler", job_id, run_id, RUNNING, RunStatus(status), worker_id=worker_id, reason=why
            )
        return bool(changed)
