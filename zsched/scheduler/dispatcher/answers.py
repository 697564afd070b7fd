"""Replies with rows that the turn writes.

A caller's thread reads by a connection of its own, which may fail when the turn is stored already. Its caller would get
503 and repeat what was done. So these rows are read by the loop, in the turn's transaction. When that fails, the turn
fails, and nothing was done.

A verb of the store that returns its row needs no such read. A job's status follows from counters, which are written at
the end of the turn, so a job is read after that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from zsched.model.queues import Queue
from zsched.model.types import Job, JobId, Run, RunId
from zsched.scheduler.dispatcher.commands import JobState, RunState, TokenState
from zsched.scheduler.dispatcher.why import why
from zsched.store.contract import QueueState, Reader, StoreCorrupt

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deferred(Generic[T]):
    """A reply that `read` gets after the turn's tick and before its commit."""

    read: Callable[[Reader], T]


def job_state(job_id: JobId) -> Deferred[JobState]:
    """A job that exists, its last run and that run's output."""

    def read(reader: Reader) -> JobState:
        job = reader.job(job_id)
        assert job is not None
        last = _unless_damaged(lambda: telling_run(reader, job))
        output = None if last is None else _unless_damaged(lambda: reader.output(last.run_id))
        return JobState(job, last, output, why(reader, job, last))

    return Deferred(read)


def telling_run(reader: Reader, job: Job) -> Run | None:
    """The run that tells most of a job: its last one; of an array a live one, if there is one."""
    live = None if job.array is None else reader.live_run(job.job_id)
    return live or reader.last_run(job.job_id)


def run_state(run_id: RunId) -> Deferred[RunState]:
    """A run that exists, and its output."""

    def read(reader: Reader) -> RunState:
        run = reader.run(run_id)
        assert run is not None
        return RunState(run, _unless_damaged(lambda: reader.output(run_id)))

    return Deferred(read)


def queue_state(name: str) -> Deferred[QueueState]:
    """A queue, and how many tasks it has."""

    def read(reader: Reader) -> QueueState:
        known = {state.queue.queue: state for state in reader.queues()}
        return known.get(name) or QueueState(Queue(queue=name), 0, 0)

    return Deferred(read)


def token_state(token_id: str) -> Deferred[TokenState]:
    """A token that exists, and how many of its jobs are left."""

    def read(reader: Reader) -> TokenState:
        token = reader.token(token_id)
        assert token is not None
        return TokenState(token, *reader.left(token.owner))

    return Deferred(read)


def _unless_damaged(read: Callable[[], T | None]) -> T | None:
    """Read what an earlier turn has stored. If it is damaged, the answer lacks it: the command is done."""
    try:
        return read()
    except StoreCorrupt as error:
        log.error("an answer lacks a run or its output: %s", error)
        return None
