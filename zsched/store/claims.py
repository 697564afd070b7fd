"""Runs from pending to running and back: ready runs, claims, and what a worker holds. Part of the write side (see
core.py).
"""

from __future__ import annotations

from typing import Final

from zsched.model.limits import CLAIM_RUNS_MAX
from zsched.model.types import DemandId, JobId, Reason, Run, RunId, RunStatus, WorkerId
from zsched.store import rows, sql
from zsched.store.contract import Claim, Claimed, Holding, Load, Ready, StoreCorrupt
from zsched.store.core import UNREADABLE, Core
from zsched.store.engine import Row
from zsched.store.ledger import Transition
from zsched.store.mapping import DAMAGED

PENDING, RUNNING, FAILED = RunStatus.PENDING, RunStatus.RUNNING, RunStatus.FAILED

# Raised when a row of a run or job is damaged.
_DAMAGE: Final = (StoreCorrupt, *DAMAGED)


class ClaimsWriter(Core):
    """The role contract.Runs, until runs end."""

    # --- from pending to running ---

    def ready(self, now_ms: int) -> list[Ready]:
        demands = [
            Ready(DemandId(demand_id), self._demand(DemandId(demand_id)), priority, RunId(run_id))
            for run_id, demand_id, priority in self._execute(sql.READY)
        ]
        damaged = [ready for ready in demands if ready.demand is UNREADABLE]
        for ready in damaged:
            self._quarantine_all(ready.demand_id, now_ms)
        return demands if not damaged else [ready for ready in demands if ready.demand is not UNREADABLE]

    def _quarantine_all(self, demand_id: DemandId, now_ms: int) -> None:
        """Fail the runs of a damaged demand, as many as one claim may take; the next turn continues."""
        chosen = (demand_id, sql.PRIORITY_MIN, CLAIM_RUNS_MAX)
        damaged = self._execute(sql.CLAIMABLE_IDS, chosen)
        self._execute(sql.CLAIM, (None, None, now_ms, None, 0, False, now_ms, *chosen))
        for run_id, job_id in damaged:
            self._quarantine(run_id, job_id, None, "its demand is damaged", now_ms)

    def ready_count(self, demand_id: DemandId, most: int) -> int:
        return int(self._execute(sql.READY_COUNT, (demand_id, most))[0][0])

    def claim(self, wanted: Claim, now_ms: int) -> list[Claimed]:
        chosen = (wanted.demand_id, wanted.floor, wanted.count)
        probation = self._demand(wanted.demand_id).probation
        claimed, damaged = self._claimable(chosen, probation > 0, wanted.lease_ms)
        if not claimed and not damaged:
            return []
        # Within one transaction of the only writer, this chooses the same runs as the statement before.
        self._execute(
            sql.CLAIM,
            (
                wanted.worker_id, wanted.handed_n, now_ms, wanted.lease_ms, probation, wanted.ends, now_ms,
                *chosen,
            ),
        )  # fmt: skip
        for run_id, job_id, why in damaged:
            self._quarantine(run_id, job_id, wanted.worker_id, why, now_ms)
        for run in claimed:
            self._record_transition(
                Transition(
                    at_ms=now_ms, job_id=run.job_id, run_id=run.run_id, worker_id=wanted.worker_id, was=PENDING,
                    became=RUNNING, probation=probation, lease_ms=wanted.lease_ms or 0,
                )
            )  # fmt: skip
        return claimed

    def _claimable(
        self, chosen: Row, probation: bool, lease_ms: int | None
    ) -> tuple[list[Claimed], list[tuple[RunId, JobId, str]]]:
        """The runs that a claim takes, and those of them whose rows are damaged, with the reason."""
        try:
            return [_claimed(row, probation, lease_ms) for row in self._execute(sql.CLAIMABLE, chosen)], []
        except _DAMAGE:
            pass
        # One damaged row must not keep the others from starting: read each by itself.
        claimed, damaged = [], []
        for run_id, job_id in self._execute(sql.CLAIMABLE_IDS, chosen):
            try:
                claimed.append(_claimed(self._execute(sql.ORDER, (run_id,))[0], probation, lease_ms))
            except _DAMAGE as error:
                damaged.append((RunId(run_id), JobId(job_id), repr(error)))
        return claimed, damaged

    def find_claimed(self, run_id: RunId) -> Claimed | None:
        stored = self._execute(sql.ORDER, (run_id,))
        return _claimed(stored[0], False, None) if stored else None

    def _quarantine(self, run_id: RunId, job_id: JobId, worker_id: WorkerId | None, why: str, now_ms: int) -> None:
        """Fail a run that was just claimed; its event tells that it never ran."""
        self._end(
            Transition(
                at_ms=now_ms, job_id=job_id, run_id=run_id, worker_id=worker_id, was=PENDING, became=FAILED,
                reason=Reason.QUARANTINED, detail=f"the job's row can't be read: {why}",
            )
        )  # fmt: skip

    # --- what a worker holds ---

    def load(self, worker_id: WorkerId) -> Load:
        return self._loads.of(worker_id)

    def held_by(self, worker_id: WorkerId) -> list[Holding]:
        held = [
            Holding(
                run_id=RunId(run_id),
                job_id=JobId(job_id),
                handed_n=n,
                claimed_ms=claimed_ms,
                started_ms=started_ms,
                probation=probation,
                cancelled=bool(cancelled),
                crashes=crashes,
                stuck=bool(stuck),
                demand=self._demand(DemandId(demand_id)),
            )
            for run_id, job_id, n, claimed_ms, started_ms, probation, cancelled, crashes, stuck, demand_id in (
                self._execute(sql.HELD, (worker_id,))
            )
        ]
        self._held_read += len(held)
        return held

    def live_on(self, worker_id: WorkerId, job_id: JobId) -> list[Run]:
        return [rows.run(row) for row in self._execute(sql.LIVE_ON_WORKER, (worker_id, job_id))]

    def last_on(self, worker_id: WorkerId, job_id: JobId) -> Run | None:
        stored = self._execute(sql.LAST_ON_WORKER, (job_id, worker_id))
        return rows.run(stored[0]) if stored else None

    def adopt(self, worker_id: WorkerId) -> None:
        self._execute(sql.ADOPT, (worker_id,))

    def start(self, run_id: RunId, worker_id: WorkerId, started_ms: int) -> bool:
        return bool(self._execute(sql.START, (started_ms, run_id, worker_id)))

    def clear_probation(self, run_id: RunId) -> bool:
        cleared = self._execute(sql.CLEAR_PROBATION, (run_id,))
        for (worker_id,) in cleared:
            self._loads.drop(worker_id)
        return bool(cleared)

    def requeue_unstarted(self, run_id: RunId, worker_id: WorkerId, reason: Reason, now_ms: int) -> bool:
        changed = self._execute(sql.PUT_BACK, (reason, now_ms, run_id, worker_id))
        for job_id, status, why in changed:
            self._record_transition(
                Transition(
                    at_ms=now_ms, job_id=job_id, run_id=run_id, worker_id=worker_id, was=RUNNING,
                    became=RunStatus(status), reason=why,
                )
            )  # fmt: skip
        return bool(changed)


def _claimed(row: Row, probation: bool, lease_ms: int | None) -> Claimed:
    """A row of sql.CLAIMABLE or sql.ORDER. Raises what a damaged row may raise."""
    order = rows.claimed((*row, probation, lease_ms))
    if not order.command:
        raise ValueError("the job has no command")
    return order
