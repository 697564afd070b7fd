"""The answers to callers: the rows that the turn has written, read in its own transaction before the commit.

A caller's thread has its own connection, where a read may fail after the turn is stored. The caller would get 503 and
repeat a command that was done. When a read fails here, the turn fails, and nothing was done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from zsched.model.types import Job, RunId
from zsched.scheduler.dispatcher.commands import (
    Cancel,
    Command,
    DecideForeign,
    EditJob,
    EndSchedule,
    ForeignState,
    JobState,
    PauseSchedule,
    RegisterWorker,
    Reply,
    Report,
    ResumeSchedule,
    RevokeKey,
    RevokeToken,
    RunState,
    TokenState,
)
from zsched.scheduler.dispatcher.why import why
from zsched.store.contract import Reader, StoreCorrupt

log = logging.getLogger(__name__)

T = TypeVar("T")


def complete(reads: Reader, command: Command, reply: Reply) -> Reply:
    """The reply to a command that was done, with the rows that it is about. Called after the turn's tick."""
    match command:
        case Cancel(job_id) | PauseSchedule(job_id) | ResumeSchedule(job_id) | EndSchedule(job_id) | EditJob(job_id):
            job = reads.job(job_id)
            assert job is not None
            return _job_state(reads, job)
        case Report():
            assert isinstance(reply, int)
            run = reads.run(RunId(reply))
            assert run is not None
            return RunState(run, _unless_damaged(lambda: reads.output(run.run_id)))
        case RegisterWorker(worker_id):
            return reads.worker(worker_id)
        case RevokeToken(token_id):
            token = reads.token(token_id)
            assert token is not None
            return TokenState(token, *reads.left(token.owner))
        case RevokeKey(worker_id):
            return reads.last_revoked_key(worker_id)
        case DecideForeign(worker_id):
            return ForeignState(tuple(reads.foreign_of(worker_id)))
        case _:
            return reply


def _job_state(reads: Reader, job: Job) -> JobState:
    last = _unless_damaged(lambda: reads.last_run(job.job_id))
    output = None if last is None else _unless_damaged(lambda: reads.output(last.run_id))
    return JobState(job, last, output, why(reads, job, last))


def _unless_damaged(read: Callable[[], T | None]) -> T | None:
    """Read what an earlier turn has stored. If it is damaged, the answer lacks it: the command is done."""
    try:
        return read()
    except StoreCorrupt as error:
        log.error("an answer lacks a run or its output: %s", error)
        return None
