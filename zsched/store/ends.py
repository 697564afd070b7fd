"""How runs end: results, losses, failures and their successors, and overdue runs. Part of the write side (see
core.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Final, NamedTuple

from zsched.model.types import Blocked, DemandId, JobId, Outcome, Reason, RunId, RunStatus, Succession, WorkerId
from zsched.model.units import some
from zsched.store import rows, sql
from zsched.store.contract import Failed, Verdict
from zsched.store.core import Core
from zsched.store.engine import Row
from zsched.store.ledger import Note, Transition

PENDING, RUNNING = RunStatus.PENDING, RunStatus.RUNNING
FAILED, CANCELLED = RunStatus.FAILED, RunStatus.CANCELLED

# Ends that the scheduler decided, and no worker reported.
_DECIDED: Final = frozenset({Reason.WORKER_LOST, Reason.CRASH_LIMIT, Reason.UNKILLABLE, Reason.QUARANTINED})


class Successor(NamedTuple):
    """The successor of a run: what it does not share with its predecessor."""

    attempt: int
    demand_id: DemandId
    due_ms: int | None
    crashes: int
    failures: int


class EndsWriter(Core):
    """The role contract.Runs, about the ends of runs."""

    # --- what a worker reports ---

    def finish(self, outcome: Outcome, worker_id: WorkerId, now_ms: int, *, text: bool = False) -> Verdict:
        return self._finish([outcome], worker_id, "text" if text else "streams", now_ms)[0]

    def finish_many(self, outcomes: Sequence[Outcome], worker_id: WorkerId, now_ms: int) -> list[Verdict]:
        return self._finish(outcomes, worker_id, "streams", now_ms)

    def _finish(self, outcomes: Sequence[Outcome], worker_id: WorkerId, form: str, now_ms: int) -> list[Verdict]:
        ended = self._end_reported(outcomes, worker_id)
        actor = f"worker {worker_id}"
        verdicts: list[Verdict] = []
        outputs: list[Row] = []
        for outcome in outcomes:
            run_id = outcome.run_id
            if run_id not in ended:
                verdicts.append(self._why_refused(outcome, worker_id))
                continue
            verdicts.append("stored")
            _, job_id, status, reason = ended[run_id]
            self._record_transition(
                Transition(
                    at_ms=now_ms, actor=actor, job_id=job_id, run_id=run_id, worker_id=worker_id, was=RUNNING,
                    became=rows.RUN_STATUS[status], reason=reason,
                )
            )  # fmt: skip
            out, err = outcome.stdout, outcome.stderr
            if out.total or err.total:
                outputs.append((run_id, form, out.head, out.tail, out.total, err.head, err.tail, err.total))
        if outputs:
            self._engine.executemany(sql.ADD_OUTPUT, outputs)
        return verdicts

    def _end_reported(self, outcomes: Sequence[Outcome], worker_id: WorkerId) -> dict[int, Row]:
        """End those of the runs that are running on the worker; returns by run: run, job, status, reason."""
        ended: dict[int, Row] = {}
        for batch in sql.batches(outcomes):
            values = [
                (
                    outcome.status, outcome.reason, outcome.detail or None, outcome.exit_code, outcome.signal,
                    outcome.started_ms, outcome.finished_ms, outcome.run_id,
                )
                for outcome in batch
            ]  # fmt: skip
            statement = sql.FINISH if len(batch) == 1 else sql.for_rows(sql.FINISH_MANY, len(batch))
            for row in self._execute(statement, [*chain.from_iterable(values), worker_id]):
                ended[row[0]] = row
        return ended

    def _why_refused(self, outcome: Outcome, worker_id: WorkerId) -> Verdict:
        run = self.run(outcome.run_id)
        if run is None:
            return "unknown"
        reported = run.status in (RunStatus.SUCCESS, FAILED) and run.reason not in _DECIDED
        if run.worker_id == worker_id and (reported or run.status is CANCELLED):
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
        self._ledger.note(
            Note(
                at_ms=now_ms, actor=f"worker {worker_id}", job_id=run.job_id, run_id=run.run_id, worker_id=worker_id,
                was=run.status, became=run.status, reason="stale", detail=detail,
            )
        )  # fmt: skip

    def mark_stuck(self, run_id: RunId, worker_id: WorkerId, now_ms: int) -> bool:
        stuck = self._execute(sql.SET_STUCK, (run_id, worker_id))
        for (job_id,) in stuck:
            self._ledger.note(
                Note(
                    at_ms=now_ms, actor=f"worker {worker_id}", job_id=job_id, run_id=run_id, worker_id=worker_id,
                    was=RUNNING, became=RUNNING, reason="stuck", detail="its processes were killed and do not end",
                )
            )  # fmt: skip
        return bool(stuck)

    # --- lost and failed runs, and their successors ---

    def fail_lost(
        self, run_id: RunId, detail: str, *, crash: bool, together: int, due_ms: int | None, now_ms: int
    ) -> RunStatus:
        stored = self._execute(sql.LOSING, (run_id,))
        assert stored, "only a running run can be lost"
        job_id, worker_id, attempt, crashes, failures, started, cancelled, stuck, demand_id, crash_limit = stored[0]
        crashes += crash
        if cancelled:
            status, reason = CANCELLED, Reason.CANCELLED
        elif stuck:
            status, reason = FAILED, Reason.UNKILLABLE
        elif crash and 0 < crash_limit <= crashes:
            status, reason = FAILED, Reason.CRASH_LIMIT
        else:
            status, reason = FAILED, Reason.WORKER_LOST
        end = Transition(
            at_ms=now_ms, job_id=job_id, run_id=run_id, worker_id=worker_id, was=RUNNING, became=status,
            reason=reason, detail=detail,
        )  # fmt: skip
        self._end(end, crash=crash)
        demand = self._demand(demand_id)
        if reason is not Reason.WORKER_LOST or demand.once:
            return status
        if together := together or int(crash):
            demand_id = self._demand_id(replace(demand, probation=min(together, demand.probation or together)))
        task = Successor(attempt + started, demand_id, due_ms, crashes, failures)
        self._follow(run_id, job_id, task, Succession.REQUEUED, now_ms)
        return PENDING

    def find_failed(self, run_ids: Sequence[RunId]) -> list[Failed]:
        failed = []
        for batch in sql.batches(run_ids):
            for row in self._execute(sql.for_rows(sql.FAILED, len(batch)), batch):
                try:
                    failed.append(self._failed(row))
                except (ValueError, TypeError):
                    # Its job's row is damaged: it is not tried again.
                    continue
        return failed

    def _failed(self, row: Row) -> Failed:
        run_id, job_id, task, attempt, failures, crashes, reason, started, demand_id, retries, backoff = row
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

    def retry(self, failed: Failed, why: Succession, due_ms: int | None, now_ms: int) -> RunId:
        attempt = failed.attempt + failed.started
        failures = failed.failures + (why is Succession.RETRY)
        task = Successor(attempt, failed.demand_id, due_ms, failed.crashes, failures)
        return self._follow(failed.run_id, failed.job_id, task, why, now_ms)

    def _follow(self, run_id: RunId, job_id: JobId, task: Successor, why: Succession, now_ms: int) -> RunId:
        """Make the next run of a task whose run has failed."""
        blocked = 0 if task.due_ms is None else Blocked.DUE
        values = (
            task.attempt, task.demand_id, blocked, task.due_ms, task.crashes, task.failures, now_ms, run_id,
        )  # fmt: skip
        successor = RunId(self._execute(sql.ADD_SUCCESSOR, values)[0][0])
        self._ledger.count(job_id, FAILED, None)
        self._record_transition(
            Transition(at_ms=now_ms, job_id=job_id, run_id=successor, was=None, became=PENDING, reason=why)
        )
        return successor

    # --- runs that the scheduler itself ends ---

    def end_overdue(self, now_ms: int) -> list[tuple[WorkerId, RunId]]:
        overdue = self._execute(sql.OVERDUE, (now_ms,))
        for run_id, worker_id, job_id in overdue:
            self._end(
                Transition(
                    at_ms=now_ms, job_id=job_id, run_id=run_id, worker_id=worker_id, was=RUNNING, became=FAILED,
                    reason=Reason.TIMEOUT, detail="its time is over, and its worker has not reported its end",
                )
            )  # fmt: skip
        return [(WorkerId(worker_id), RunId(run_id)) for run_id, worker_id, _ in overdue]

    def end_cancelled(self, run_id: RunId, now_ms: int) -> None:
        run = self.run(run_id)
        assert run is not None
        assert run.worker_id is not None
        self._end(
            Transition(
                at_ms=now_ms, job_id=run.job_id, run_id=run_id, worker_id=run.worker_id, was=RUNNING,
                became=CANCELLED, reason=Reason.CANCELLED,
            )
        )  # fmt: skip
