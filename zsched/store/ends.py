"""How runs end in the store, and what follows: results, losses, failures and their successors, time that is over.

Part of the write side (see core.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from zsched.model.types import Blocked, DemandId, JobId, Outcome, Reason, RunId, RunStatus, Succession, WorkerId
from zsched.model.units import some
from zsched.store import rows, sql
from zsched.store.contract import Failed, Verdict
from zsched.store.core import Core

PENDING, RUNNING = RunStatus.PENDING, RunStatus.RUNNING
FAILED, CANCELLED = RunStatus.FAILED, RunStatus.CANCELLED

# Ends that the scheduler decided by itself, without a report of a worker.
_DECIDED: Final = frozenset({Reason.WORKER_LOST, Reason.CRASH_LIMIT, Reason.UNKILLABLE, Reason.QUARANTINED})


class Ends(Core):
    """Of contract.Store what is about the ends of runs."""

    # --- what a worker reports ---

    def finish(self, outcome: Outcome, worker_id: WorkerId, now_ms: int, *, text: bool = False) -> Verdict:
        ended = self._execute(
            sql.FINISH,
            (
                outcome.status, outcome.reason, outcome.detail or None, outcome.exit_code, outcome.signal,
                outcome.started_ms, outcome.finished_ms, outcome.run_id, worker_id,
            ),
        )  # fmt: skip
        if not ended:
            return self._refused(outcome, worker_id)
        job_id, status, reason = ended[0]
        actor = f"worker {worker_id}"
        self._record_transition(
            now_ms, actor, job_id, outcome.run_id, RUNNING, RunStatus(status), worker_id=worker_id, reason=reason
        )
        out, err = outcome.stdout, outcome.stderr
        if out.total or err.total:
            form = "text" if text else "streams"
            kept = (form, out.head, out.tail, out.total, err.head, err.tail, err.total)
            self._execute(sql.ADD_OUTPUT, (outcome.run_id, *kept))
        return "stored"

    def _refused(self, outcome: Outcome, worker_id: WorkerId) -> Verdict:
        run = self.run(outcome.run_id)
        if run is None:
            return "unknown"
        own_word = run.status in (RunStatus.SUCCESS, FAILED) and run.reason not in _DECIDED
        if run.worker_id == worker_id and (own_word or run.status is CANCELLED):
            return "duplicate"
        return "stale"

    def note_stale(self, stale: Sequence[Outcome], worker_id: WorkerId, now_ms: int) -> None:
        first = stale[0]
        run = self.run(first.run_id)
        assert run is not None
        detail = f"{worker_id} says {first.status}, but the run is {run.status}"
        if len(stale) > 1:
            runs = sorted(outcome.run_id for outcome in stale)
            detail += f"; {len(runs)} such results came at once, for runs {runs[0]} to {runs[-1]}: {some(runs)}"
        self._ledger.event(
            now_ms,
            f"worker {worker_id}",
            run.status,
            run.status,
            job_id=run.job_id,
            runs=(run.run_id, run.run_id),
            worker_id=worker_id,
            reason="stale",
            detail=detail,
        )

    def mark_stuck(self, run_id: RunId, worker_id: WorkerId, now_ms: int) -> bool:
        stuck = self._execute(sql.SET_STUCK, (run_id, worker_id))
        for (job_id,) in stuck:
            self._ledger.event(
                now_ms, f"worker {worker_id}", RUNNING, RUNNING, job_id=job_id, runs=(run_id, run_id),
                worker_id=worker_id, reason="stuck", detail="its processes were killed and do not end",
            )  # fmt: skip
        return bool(stuck)

    # --- what is lost or failed, and its successors ---

    def fail_lost(
        self, run_id: RunId, detail: str, *, crash: bool, together: int, due_ms: int | None, now_ms: int
    ) -> RunStatus:
        found = self._execute(sql.LOSING, (run_id,))
        assert found, "only a running run can be lost"
        job_id, worker_id, attempt, crashes, failures, started, cancelled, stuck, demand_id, crash_limit = found[0]
        crashes += crash
        if cancelled:
            status, reason = CANCELLED, Reason.CANCELLED
        elif stuck:
            status, reason = FAILED, Reason.UNKILLABLE
        elif crash and 0 < crash_limit <= crashes:
            status, reason = FAILED, Reason.CRASH_LIMIT
        else:
            status, reason = FAILED, Reason.WORKER_LOST
        self._end(run_id, job_id, worker_id, status, reason, detail, now_ms, crash=crash)
        demand = self._demand(demand_id)
        if reason is not Reason.WORKER_LOST or demand.once:
            return status
        if together := together or int(crash):
            demand_id = self._demand_id(replace(demand, probation=min(together, demand.probation or together)))
        facts = (attempt + started, demand_id, due_ms, crashes, failures)
        self._follow(run_id, job_id, facts, Succession.REQUEUED, now_ms)
        return PENDING

    def failed(self, run_id: RunId) -> Failed | None:
        found = self._execute(sql.FAILED, (run_id,))
        if not found:
            return None
        job_id, task, attempt, failures, crashes, reason, started, demand_id, retries, backoff = found[0]
        try:
            return Failed(
                run_id=run_id,
                job_id=job_id,
                task=task,
                attempt=attempt,
                failures=failures,
                crashes=crashes,
                reason=reason,
                started=bool(started),
                demand_id=demand_id,
                once=self._demand(demand_id).once,
                retries=retries,
                backoff=rows.backoff(backoff),
            )
        except (ValueError, TypeError):
            return None

    def retry(self, failed: Failed, why: Succession, due_ms: int | None, now_ms: int) -> RunId:
        attempt = failed.attempt + failed.started
        failures = failed.failures + (why is Succession.RETRY)
        facts = (attempt, failed.demand_id, due_ms, failed.crashes, failures)
        return self._follow(failed.run_id, failed.job_id, facts, why, now_ms)

    def _follow(
        self,
        run_id: RunId,
        job_id: JobId,
        facts: tuple[int, DemandId, int | None, int, int],
        why: Succession,
        now_ms: int,
    ) -> RunId:
        """Make the next run of a task whose run has failed. `facts`: its attempt, demand, due time, crashes and
        failures.
        """
        attempt, demand_id, due_ms, crashes, failures = facts
        blocked = 0 if due_ms is None else Blocked.DUE
        values = (attempt, demand_id, blocked, due_ms, crashes, failures, now_ms, run_id)
        successor = RunId(self._execute(sql.ADD_SUCCESSOR, values)[0][0])
        self._ledger.count(job_id, FAILED, None)
        self._record_transition(now_ms, "scheduler", job_id, successor, None, PENDING, reason=why)
        return successor

    # --- what the scheduler ends itself ---

    def end_overdue(self, now_ms: int) -> list[tuple[WorkerId, RunId]]:
        overdue = self._execute(sql.OVERDUE, (now_ms,))
        for run_id, worker_id, job_id in overdue:
            detail = "its time was over, and its worker had not said how it ended"
            self._end(RunId(run_id), job_id, worker_id, FAILED, Reason.TIMEOUT, detail, now_ms)
        return [(WorkerId(worker_id), RunId(run_id)) for run_id, worker_id, _ in overdue]

    def end_cancelled(self, run_id: RunId, now_ms: int) -> None:
        run = self.run(run_id)
        assert run is not None
        assert run.worker_id is not None
        self._end(run_id, run.job_id, run.worker_id, CANCELLED, Reason.CANCELLED, "", now_ms)
