"""Jobs from submit to cancel, and an owner's jobs. Part of the write side (see core.py)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from zsched.model.demand import Demand
from zsched.model.events import EventKind
from zsched.model.types import DemandId, Job, JobId, JobSpec, OnLost, Reason, RunId, RunStatus, WorkerId
from zsched.store import rows, sql
from zsched.store.contract import Cancelled, Target
from zsched.store.core import Core
from zsched.store.engine import Row
from zsched.store.ledger import Note, Transition

PENDING, RUNNING, CANCELLED = RunStatus.PENDING, RunStatus.RUNNING, RunStatus.CANCELLED


class JobsWriter(Core):
    """The role contract.Jobs."""

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
        keys = [(spec.needs, spec.policy.on_lost is OnLost.FAIL) for spec in specs]
        known = {(needs, once): self._demand_id(Demand(needs=needs, once=once)) for needs, once in set(keys)}
        demands = [known[key] for key in keys]
        owner_id = self._owner_id(owner) if owner else None
        jobs: list[Row] = [
            (
                *rows.row_of_job_fields(spec), *rows.row_of_policy(spec.policy),
                demand_id, next_fire_ms, now_ms, now_ms, owner_id, metered,
            )
            for spec, demand_id, next_fire_ms in zip(specs, demands, next_fires, strict=True)
        ]  # fmt: skip
        job_ids = [JobId(number) for number in self._add(sql.ADD_JOB, jobs)]
        at_once: list[tuple[JobId, DemandId]] = []
        for job_id, spec, demand_id in zip(job_ids, specs, demands, strict=True):
            if spec.schedule is not None:
                self._ledger.note(Note(at_ms=now_ms, actor=actor, became=EventKind.SCHEDULED, job_id=job_id))
            if spec.schedule is None or spec.run_now:
                at_once.append((job_id, demand_id))
        self._add_runs(at_once, actor, now_ms)
        return job_ids

    def _add_runs(self, at_once: Sequence[tuple[JobId, DemandId]], actor: str, now_ms: int) -> None:
        """Make the first run of each job."""
        added = self._add(sql.ADD_RUN, [(job_id, demand_id, 0, now_ms) for job_id, demand_id in at_once])
        if len(added) == 1:
            self._record_transition(
                Transition(
                    at_ms=now_ms, actor=actor, job_id=at_once[0][0], run_id=RunId(added[0]), was=None, became=PENDING
                )
            )
        elif added:
            runs = RunId(added[0]), RunId(added[-1])
            self._ledger.record_created(now_ms, actor, [job_id for job_id, _ in at_once], runs)

    def _add(self, insert: str, values: Sequence[Row]) -> list[int]:
        """Insert rows by few statements; returns their ids, which rise."""
        added: list[Row] = []
        for batch in sql.batches(values):
            added += sorted(self._execute(sql.for_rows(insert, len(batch)), list(chain.from_iterable(batch))))
        return [row[0] for row in added]

    def _owner_id(self, owner: str) -> int:
        """The number of an owner in this database; a new owner gets the next one."""
        owner_id = self._owner_ids.get(owner)
        if owner_id is None:
            stored = self._execute(sql.FIND_OWNER, (owner,)) or self._execute(sql.ADD_OWNER, (owner,))
            owner_id = self._owner_ids[owner] = int(stored[0][0])
        return owner_id

    def pending_tasks(self) -> int:
        return int(self._execute(sql.TOTAL_PENDING)[0][0]) + self._ledger.pending

    def cancel(self, job_id: JobId, actor: str, now_ms: int) -> Cancelled:
        pending = self._execute(sql.CANCEL_PENDING, (actor, now_ms, now_ms, job_id))
        for (run_id,) in pending:
            self._record_transition(
                Transition(
                    at_ms=now_ms, actor=actor, job_id=job_id, run_id=run_id, was=PENDING, became=CANCELLED,
                    reason=Reason.CANCELLED,
                )
            )  # fmt: skip
        running = [
            (WorkerId(worker_id), RunId(run_id)) for worker_id, run_id in self._execute(sql.RUNNING_OF_JOB, (job_id,))
        ]
        if pending or running:
            self._execute(sql.MARK_JOB_CANCELLED, (actor, now_ms, now_ms, job_id))
        if running:
            self._execute(sql.MARK_CANCELLED, (actor, now_ms, job_id))
        for worker_id, run_id in running:
            self._ledger.note(
                Note(
                    at_ms=now_ms, actor=actor, job_id=job_id, run_id=run_id, worker_id=worker_id, was=RUNNING,
                    became=RUNNING, reason="cancel",
                )
            )  # fmt: skip
        return Cancelled(len(pending), running)

    def edit(self, job: Job, actor: str, detail: str, now_ms: int) -> None:
        timeout_ms = job.policy.timeout_ms
        self._execute(
            sql.EDIT_JOB, (job.name, job.command, job.schedule, timeout_ms, job.next_fire_ms, now_ms, job.job_id)
        )
        event = Note(at_ms=now_ms, actor=actor, became=EventKind.JOB_EDITED, job_id=job.job_id, detail=detail)
        self._ledger.note(event)

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
        # One statement for each status, so that both read the index in the order of the ids.
        targets: list[Target] = []
        for status in (PENDING, RUNNING):
            if owner is None:
                targets += self._targets(sql.LIVE, (status, after, count))
            else:
                targets += self._targets(sql.LIVE_OF, (owner, status, after, count))
        targets.sort(key=lambda target: target.job_id)
        return targets[:count]

    def between(self, first: JobId, last: JobId, count: int) -> list[Target]:
        return self._targets(sql.TARGETS_BETWEEN, (first, last, count))

    def _targets(self, statement: str, parameters: Row) -> list[Target]:
        return [
            Target(JobId(job_id), owner or "", RunStatus(status))
            for job_id, owner, status in self._execute(statement, parameters)
        ]
