"""The store's read side, on any engine: one Reader for each thread (see contract.py)."""

from __future__ import annotations

from zsched.limits import PENDING_RUNS_MAX
from zsched.model import (
    Event,
    Job,
    JobId,
    Run,
    RunId,
    RunStatus,
    Stream,
    Token,
    Worker,
    WorkerId,
    WorkerKey,
    WorkerStatus,
)
from zsched.store import rows, sql
from zsched.store.contract import RunOutput, Submitted
from zsched.store.engine import Engine


class EngineReader:
    """Implements contract.Reader; its methods' contracts stand there."""

    def __init__(self, engine: Engine) -> None:
        self._execute = engine.execute
        self.close = engine.close

    def jobs(self, status: RunStatus | None, limit: int, offset: int, owner: str | None = None) -> list[Job]:
        given = [value for value in (owner, status) if value is not None]
        if owner is None:
            statement = sql.JOBS if status is None else sql.JOBS_BY_STATUS
        else:
            statement = sql.JOBS_BY_OWNER if status is None else sql.JOBS_BY_OWNER_AND_STATUS
        return [rows.job(row) for row in self._execute(statement, (*given, limit, offset))]

    def left(self, owner: str) -> tuple[int, int]:
        live = self._execute(sql.COUNT_LIVE_OF, (owner,))[0][0]
        return int(live), int(self._execute(sql.COUNT_RECURRING_OF, (owner, PENDING_RUNS_MAX))[0][0])

    def jobs_between(self, first: JobId, last: JobId) -> list[Job]:
        return [rows.job(row) for row in self._execute(sql.JOBS_BETWEEN, (first, last))]

    def job(self, job_id: JobId) -> Job | None:
        found = self._execute(sql.JOB, (job_id,))
        return rows.job(found[0]) if found else None

    def last_run(self, job_id: JobId) -> Run | None:
        found = self.runs(job_id, 1)
        return found[0] if found else None

    def runs(self, job_id: JobId, limit: int) -> list[Run]:
        return [rows.run(row) for row in self._execute(sql.RUNS_OF_JOB, (job_id, limit))]

    def run(self, run_id: RunId) -> Run | None:
        found = self._execute(sql.RUN, (run_id,))
        return rows.run(found[0]) if found else None

    def output(self, run_id: RunId) -> RunOutput | None:
        found = self._execute(sql.OUTPUT, (run_id,))
        if not found:
            return None
        form, *kept = found[0]
        stdout = Stream(head=kept[0], tail=kept[1], total=kept[2])
        stderr = Stream(head=kept[3], tail=kept[4], total=kept[5])
        return RunOutput(form == "text", stdout, stderr)

    def totals(self) -> dict[RunStatus, int]:
        found = {RunStatus(status): tasks for status, tasks in self._execute(sql.TOTALS)}
        return {status: found.get(status, 0) for status in RunStatus}

    def workers_by_status(self) -> dict[WorkerStatus, int]:
        found = {WorkerStatus(status): count for status, count in self._execute(sql.WORKERS_BY_STATUS)}
        return {status: found.get(status, 0) for status in WorkerStatus}

    def workers(self) -> list[Worker]:
        return [rows.worker(row) for row in self._execute(sql.WORKERS)]

    def worker(self, worker_id: WorkerId) -> Worker | None:
        found = self._execute(sql.WORKER, (worker_id,))
        return rows.worker(found[0]) if found else None

    def submitted(self, caller: str, key: bytes, after_ms: int) -> Submitted | None:
        found = self._execute(sql.SUBMITTED, (caller, key, after_ms))
        return rows.submitted(found[0]) if found else None

    def token(self, token_id: str) -> Token | None:
        found = self._execute(sql.TOKEN, (token_id,))
        return rows.token(found[0]) if found else None

    def token_named(self, name: str) -> Token | None:
        found = self._execute(sql.TOKEN_NAMED, (name,))
        return rows.token(found[0]) if found else None

    def tokens(self) -> list[Token]:
        return [rows.token(row) for row in self._execute(sql.TOKENS)]

    def worker_keys(self) -> list[WorkerKey]:
        return [rows.key(row) for row in self._execute(sql.KEYS)]

    def events(self, after: int, limit: int) -> list[Event]:
        return [rows.event(row) for row in self._execute(sql.EVENTS, (after, limit))]
