"""Jobs from submit to cancel, and an owner's jobs. Part of the write side (see core.py)."""

from __future__ import annotations

from collections.abc import Sequence

from zsched.model.demand import Demand
from zsched.model.events import EventKind
from zsched.model.lifecycle import Cause
from zsched.model.names import DEFAULT_QUEUE
from zsched.model.types import Blocked, Job, JobId, JobSpec, OnLost, RunId, RunStatus, WorkerId
from zsched.store import rows, sql, transitions
from zsched.store.contract import Cancelled, Target
from zsched.store.engine import Row
from zsched.store.ledger import Note
from zsched.store.lives import PENDING, RUNNING, Change, Lives

# What a job asks for: as Demand, without its owner. A tuple, because it is made for each job, and a demand for few.
Asked = tuple[tuple[str, ...], bool, str, tuple[tuple[str, int], ...]]


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
        keys = [_asked(spec) for spec in specs]
        known = {key: self._demand_id(self._demand_for(key, owner)) for key in dict.fromkeys(keys)}
        demands = [known[key] for key in keys]
        owner_id = self._numbers.owner_id(owner) if owner else None
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
        held = any(spec.is_held for spec in specs)
        at_once: list[tuple[JobId, Row]] = []
        for job_id, spec, demand_id in zip(job_ids, specs, demands, strict=True):
            if spec.schedule is not None:
                self._ledger.note(Note(at_ms=now_ms, actor=actor, became=EventKind.SCHEDULED, job_id=job_id))
            if spec.schedule is None or spec.run_now:
                run: Row = (job_id, demand_id, spec.priority, now_ms)
                at_once.append((job_id, (*run, *_holds(spec, now_ms)) if held else run))
        statement = transitions.ADD_HELD_RUN if held else transitions.ADD_RUN
        self._make(Cause.SUBMIT, statement, at_once, Change(at_ms=now_ms, actor=actor))
        return job_ids

    def _add_parts(self, job_ids: Sequence[JobId], specs: Sequence[JobSpec]) -> None:
        """Store what new jobs have in other tables: their inputs and their tags."""
        jobs = list(zip(job_ids, specs, strict=True))
        if inputs := [(job_id, spec.stdin) for job_id, spec in jobs if spec.stdin is not None]:
            self._engine.sendmany(sql.ADD_INPUT, inputs)
        if tags := [(tag, job_id) for job_id, spec in jobs for tag in spec.tags]:
            self._engine.sendmany(sql.ADD_TAG, tags)
        if keys := [(spec.unique, job_id) for job_id, spec in jobs if spec.unique is not None]:
            self._engine.sendmany(sql.HOLD_UNIQUE, keys)

    def _demand_for(self, asked: Asked, owner: str) -> Demand:
        """The demand of an owner's jobs."""
        needs, once, queue, limits = asked
        owner = owner if queue in self.queues.fair else ""
        return Demand(needs=needs, once=once, queue=queue, owner=owner, limits=limits)

    def count_new_demands(self, specs: Sequence[JobSpec], owner: str) -> int:
        fair = self.queues.fair
        keys = {_asked(spec) for spec in specs if spec.limits or spec.queue != DEFAULT_QUEUE or DEFAULT_QUEUE in fair}
        demands = [self._demand_id(self._demand_for(key, owner)) for key in keys]
        return sum(not self._tallies.is_live(demand_id) for demand_id in demands)

    @property
    def live_demands(self) -> int:
        return self._tallies.live

    def unique_holder(self, key: str) -> JobId | None:
        stored = self._execute(sql.FIND_UNIQUE, (key,))
        if not stored:
            return None
        last = self._execute(sql.LAST_FIRE_LIVES, stored[0])
        return JobId(stored[0][0]) if last and last[0][0] else None

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


def _asked(spec: JobSpec) -> Asked:
    limits = tuple(sorted(spec.limits.items())) if spec.limits else ()
    return spec.needs, spec.policy.on_lost is OnLost.FAIL, spec.queue, limits


def _holds(spec: JobSpec, now_ms: int) -> Row:
    """`blocked`, `due_ms` and `expires_ms` of a job's first run."""
    blocked = spec.blocked_at(now_ms)
    return blocked, spec.run_at_ms if blocked & ~Blocked.LIMITED else None, spec.deadline_ms
