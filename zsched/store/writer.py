"""The store's write side, on any engine. Called by the loop thread alone, inside the turn's transaction (see
contract.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from typing import Final

from zsched.limits import CLAIM_RUNS_MAX
from zsched.matching import Demand
from zsched.model import (
    Blocked,
    DemandId,
    Job,
    JobId,
    JobSpec,
    OnLost,
    Outcome,
    Reason,
    Run,
    RunId,
    RunStatus,
    Succession,
    Worker,
    WorkerId,
    WorkerStatus,
)
from zsched.store import rows, sql
from zsched.store.access import AccessWriter
from zsched.store.contract import (
    Cancelled,
    Claimed,
    Due,
    Failed,
    Holding,
    Load,
    Ready,
    StoreCorrupt,
    StoreError,
    Verdict,
)
from zsched.store.engine import Engine, Row
from zsched.store.idempotency import IdempotencyWriter
from zsched.store.ledger import Ledger

PENDING, RUNNING = RunStatus.PENDING, RunStatus.RUNNING
FAILED, CANCELLED = RunStatus.FAILED, RunStatus.CANCELLED

# Stands for a demand whose row is damaged. No worker meets it, and none is asked to.
_UNREADABLE: Final = Demand(needs=("?",))

# Ends that the scheduler decided: no word of a worker stands behind them.
_DECIDED: Final = frozenset({Reason.WORKER_LOST, Reason.CRASH_LIMIT, Reason.UNKILLABLE, Reason.QUARANTINED})


class Writer:
    """Implements contract.Store; its methods' contracts stand there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._execute = engine.execute
        self._ledger = Ledger()
        self._moved = self._ledger.moved
        self.access = AccessWriter(engine, self._ledger)
        self.idempotency = IdempotencyWriter(engine)
        self._rows_before = 0
        # Demands never change once they are stored, so these two need no rollback: an id that was rolled back is asked
        # for anew.
        self._demands: dict[DemandId, Demand] = {}
        self._identity = str(self._execute(sql.IDENTITY)[0][0])

    # --- transactions ---

    def begin(self) -> None:
        self._engine.begin()
        self._rows_before = self._engine.changes()

    def commit(self) -> None:
        self._engine.commit()

    def rollback(self) -> None:
        self._ledger.cut()
        self._demands.clear()
        self._engine.rollback()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        mark = self._ledger.mark()
        self._execute("SAVEPOINT attempt")
        try:
            yield
        except StoreError:
            # The engine may have given up the whole turn already, and the savepoint with it; its caller will.
            with suppress(StoreError):
                self._undo(mark)
            raise
        except BaseException:
            self._undo(mark)
            raise
        self._execute("RELEASE attempt")

    def _undo(self, mark: tuple[int, int, int]) -> None:
        self._ledger.cut(mark)
        self._demands.clear()
        self._execute("ROLLBACK TO attempt")
        self._execute("RELEASE attempt")

    @property
    def rows_changed(self) -> int:
        return self._engine.changes() - self._rows_before

    def settle(self, now_ms: int) -> None:
        self._ledger.write(self._engine, now_ms)

    def close(self) -> None:
        """Close the connection; what was not committed is gone."""
        self._engine.close()

    # --- who we are ---

    @property
    def identity(self) -> str:
        return self._identity

    def begin_epoch(self, host: str, pid: int, version: str, now_ms: int) -> int:
        return int(self._execute(sql.BEGIN_EPOCH, (host, pid, version, now_ms))[0][0])

    def end_epoch(self, epoch: int, now_ms: int) -> None:
        self._execute(sql.END_EPOCH, (now_ms, epoch))

    # --- demands ---

    def _demand_id(self, demand: Demand) -> DemandId:
        wish = rows.wish(demand)
        found = self._execute(sql.FIND_DEMAND, (wish,)) or self._execute(sql.ADD_DEMAND, (wish,))
        return DemandId(found[0][0])

    def _demand(self, demand_id: DemandId) -> Demand:
        known = self._demands.get(demand_id)
        if known is None:
            try:
                known = rows.demand(self._execute(sql.DEMAND, (demand_id,))[0][0])
            except (ValueError, TypeError, KeyError):
                known = _UNREADABLE
            self._demands[demand_id] = known
        return known

    # --- jobs ---

    def submit(
        self, specs: Sequence[JobSpec], next_fires: Sequence[int | None], actor: str, now_ms: int
    ) -> list[JobId]:
        asked = [(spec.needs, spec.policy.on_lost is OnLost.FAIL) for spec in specs]
        known = {(needs, once): self._demand_id(Demand(needs=needs, once=once)) for needs, once in set(asked)}
        demands = [known[one] for one in asked]
        facts: list[Row] = [
            (
                spec.name, spec.command, demand_id, spec.schedule, next_fire_ms, now_ms, now_ms, spec.user,
                rows.stored_variables(spec.env), rows.stored_variables(spec.secret_env),
                *rows.stored_policy(spec.policy),
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
            self._moved(now_ms, actor, at_once[0][0], runs[0], None, PENDING)
        elif runs:
            self._ledger.made(now_ms, actor, [job_id for job_id, _ in at_once], runs[0], runs[-1])
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
            self._moved(now_ms, actor, job_id, run_id, PENDING, CANCELLED, reason=Reason.CANCELLED)
        self._execute(sql.MARK_JOB_CANCELLED, (actor, now_ms, now_ms, job_id))
        self._execute(sql.MARK_CANCELLED, (actor, now_ms, job_id))
        running = [
            (WorkerId(worker_id), RunId(run_id)) for worker_id, run_id in self._execute(sql.RUNNING_OF_JOB, (job_id,))
        ]
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

    def due(self, now_ms: int, count: int) -> list[Due]:
        # `live` follows from the counters, and a fire starts them anew: what the turn has counted so far must be in
        # them.
        self.settle(now_ms)
        return [
            Due(JobId(job_id), schedule, next_fire_ms, bool(live))
            for job_id, schedule, next_fire_ms, live in self._execute(sql.DUE_JOBS, (now_ms, count))
        ]

    def fire(self, job_id: JobId, next_fire_ms: int | None, actor: str, now_ms: int) -> RunId:
        demand_id, priority = self._execute(sql.START_FIRE, (next_fire_ms, now_ms, job_id))[0]
        run_id = RunId(self._execute(sql.ADD_RUN, (job_id, demand_id, priority, now_ms))[0][0])
        self._moved(now_ms, actor, job_id, run_id, None, PENDING, reason="fire")
        return run_id

    def skip_fire(self, job_id: JobId, next_fire_ms: int | None, actor: str, detail: str, now_ms: int) -> None:
        self._execute(sql.SET_NEXT_FIRE, (next_fire_ms, job_id))
        self._ledger.event(now_ms, actor, None, "fire_skipped", job_id=job_id, detail=detail)

    def release_due(self, now_ms: int) -> int:
        return len(self._execute(sql.RELEASE_DUE, (now_ms,)))

    def next_due_ms(self) -> int | None:
        found = self._execute(sql.NEXT_DUE)[0][0]
        return None if found is None else int(found)

    # --- runs: from pending to running and back ---

    def ready(self, now_ms: int) -> list[Ready]:
        found = [
            Ready(DemandId(demand_id), self._demand(DemandId(demand_id)), priority, RunId(run_id))
            for run_id, demand_id, priority in self._execute(sql.READY)
        ]
        damaged = [one for one in found if one.demand is _UNREADABLE]
        for one in damaged:
            self._quarantine_all(one.demand_id, now_ms)
        return found if not damaged else [one for one in found if one.demand is not _UNREADABLE]

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
                order = self._order(run_id, job_id, row[2], row[3], probation, lease_ms)
            except (StoreCorrupt, ValueError, TypeError, IndexError) as error:
                self._quarantine(run_id, job_id, worker_id, repr(error), now_ms)
                continue
            claimed.append(order)
            if probation:
                self._execute(sql.SET_PROBATION, (run_id,))
            if ends and order.timeout_ms is not None:
                self._execute(sql.SET_END, (now_ms + order.timeout_ms + order.grace_ms, run_id))
            self._moved(now_ms, "scheduler", job_id, run_id, PENDING, RUNNING, worker_id=worker_id)
        return claimed

    def claimed(self, run_id: RunId) -> Claimed | None:
        run = self.run(run_id)
        return self._order(run.run_id, run.job_id, run.task, run.attempt, False, None) if run else None

    def _order(
        self, run_id: RunId, job_id: JobId, task: int, attempt: int, probation: bool, lease_ms: int | None
    ) -> Claimed:
        """All that a worker needs of a run. Raises what a damaged row may raise."""
        name, command, timeout_ms, grace_ms, created_ms, updated_ms, *own = self._execute(sql.ORDER, (job_id,))[0]
        if not command:
            raise ValueError("the job has no command")
        return Claimed(
            run_id, job_id, task, attempt, name, command, timeout_ms, grace_ms, probation, created_ms, updated_ms,
            own[0], rows.variables(own[1]), rows.variables(own[2]), lease_ms,
        )  # fmt: skip

    def _quarantine(self, run_id: RunId, job_id: JobId, worker_id: WorkerId | None, why: str, now_ms: int) -> None:
        detail = f"the job's row can't be read: {why}"
        self._end(run_id, job_id, worker_id, FAILED, Reason.QUARANTINED, detail, now_ms, was=PENDING)

    def load(self, worker_id: WorkerId) -> Load:
        return Load(*self._execute(sql.LOAD, (worker_id,))[0])

    def held_by(self, worker_id: WorkerId) -> list[Holding]:
        return [
            Holding(
                run_id=RunId(run_id),
                job_id=JobId(job_id),
                handed_n=n,
                claimed_ms=claimed_ms,
                started=bool(started),
                probation=bool(probation),
                cancelled=bool(cancelled),
                crashes=crashes,
                stuck=bool(stuck),
                once=self._demand(DemandId(demand_id)).once,
            )
            for run_id, job_id, n, claimed_ms, started, probation, cancelled, crashes, stuck, demand_id in (
                self._execute(sql.HELD, (worker_id,))
            )
        ]

    def adopt(self, worker_id: WorkerId) -> None:
        self._execute(sql.ADOPT, (worker_id,))

    def shift(self, by_ms: int) -> None:
        self._execute(sql.SHIFT_DUE, (by_ms,))
        self._execute(sql.SHIFT_ENDS, (by_ms,))

    def start(self, run_id: RunId, worker_id: WorkerId, started_ms: int) -> bool:
        return bool(self._execute(sql.START, (started_ms, run_id, worker_id)))

    def clear_probation(self, run_id: RunId) -> None:
        self._execute(sql.CLEAR_PROBATION, (run_id,))

    def put_back(self, run_id: RunId, worker_id: WorkerId, reason: Reason, now_ms: int) -> bool:
        changed = self._execute(sql.PUT_BACK, (reason, now_ms, run_id, worker_id))
        for job_id, status, why in changed:
            self._moved(
                now_ms, "scheduler", job_id, run_id, RUNNING, RunStatus(status), worker_id=worker_id, reason=why
            )
        return bool(changed)

    # --- runs: how they end ---

    def finish(self, outcome: Outcome, worker_id: WorkerId, now_ms: int, *, text: bool = False) -> Verdict:
        ended = self._execute(
            sql.FINISH,
            (
                outcome.status, outcome.reason, outcome.detail or None, outcome.exit_code, outcome.signal,
                outcome.started_ms, outcome.finished_ms, outcome.run_id, worker_id,
            ),
        )  # fmt: skip
        if not ended:
            return self._refused(outcome, worker_id, now_ms)
        job_id, status, reason = ended[0]
        actor = f"worker {worker_id}"
        self._moved(
            now_ms, actor, job_id, outcome.run_id, RUNNING, RunStatus(status), worker_id=worker_id, reason=reason
        )
        out, err = outcome.stdout, outcome.stderr
        if out.total or err.total:
            form = "text" if text else "streams"
            kept = (form, out.head, out.tail, out.total, err.head, err.tail, err.total)
            self._execute(sql.ADD_OUTPUT, (outcome.run_id, *kept))
        return "stored"

    def _refused(self, outcome: Outcome, worker_id: WorkerId, now_ms: int) -> Verdict:
        run = self.run(outcome.run_id)
        if run is None:
            return "unknown"
        own_word = run.status in (RunStatus.SUCCESS, FAILED) and run.reason not in _DECIDED
        if run.worker_id == worker_id and (own_word or run.status is CANCELLED):
            return "duplicate"
        self._ledger.event(
            now_ms,
            f"worker {worker_id}",
            run.status,
            run.status,
            job_id=run.job_id,
            runs=(run.run_id, run.run_id),
            worker_id=worker_id,
            reason="stale",
            detail=f"{worker_id} says {outcome.status}, but the run is {run.status}",
        )
        return "stale"

    def lose(
        self, run_id: RunId, detail: str, *, crash: bool, suspect: bool, due_ms: int | None, now_ms: int
    ) -> RunStatus:
        found = self._execute(sql.LOSING, (run_id,))
        assert found, "only a running run can be lost"
        job_id, worker_id, attempt, crashes, failures, started, cancelled, stuck, demand_id, crash_limit = found[0]
        crashes += crash
        if cancelled:
            status, reason = CANCELLED, Reason.CANCELLED
        elif stuck:
            status, reason = FAILED, Reason.UNKILLABLE
        elif crash and crashes >= crash_limit:
            status, reason = FAILED, Reason.CRASH_LIMIT
        else:
            status, reason = FAILED, Reason.WORKER_LOST
        self._end(run_id, job_id, worker_id, status, reason, detail, now_ms, crash=crash)
        demand = self._demand(demand_id)
        if reason is not Reason.WORKER_LOST or demand.once:
            return status
        if crashes or suspect:
            demand_id = self._demand_id(replace(demand, probation=True))
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
        self._ledger.counted(job_id, FAILED, None)
        self._moved(now_ms, "scheduler", job_id, successor, None, PENDING, reason=why)
        return successor

    def stick(self, run_id: RunId, worker_id: WorkerId, now_ms: int) -> bool:
        stuck = self._execute(sql.SET_STUCK, (run_id, worker_id))
        for (job_id,) in stuck:
            self._ledger.event(
                now_ms, f"worker {worker_id}", RUNNING, RUNNING, job_id=job_id, runs=(run_id, run_id),
                worker_id=worker_id, reason="stuck", detail="its processes were killed and do not end",
            )  # fmt: skip
        return bool(stuck)

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

    def _end(
        self,
        run_id: RunId,
        job_id: JobId,
        worker_id: WorkerId | None,
        status: RunStatus,
        reason: Reason,
        detail: str,
        now_ms: int,
        *,
        was: RunStatus = RUNNING,
        crash: bool = False,
    ) -> None:
        """End a run by the scheduler's own decision."""
        self._execute(sql.END, (status, reason, detail or None, crash, now_ms, run_id))
        self._moved(now_ms, "scheduler", job_id, run_id, was, status, worker_id=worker_id, reason=reason, detail=detail)

    def run(self, run_id: RunId) -> Run | None:
        found = self._execute(sql.RUN, (run_id,))
        return rows.run(found[0]) if found else None

    def live_on(self, worker_id: WorkerId, job_id: JobId) -> list[Run]:
        return [rows.run(row) for row in self._execute(sql.LIVE_ON_WORKER, (worker_id, job_id))]

    def last_on(self, worker_id: WorkerId, job_id: JobId) -> Run | None:
        found = self._execute(sql.LAST_ON_WORKER, (job_id, worker_id))
        return rows.run(found[0]) if found else None

    # --- workers ---

    def worker(self, worker_id: WorkerId) -> Worker | None:
        found = self._execute(sql.WORKER, (worker_id,))
        return rows.worker(found[0]) if found else None

    def register(self, worker: Worker, now_ms: int) -> None:
        was = self._execute(sql.WORKER_STATUS, (worker.worker_id,))
        labels = json.dumps(dict(worker.labels or {}), sort_keys=True)
        identity = (worker.host, worker.incarnation, worker.boot_id, *worker.lock, worker.agent)
        self._execute(
            sql.REGISTER,
            (worker.worker_id, worker.kind, worker.slots, now_ms, now_ms, *identity, json.dumps(worker.can), labels),
        )
        before = was[0][0] if was else None
        self._worker_event(
            now_ms, f"worker {worker.worker_id}", before, WorkerStatus.ACTIVE, worker.worker_id, "registered"
        )

    def seen(self, worker_id: WorkerId, now_ms: int) -> None:
        was = self._execute(sql.WORKER_STATUS, (worker_id,))
        self._execute(sql.SEEN, (now_ms, worker_id))
        if was and was[0][0] != WorkerStatus.ACTIVE:
            self._worker_event(now_ms, f"worker {worker_id}", was[0][0], WorkerStatus.ACTIVE, worker_id, "seen")

    def retire(self, worker_id: WorkerId, reason: str, now_ms: int) -> None:
        was = self._execute(sql.WORKER_STATUS, (worker_id,))
        self._execute(sql.RETIRE, (worker_id,))
        if was and was[0][0] == WorkerStatus.ACTIVE:
            self._worker_event(now_ms, "scheduler", WorkerStatus.ACTIVE, WorkerStatus.INACTIVE, worker_id, reason)

    def active_workers(self) -> list[Worker]:
        return [rows.worker(row) for row in self._execute(sql.ACTIVE_WORKERS)]

    def _worker_event(
        self, now_ms: int, actor: str, was: str | None, became: str, worker_id: WorkerId, reason: str
    ) -> None:
        self._ledger.event(now_ms, actor, was, became, worker_id=worker_id, reason=reason)
