"""Jobs from submit to cancel, and an owner's jobs. Part of the write side (see core.py)."""

from __future__ import annotations

from collections.abc import Sequence

from zsched.model.demand import Demand
from zsched.model.events import EventKind
from zsched.model.lifecycle import Cause
from zsched.model.types import Job, JobId, JobSpec, OnLost, RunId, RunStatus, WorkerId
from zsched.store import rows, sql, transitions
from zsched.store.contract import Cancelled, Target
from zsched.store.engine import Row
from zsched.store.ledger import Note
from zsched.store.lives import PENDING, RUNNING, Change, Lives


class JobsWriter(Lives):
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
                demand_id, next_fire_ms, now_ms, now_ms, owner_id, int(metered),
                spec.stdin_bytes,
            )
            for spec, demand_id, next_fire_ms in zip(specs, demands, next_fires, strict=True)
        ]  # fmt: skip
        job_ids = [JobId(number) for number in self._insert("jobs", sql.ADD_JOB, jobs)]
        self._add_parts(job_ids, specs)
        timed = any(spec.is_timed for spec in specs)
        at_once: list[tuple[JobId, Row]] = []
        # The places of fires in that list.
        fires: list[int] = []
        for job_id, spec, demand_id in zip(job_ids, specs, demands, strict=True):
            if spec.schedule is not None:
                self._ledger.note(Note(at_ms=now_ms, actor=actor, became=EventKind.SCHEDULED, job_id=job_id))
            if spec.schedule is None or spec.run_now:
                if spec.schedule is not None:
                    fires.append(len(at_once))
                run: Row = (job_id, demand_id, 0, now_ms)
                at_once.append((job_id, (*run, *_times(spec, now_ms)) if timed else run))
        statement = transitions.ADD_TIMED_RUN if timed else transitions.ADD_RUN
        runs = self._make(Cause.SUBMIT, statement, at_once, Change(at_ms=now_ms, actor=actor))
        if fires:
            self._engine.sendmany(sql.ADD_FIRST_RUN, [(at_once[place][0], runs[place]) for place in fires])
        return job_ids

    def _add_parts(self, job_ids: Sequence[JobId], specs: Sequence[JobSpec]) -> None:
        """Store what new jobs have in other tables: their inputs and their tags."""
        jobs = list(zip(job_ids, specs, strict=True))
        if inputs := [(job_id, spec.stdin) for job_id, spec in jobs if spec.stdin is not None]:
            self._engine.sendmany(sql.ADD_INPUT, inputs)
        if tags := [(tag, job_id) for job_id, spec in jobs for tag in spec.tags]:
            self._engine.sendmany(sql.ADD_TAG, tags)

    def _owner_id(self, owner: str) -> int:
        """The number of an owner in this database; a new owner gets the next one."""
        owner_id = self._owner_ids.get(owner)
        if owner_id is None:
            stored = self._execute(sql.FIND_OWNER, (owner,))
            owner_id = self._owner_ids[owner] = int(stored[0][0]) if stored else self._add_owner(owner)
        return owner_id

    def _add_owner(self, owner: str) -> int:
        owner_id = self._engine.take_ids("owners", 1)
        self._engine.send(sql.ADD_OWNER, (owner_id, owner), rows=1)
        return owner_id

    def pending_tasks(self) -> int:
        if self._ahead.pending is None:
            self._ahead.pending = int(self._execute(sql.TOTAL_PENDING)[0][0])
        return self._ahead.pending + self._ledger.pending

    def cancel(self, job_id: JobId, actor: str, now_ms: int) -> Cancelled:
        change = Change(at_ms=now_ms, actor=actor)
        values = (actor, now_ms, now_ms, job_id)
        pending = self._move((PENDING, Cause.CANCEL), transitions.CANCEL_PENDING, values, change)
        running = self._execute(transitions.RUNNING_OF_JOB, (job_id,))
        if pending or running:
            self._execute(sql.MARK_JOB_CANCELLED, values)
        if running:
            marks = (actor, now_ms, job_id)
            self._move((RUNNING, Cause.CANCEL), transitions.MARK_CANCELLED, marks, change, running)
        return Cancelled(len(pending), [(WorkerId(worker_id), RunId(run_id)) for run_id, _, worker_id, *_ in running])

    def edit(self, job: Job, actor: str, detail: str, now_ms: int) -> None:
        argv = rows.argv_text(job.argv)
        timeout_ms = job.policy.timeout_ms
        values = (job.name, job.command, argv, job.schedule, timeout_ms, job.next_fire_ms, now_ms, job.job_id)
        self._execute(sql.EDIT_JOB, values)
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


def _times(spec: JobSpec, now_ms: int) -> Row:
    """`blocked`, `due_ms` and `expires_ms` of a job's first run."""
    blocked = spec.blocked_at(now_ms)
    return blocked, spec.run_at_ms if blocked else None, spec.deadline_ms
