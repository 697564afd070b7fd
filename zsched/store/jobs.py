"""Jobs from submit to cancel, and an owner's jobs. Part of the write side (see core.py)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from zsched.model.blocked import Blocked
from zsched.model.demand import Demand
from zsched.model.events import EventKind
from zsched.model.files import pack
from zsched.model.lifecycle import TERMINAL, Cause
from zsched.model.names import DEFAULT_QUEUE
from zsched.model.requirements import NOTHING, Requirements
from zsched.model.types import DemandId, Job, JobId, JobSpec, OnLost, RunId, RunStatus, WorkerId
from zsched.store import acts, array_sql, content_sql, rows, sql, transitions
from zsched.store.contract import Cancelled, Target
from zsched.store.dependencies import DependenciesWriter
from zsched.store.engine import Row
from zsched.store.ledger import Note
from zsched.store.lives import PENDING, RUNNING, Change
from zsched.store.tasks import ALL

# What a job asks for: as Demand, without its owner. A tuple, because it is made for each job, and a demand for few.
Asked = tuple[tuple[str, ...], bool, str, Requirements, tuple[tuple[str, int], ...]]


class JobsWriter(DependenciesWriter):
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
        wanted = {key: self._demand_for(key, owner) for key in dict.fromkeys(keys)}
        if len(wanted) > 1:
            # Read or stored together. Then each is known.
            self._numbers.demand_ids(wanted.values())
        known = {key: self._demand_id(demand) for key, demand in wanted.items()}
        demands = [known[key] for key in keys]
        owner_id = self._numbers.owner_id(owner) if owner else None
        first = JobId(self._engine.take_ids("jobs", len(specs)))
        specs = [spec.numbered(first) for spec in specs]
        jobs: list[Row] = [
            (
                *rows.row_of_job_fields(spec), *rows.row_of_policy(spec.policy),
                *rows.row_of_requirements(spec.requires),
                demand_id, next_fire_ms, now_ms, now_ms, owner_id, int(metered),
                spec.stdin_bytes, spec.each.count if spec.each is not None else None, spec.files_bytes,
                int(_runs_at_once(spec)),
            )
            for spec, demand_id, next_fire_ms in zip(specs, demands, next_fires, strict=True)
        ]  # fmt: skip
        job_ids = [JobId(number) for number in self._insert("jobs", sql.ADD_JOB, jobs, first)]
        self._add_parts(job_ids, specs)
        held = any(spec.is_held for spec in specs)
        at_once: list[tuple[JobId, int, Row]] = []
        # The places of fires in that list.
        fires: list[int] = []
        for job_id, spec, demand_id in zip(job_ids, specs, demands, strict=True):
            if spec.schedule is not None:
                self._ledger.note(Note(at_ms=now_ms, actor=actor, became=EventKind.SCHEDULED, job_id=job_id))
            if spec.array is not None:
                self._add_tasks(job_id, spec, actor, now_ms)
            if _runs_at_once(spec):
                if spec.schedule is not None:
                    fires.append(len(at_once))
                run: Row = (job_id, demand_id, spec.priority, now_ms)
                at_once.append((job_id, demand_id, (*run, *_holds(spec, now_ms)) if held else run))
        statement = transitions.ADD_HELD_RUN if held else transitions.ADD_RUN
        runs = self._make(Cause.SUBMIT, statement, at_once, Change(at_ms=now_ms, actor=actor), counted=True)
        self._await_parents((job_id, spec.after) for job_id, spec in zip(job_ids, specs, strict=True))
        if fires:
            self._engine.sendmany(sql.ADD_FIRST_RUN, [(at_once[place][0], runs[place]) for place in fires])
        self._hold([job_id for job_id, spec in zip(job_ids, specs, strict=True) if spec.hold], actor, "", now_ms)
        return job_ids

    def _add_parts(self, job_ids: Sequence[JobId], specs: Sequence[JobSpec]) -> None:
        """Store what new jobs have in other tables: their inputs, files, tags and unique keys."""
        jobs = list(zip(job_ids, specs, strict=True))
        if inputs := [(job_id, spec.stdin) for job_id, spec in jobs if spec.stdin is not None]:
            self._engine.sendmany(content_sql.ADD_INPUT, inputs)
        if files := [(job_id, *pack(spec.files)) for job_id, spec in jobs if spec.files]:
            self._engine.sendmany(content_sql.ADD_FILES, files)
        if tags := [(tag, job_id) for job_id, spec in jobs for tag in spec.tags]:
            self._engine.sendmany(sql.ADD_TAG, tags)
        if keys := [(spec.unique, job_id) for job_id, spec in jobs if spec.unique is not None]:
            self._engine.sendmany(sql.HOLD_UNIQUE, keys)

    def _demand_for(self, asked: Asked, owner: str) -> Demand:
        """The demand of an owner's jobs."""
        needs, once, queue, requires, limits = asked
        owner = owner if queue in self.queues.fair else ""
        return Demand(needs=needs, once=once, queue=queue, requires=requires, owner=owner, limits=limits)

    def count_new_demands(self, specs: Sequence[JobSpec], owner: str) -> int:
        fair = self.queues.fair
        all_count = DEFAULT_QUEUE in fair
        keys = {
            _asked(spec)
            for spec in specs
            if all_count or spec.limits or spec.queue != DEFAULT_QUEUE or spec.requires is not NOTHING
        }
        return self._count_new([self._demand_for(key, owner) for key in keys])

    def adds_demand(self, job: Job) -> bool:
        demand = self._demand_of(job)
        return demand.tallied and self._count_new([demand]) > 0

    def _count_new(self, demands: Collection[Demand]) -> int:
        """How many more live demands that are counted pending runs of these would make. Stores nothing."""
        if not demands:
            return 0
        found = self._numbers.find_demands(demands)
        return len(demands) - sum(map(self._tallies.is_live, found.values()))

    def _demand_of(self, job: Job) -> Demand:
        """The demand of a stored job in the queue that is given, which may be another than before."""
        ((demand_id,),) = self._execute(acts.DEMAND_OF_JOB, (job.job_id,))
        return self._in_queue_of(job, self._demand(DemandId(demand_id)))

    def _in_queue_of(self, job: Job, demand: Demand) -> Demand:
        if demand.queue == job.queue:
            return demand
        return replace(demand, queue=job.queue, owner=job.owner if job.queue in self.queues.fair else "")

    @property
    def live_demands(self) -> int:
        return self._tallies.live

    def live_demands_of(self, owner: str) -> int:
        return self._tallies.live_of(owner)

    def unique_holders(self, keys: Collection[str]) -> dict[str, JobId]:
        held = self._engine.execute_list(sql.FIND_UNIQUE, [(key,) for key in keys])
        return {
            key: JobId(job_id)
            for key, job_id, lives in held
            if (self.last_fire_lives(job_id) if job_id in self._arrays else lives)
        }

    def pending_tasks(self) -> int:
        if self._ahead.pending is None:
            self._ahead.pending = int(self._execute(sql.TOTAL_PENDING)[0][0])
        return self._ahead.pending + self._ledger.pending

    def cancel(self, job_id: JobId, actor: str, now_ms: int, reason: str = "") -> Cancelled:
        if job_id in self._arrays:
            return self.cancel_tasks(job_id, actor, now_ms, reason)
        change = Change(at_ms=now_ms, actor=actor, detail=reason)
        values = (actor, now_ms, now_ms, job_id)
        pending = self._move((PENDING, Cause.CANCEL), transitions.CANCEL_PENDING, values, change)
        running = self._execute(transitions.RUNNING_OF_JOB, (job_id,))
        if pending or running:
            self._execute(sql.MARK_JOB_CANCELLED, (actor, now_ms, reason or None, now_ms, job_id))
        if running:
            marks = (actor, now_ms, job_id)
            self._move((RUNNING, Cause.CANCEL), transitions.MARK_CANCELLED, marks, change, running)
        return Cancelled(len(pending), [(WorkerId(worker_id), RunId(run_id)) for run_id, _, worker_id, *_ in running])

    # --- hold, release and rerun ---

    def hold(self, job_id: JobId, actor: str, reason: str, now_ms: int) -> bool:
        return self._hold([job_id], actor, reason, now_ms)

    def _hold(self, job_ids: Sequence[JobId], actor: str, reason: str, now_ms: int) -> bool:
        """Hold jobs; returns whether any was not held before."""
        if not job_ids:
            return False
        self._ahead.waiting = None
        values = [(now_ms, reason or None, now_ms, job_id) for job_id in job_ids]
        held = [JobId(job_id) for (job_id,) in self._engine.executemany(acts.HOLD_JOB, values)]
        self._engine.executemany(acts.HOLD_RUNS, [(job_id,) for job_id in held if job_id not in self._arrays])
        for job_id in held:
            if job_id in self._arrays:
                self._close_tasks(job_id)
        for job_id in sorted(held):
            note = Note(at_ms=now_ms, actor=actor, job_id=job_id, became=EventKind.HELD, detail=reason)
            self._ledger.note(note)
        return bool(held)

    def release(self, job_id: JobId, actor: str, reason: str, now_ms: int) -> bool:
        released = self._execute(acts.RELEASE_JOB, (now_ms, job_id))
        if not released:
            # Tasks may be held by their indexes.
            return job_id in self._arrays and self.release_tasks(job_id, ALL, actor, reason, now_ms) > 0
        if job_id in self._arrays:
            self._open_tasks(job_id)
        elif not released[0][0]:
            self._ahead.waiting = None
            self._execute(acts.RELEASE_RUNS, (job_id,))
        note = Note(at_ms=now_ms, actor=actor, job_id=job_id, became=EventKind.RELEASED, detail=reason)
        self._ledger.note(note)
        return True

    def rerun(self, job_id: JobId, actor: str, reason: str, now_ms: int) -> RunId | None:
        last = self._execute(acts.LAST_RUN, (job_id,))
        if not last or RunStatus(last[0][1]) not in TERMINAL:
            return None
        self._execute(acts.REVIVE_JOB, (job_id,))
        run_id, status, demand_id, unique, linked, metered = last[0]
        if unique is not None:
            self._engine.send(sql.HOLD_UNIQUE, (unique, job_id), rows=1)
        blocked = Blocked.LIMITED if self._demand(DemandId(demand_id)).limits else 0
        if linked:
            job = self.job(job_id)
            assert job is not None
            blocked |= Blocked.PARENTS if self._await_again(job_id, job.after) else 0
        change = Change(at_ms=now_ms, actor=actor, detail=reason)
        new = [(job_id, demand_id, (demand_id, blocked, now_ms, now_ms, run_id))]
        self._ledger.note_rerun(job_id, metered)
        return self._make(Cause.RERUN, transitions.RERUN, new, change, replaced=RunStatus(status))[0]

    def edit(self, job: Job, actor: str, detail: str, now_ms: int) -> None:
        before = self.job(job.job_id)
        assert before is not None
        # Only what differs is written: a field that can't be read stays as it is.
        changed = {
            column: value
            for column, value, stored in zip(acts.EDITED, _row(job), _row(before), strict=True)
            if value != stored
        }
        self._ahead.waiting = None
        values = (*changed.values(), job.next_fire_ms, now_ms, job.job_id)
        self._execute(acts.edit(tuple(changed)), values)
        for column in changed.keys() & acts.RUN_COLUMNS.keys():
            self._execute(acts.edit_runs(column, of_array=job.array is not None), (changed[column], job.job_id))
        if "tags" in changed:
            for tag in before.tags:
                self._engine.send(sql.DELETE_TAG, (tag, job.job_id), rows=1)
            self._engine.sendmany(sql.ADD_TAG, [(tag, job.job_id) for tag in job.tags])
        if "queue" in changed:
            self._change_queue(job)
        if job.array is not None:
            self._arrays.stir([job.job_id])
        event = Note(at_ms=now_ms, actor=actor, became=EventKind.JOB_EDITED, job_id=job.job_id, detail=detail)
        self._ledger.note(event)

    def _change_queue(self, job: Job) -> None:
        """The queue is a part of the demand of the job and of its pending runs."""
        self._engine.send(acts.SET_DEMAND, (self._demand_id(self._demand_of(job)), job.job_id), rows=1)
        if job.array is not None:
            self._change_queue_of_tasks(job)
            return
        for run_id, before in self._execute(acts.PENDING_RUNS, (job.job_id,)):
            # That of a suspect is on probation.
            after = self._demand_id(self._in_queue_of(job, self._demand(DemandId(before))))
            self._engine.send(acts.SET_DEMAND_OF_RUN, (after, run_id), rows=1)
            self._tally([before], PENDING, RunStatus.CANCELLED)
            self._tally([after], None, PENDING)

    def _change_queue_of_tasks(self, job: Job) -> None:
        """The same for the runs of an array: all of a demand at once."""
        for before, runs in self._execute(array_sql.PENDING_DEMANDS, (job.job_id,)):
            after = self._demand_id(self._in_queue_of(job, self._demand(DemandId(before))))
            self._execute(array_sql.SET_DEMAND, (after, job.job_id, before))
            self._tally([before] * runs, PENDING, RunStatus.CANCELLED)
            self._tally([after] * runs, None, PENDING)

    # --- jobs of an owner ---

    def count_metered(self, owner: str, most: int) -> int:
        counted = int(self._execute(sql.COUNT_METERED, (owner, most))[0][0])
        return min(most, counted + self._ledger.revived_of(owner))

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

    def held(self, owner: str | None, after: JobId, count: int) -> list[Target]:
        if owner is None:
            return self._targets(acts.HELD_JOBS, (after, count))
        return self._targets(acts.HELD_JOBS_OF, (owner, after, count))

    def ended(self, owner: str | None, status: RunStatus, after: JobId, count: int) -> list[Target]:
        if owner is None:
            return self._targets(acts.ENDED_TARGETS, (status, after, count))
        return self._targets(acts.ENDED_TARGETS_OF, (owner, status, after, count))

    def between(self, first: JobId, last: JobId, count: int) -> list[Target]:
        return self._targets(sql.TARGETS_BETWEEN, (first, last, count))

    def _targets(self, statement: str, parameters: Row) -> list[Target]:
        # Their counters do not show yet that they are live.
        revived = self._ledger.revived()
        return [
            Target(JobId(job_id), owner or "", PENDING if job_id in revived else RunStatus(status))
            for job_id, owner, status in self._execute(statement, parameters)
        ]


def _asked(spec: JobSpec) -> Asked:
    limits = tuple(sorted(spec.limits.items())) if spec.limits else ()
    return spec.needs, spec.policy.on_lost is OnLost.FAIL, spec.queue, spec.requires, limits


def _runs_at_once(spec: JobSpec) -> bool:
    """Whether the submit of a job makes a run. That of an array makes its first runs in another way."""
    return spec.array is None and (spec.schedule is None or spec.run_now)


def _holds(spec: JobSpec, now_ms: int) -> Row:
    """`blocked`, `due_ms` and `expires_ms` of a job's first run."""
    blocked = spec.blocked_at(now_ms)
    return blocked, spec.run_at_ms if blocked & (Blocked.DUE | Blocked.DATE) else None, spec.deadline_ms


def _row(job: Job) -> Row:
    """The values of acts.EDITED."""
    return (*rows.row_of_job_fields(job), *rows.row_of_policy(job.policy))
