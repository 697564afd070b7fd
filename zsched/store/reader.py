"""The read side on any engine: one reader per thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final, TypeVar

from zsched.model.access import Token, WorkerKey
from zsched.model.after import Dependency, Ends
from zsched.model.demand import Demand
from zsched.model.files import Listed, read_listing
from zsched.model.names import DEFAULT_QUEUE
from zsched.model.queues import Queue
from zsched.model.records import Event, ForeignRuns, Instance, Usage, UsageBy
from zsched.model.types import Job, JobId, Run, RunId, RunStatus, Stream, Worker, WorkerId, WorkerStatus
from zsched.store import after, array_sql, content_sql, filters, queues, ranges, removal, rows, sql, usage
from zsched.store.blocks import Blocks
from zsched.store.contract import EventFilter, JobFilter, Old, QueueState, RunOutput, Submitted, Task, Waits
from zsched.store.engine import ReadEngine, Row
from zsched.store.mapping import DAMAGED

T = TypeVar("T")

# Tasks of an array that a list reads at once.
_TASKS_AT_ONCE: Final = 1_000

# Tasks whose runs a list reads all and sorts.
_FEW_TASKS: Final = 1_000

# Above every id.
_ENDLESS: Final = 2**63 - 1


class EngineReader:
    """Implements contract.Reader. zsched/store/contract/ documents the methods."""

    def __init__(self, engine: ReadEngine) -> None:
        self._execute = engine.execute
        self._iterate = engine.iterate
        self._engine = engine
        self.close = engine.close

    def _each(self, read: Callable[[Row], T], statement: str, parameters: Sequence[object]) -> Generator[T]:
        with closing(self._iterate(statement, parameters)) as stored:
            yield from map(read, stored)

    def jobs(
        self,
        status: RunStatus | None,
        limit: int,
        offset: int = 0,
        before: JobId | None = None,
        owner: str | None = None,
    ) -> Generator[Job]:
        chosen = [value for value in (owner, status) if value is not None]
        if owner is None:
            statement = sql.JOBS if status is None else sql.JOBS_BY_STATUS
        else:
            statement = sql.JOBS_BY_OWNER if status is None else sql.JOBS_BY_OWNER_AND_STATUS
        return self._each(rows.job, statement, (*chosen, _ENDLESS if before is None else before, limit, offset))

    def search_jobs(self, wanted: JobFilter, first: JobId, last: JobId, limit: int) -> Generator[Job]:
        return self._each(rows.job, *filters.jobs(wanted, first, last, limit))

    def count_old(self, old: Old, first: JobId, last: JobId) -> int:
        return int(self._execute(removal.COUNT_OLD, (old.status, first, last, old.ended_ms, old.ended_ms))[0][0])

    def last_job(self) -> JobId:
        return JobId(self._execute(sql.LAST_JOB)[0][0])

    def job_since(self, at_ms: int) -> JobId:
        return JobId(self._since(sql.JOB_FROM, self.last_job(), at_ms))

    def _since(self, statement: str, last: int, at_ms: int) -> int:
        """The lowest id of a row with at least a time; last + 1 if there is none. `statement`: the first row from an id
        on, and its time. Times grow with the ids, so this halves the range.
        """
        low, high = 1, last + 1
        while low < high:
            middle = (low + high) // 2
            found = self._execute(statement, (middle,))
            if not found or found[0][1] >= at_ms:
                high = middle
            else:
                low = found[0][0] + 1
        return low

    def left(self, owner: str) -> tuple[int, int]:
        live = self._execute(sql.COUNT_LIVE_OF, (owner,))[0][0]
        return int(live), int(self._execute(sql.COUNT_RECURRING_OF, (owner, _ENDLESS))[0][0])

    def jobs_between(self, first: JobId, last: JobId, limit: int) -> Generator[Job]:
        return self._each(rows.job, sql.JOBS_BETWEEN, (first, last, limit))

    def count_jobs_between(self, first: JobId, last: JobId) -> int:
        return int(self._execute(sql.COUNT_JOBS_BETWEEN, (first, last))[0][0])

    def status(self, job_id: JobId) -> RunStatus | None:
        stored = self._execute(sql.STATUS, (job_id,))
        return RunStatus(stored[0][0]) if stored else None

    def statuses_between(self, first: JobId, last: JobId) -> Generator[tuple[JobId, RunStatus]]:
        return self._each(_status, sql.STATUSES_BETWEEN, (first, last))

    def unfinished(self, owner: str | None) -> Generator[JobId]:
        if owner is None:
            return self._each(_job_id, sql.UNFINISHED, ())
        return self._each(_job_id, sql.UNFINISHED_OF, (owner,))

    def job(self, job_id: JobId) -> Job | None:
        stored = self._execute(sql.JOB, (job_id,))
        return rows.job(stored[0]) if stored else None

    def last_run(self, job_id: JobId) -> Run | None:
        stored = self._execute(sql.RUNS_OF_JOB, (job_id, _ENDLESS, 1))
        return rows.run(stored[0]) if stored else None

    def runs(self, job_id: JobId, limit: int, before: RunId | None = None) -> Generator[Run]:
        return self._each(rows.run, sql.RUNS_OF_JOB, (job_id, _ENDLESS if before is None else before, limit))

    def task_runs(
        self, job_id: JobId, part: tuple[int, int], limit: int, before: RunId | None = None
    ) -> Generator[Run]:
        statement = array_sql.RUNS_OF_FEW if part[1] - part[0] < _FEW_TASKS else array_sql.RUNS_OF_MANY
        return self._each(rows.run, statement, (job_id, *part, _ENDLESS if before is None else before, limit))

    def tasks(self, job: Job, first: int, last: int, status: RunStatus | None = None) -> Generator[Task]:
        blocks = None if job.entries is None else Blocks(self._engine)
        assert job.array is not None
        array = job.array
        last = min(last, len(array) - 1)
        for begin in range(first, last + 1, _TASKS_AT_ONCE):
            low, high = array.at(begin), array.at(min(begin + _TASKS_AT_ONCE - 1, last))
            assert low is not None
            assert high is not None
            # First, so that a task without a run has a range: it may be made meanwhile.
            spans = ranges.overlapping(self._engine, job.job_id, low, high)
            last_runs = map(rows.run, self._execute(array_sql.LAST_RUNS, (job.job_id, low, high)))
            runs = {run.task: run for run in last_runs}
            without: dict[int, ranges.Range] = {}
            for span in spans:
                part = max(low, span.first), min(high, span.last)
                without |= dict.fromkeys(array.take(*part, _TASKS_AT_ONCE), span)
            for index in array.take(low, high, _TASKS_AT_ONCE):
                task = _task(index, without.get(index), runs.get(index))
                if task is not None and status in (None, task.status):
                    yield task if blocks is None else replace(task, entry=blocks.entry(job.job_id, index))

    def live_run(self, job_id: JobId) -> Run | None:
        stored = self._execute(array_sql.LIVE_RUN, (job_id,))
        return rows.run(stored[0]) if stored else None

    def has_unmade(self, job_id: JobId) -> bool:
        return bool(self._execute(array_sql.LOWEST_RANGE, (job_id, job_id)))

    def run(self, run_id: RunId) -> Run | None:
        stored = self._execute(sql.RUN, (run_id,))
        return rows.run(stored[0]) if stored else None

    def demand(self, run_id: RunId) -> Demand | None:
        stored = self._execute(sql.DEMAND_OF, (run_id,))
        return rows.readable_demand(stored[0][0]) if stored else None

    def output(self, run_id: RunId) -> RunOutput | None:
        stored = self._execute(content_sql.OUTPUT, (run_id,))
        if not stored:
            return None
        form, *kept = stored[0]
        stdout = Stream(head=kept[0], tail=kept[1], total=kept[2])
        stderr = Stream(head=kept[3], tail=kept[4], total=kept[5])
        return RunOutput(form == "text", stdout, stderr)

    def artifacts(self, run_id: RunId) -> list[Listed]:
        stored = self._execute(content_sql.ARTIFACTS, (run_id,))
        try:
            return read_listing(stored[0][0]) if stored else []
        except DAMAGED:
            return []

    def artifact(self, run_id: RunId, path: str) -> bytes | None:
        begin = 1
        for listed in self.artifacts(run_id):
            if listed.path == path:
                return bytes(self._execute(content_sql.ARTIFACT, (begin, listed.size, run_id))[0][0])
            begin += listed.size
        return None

    def waits_for(self, job_id: JobId, limit: int, *, same: bool = False) -> Waits:
        state = 2 if same else 0
        first = [
            (Dependency(parent_id, Ends(ends), task=None if task < 0 else task), rows.RUN_STATUS[status])
            for parent_id, task, ends, status in self._execute(after.WAITS_FOR, (job_id, state, limit))
        ]
        return Waits(first, int(self._execute(after.COUNT_WAITS, (job_id, state))[0][0]))

    def flow(self, flow: JobId) -> Generator[JobId]:
        return self._each(_job_id, after.FLOW_JOBS, (flow,))

    def count_flow(self, flow: JobId) -> dict[RunStatus, int]:
        return {rows.RUN_STATUS[status]: count for status, count in self._execute(after.FLOW_COUNTS, (flow,))}

    def queues(self) -> list[QueueState]:
        pending, running = Counter[str](), Counter[str]()
        for wish, waits, runs in self._execute(sql.TASKS_BY_DEMAND):
            demand = Demand() if wish is None else rows.readable_demand(wish)
            if demand is None:
                continue
            # The number of all tasks counts for the default queue, without those of the others.
            for name, sign in ((demand.queue, 1), (DEFAULT_QUEUE, -1)) if wish is not None else ((DEFAULT_QUEUE, 1),):
                pending[name] += sign * waits
                running[name] += sign * runs
        known = {queue.queue: queue for queue in map(rows.queue, self._execute(queues.QUEUES))}
        return [
            QueueState(known.get(name) or Queue(queue=name), pending[name], running[name])
            for name in sorted({DEFAULT_QUEUE, *pending, *known})
        ]

    def queue(self, name: str) -> Queue:
        stored = self._execute(queues.QUEUE, (name,))
        return rows.queue(stored[0]) if stored else Queue(queue=name)

    def running_by_key(self) -> dict[str, int]:
        taken = Counter[str]()
        for _, wish, _, running in self._execute(sql.LIVE_DEMANDS):
            if (demand := rows.readable_demand(wish)) is not None:
                taken.update(dict.fromkeys((key for key, _ in demand.limits), running))
        return taken

    def totals(self) -> dict[RunStatus, int]:
        stored = {RunStatus(status): tasks for status, tasks in self._execute(sql.TOTALS)}
        return {status: stored.get(status, 0) for status in RunStatus}

    def usage(self, by: UsageBy, since_ms: int, limit: int) -> list[Usage]:
        day = since_ms // usage.DAY_MS
        found = [_usage(key, counts) for key, *counts in self._execute(usage.USAGE, (by, day, limit))]
        if by is UsageBy.QUEUE:
            # Each run counts for an owner, and for a queue unless that is `default`.
            (every,), (elsewhere,) = (self._execute(usage.TOTAL_USAGE, (kind, day)) for kind in UsageBy)
            rest = [all_runs - others for all_runs, others in zip(every, elsewhere, strict=True)]
            if any(rest):
                found.append(_usage(DEFAULT_QUEUE, rest))
            found.sort(key=lambda used: (-used.run_ms, used.key))
        return found[:limit]

    def workers_by_status(self) -> dict[WorkerStatus, int]:
        stored = {WorkerStatus(status): count for status, count in self._execute(sql.WORKERS_BY_STATUS)}
        return {status: stored.get(status, 0) for status in WorkerStatus}

    def workers(self, after: str = "") -> Generator[Worker]:
        return self._each(rows.worker, sql.WORKERS, (after,))

    def worker(self, worker_id: WorkerId) -> Worker | None:
        stored = self._execute(sql.WORKER, (worker_id,))
        return rows.worker(stored[0]) if stored else None

    def foreign(self, worker: str = "", db: str = "") -> Generator[ForeignRuns]:
        return self._each(rows.foreign, sql.FOREIGN, (worker, db))

    def foreign_of(self, worker_id: WorkerId) -> list[ForeignRuns]:
        return [rows.foreign(row) for row in self._execute(sql.FOREIGN_OF, (worker_id,))]

    def foreign_undecided(self) -> tuple[int, int]:
        runs, workers = self._execute(sql.FOREIGN_UNDECIDED)[0]
        return int(runs), int(workers)

    def instances(self) -> list[Instance]:
        return [rows.instance(row) for row in self._execute(sql.INSTANCES)]

    def key_check(self) -> str | None:
        sealed: str | None = self._execute(sql.KEY_CHECK)[0][0]
        return sealed

    def submitted(self, caller: str, key: bytes, after_ms: int) -> Submitted | None:
        stored = self._execute(sql.SUBMITTED, (caller, key, after_ms))
        return rows.submitted(stored[0]) if stored else None

    def token(self, token_id: str) -> Token | None:
        stored = self._execute(sql.TOKEN, (token_id,))
        return rows.token(stored[0]) if stored else None

    def token_named(self, name: str) -> Token | None:
        stored = self._execute(sql.TOKEN_NAMED, (name,))
        return rows.token(stored[0]) if stored else None

    def tokens(self, after: str = "", *, valid_ms: int = 0) -> Generator[Token]:
        if not after:
            return self._each(rows.token, sql.TOKENS, (valid_ms, valid_ms))
        return self._each(rows.token, sql.TOKENS_AFTER, (valid_ms, valid_ms, after))

    def worker_keys(self, after: str = "", *, valid_ms: int = 0) -> Generator[WorkerKey]:
        if not after:
            return self._each(rows.key, sql.KEYS, (valid_ms,))
        return self._each(rows.key, sql.KEYS_AFTER, (valid_ms, after))

    def events(self, after: int, limit: int) -> Generator[Event]:
        return self._each(rows.event, sql.EVENTS, (after, limit))

    def search_events(self, wanted: EventFilter, first: int, last: int, limit: int) -> Generator[Event]:
        first_run = job = None
        if wanted.job is not None:
            stored = self._execute(sql.FIRST_RUN, (wanted.job,))
            first_run = RunId(stored[0][0]) if stored else None
        if wanted.run is not None and (run := self.run(wanted.run)) is not None:
            job = run.job_id
        return self._each(rows.event, *filters.events(wanted, first_run, job, (first, last), limit))

    def event_since(self, at_ms: int) -> int:
        return self._since(sql.EVENT_FROM, self.last_event(), at_ms)

    def last_event(self) -> int:
        return int(self._execute(sql.LAST_EVENT)[0][0])

    def jobs_of_events(self, after: int, limit: int) -> list[tuple[int, JobId | None]]:
        return [
            (event_id, None if job_id is None else JobId(job_id))
            for event_id, job_id in self._execute(sql.JOBS_OF_EVENTS, (after, limit))
        ]


def _task(index: int, span: ranges.Range | None, last: Run | None) -> Task | None:
    """A task by its range, or else by its last run; None if its job is being removed, and neither is left."""
    if span is not None:
        status = ranges.ENDS.get(span.state, RunStatus.PENDING)
        return Task(index=index, status=status, held=span.state == ranges.HELD, reason=span.reason, last=last)
    if last is None:
        return None
    return Task(index=index, status=last.status, held=bool(last.blocked & 8), reason=last.reason, last=last)


def _job_id(row: Row) -> JobId:
    return JobId(row[0])


def _status(row: Row) -> tuple[JobId, RunStatus]:
    return JobId(row[0]), rows.RUN_STATUS[row[1]]


def _usage(key: str, counts: Sequence[int]) -> Usage:
    success, failed, cancelled, run_ms = map(int, counts)
    return Usage(key=key, success=success, failed=failed, cancelled=cancelled, run_ms=run_ms)
