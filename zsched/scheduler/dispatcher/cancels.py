"""A job is cancelled: pending runs end at once, and workers are asked to end the running ones."""

from __future__ import annotations

from collections import defaultdict
from typing import Literal, Protocol

from zsched import protocol
from zsched.model.types import JobId, Now, RunId, WorkerId
from zsched.scheduler.dispatcher import answers, owners, tasks
from zsched.scheduler.dispatcher.commands import Cancel, ConflictError, JobState, Part
from zsched.scheduler.dispatcher.outbox import Outbox
from zsched.scheduler.dispatcher.session import Sessions
from zsched.store.contract import Store

# The effect of a cancel: all that was live has ended, or a worker still has to end a run.
Effect = Literal["done", "ending"]


class CancelJob(Protocol):
    """Cancels what is live of a job, for an actor. None: nothing is."""

    def __call__(
        self, job_id: JobId, actor: str, now: Now, reason: str = "", part: Part | None = None
    ) -> Effect | None: ...


class Cancels:
    """Cancels jobs in one store."""

    def __init__(self, store: Store, sessions: Sessions, outbox: Outbox) -> None:
        self._store = store
        self._sessions = sessions
        self._outbox = outbox

    def on_cancel(self, command: Cancel, now: Now) -> answers.Deferred[JobState]:
        """Raises ConflictError when nothing of the job is live, and what `owners.find_job` raises."""
        job = owners.find_job(self._store, command.job_id, command.by)
        part = None if command.tasks is None else tasks.find_part(job, command.tasks)
        # Of an array that has ended, no statement should read the runs.
        live = job.array is None or self._store.last_fire_lives(job.job_id)
        if not live or not self.cancel(job.job_id, command.by.actor, now, command.reason, part):
            named = "" if part is None else "these tasks of "
            sentence = f"Nothing of {named}job {job.job_id} is pending or running"
            if job.schedule is not None and job.ended_ms is None:
                remedy = f"`zsched end {job.job_id}` (DELETE /jobs/{job.job_id})"
                sentence += f" now; its schedule goes on: end it with {remedy}"
            raise ConflictError("finished", sentence)
        return answers.job_state(job.job_id)

    def cancel(self, job_id: JobId, actor: str, now: Now, reason: str = "", part: Part | None = None) -> Effect | None:
        """Cancel what is live of a job, or of some tasks of an array; None: nothing is. `reason`: why, as the caller
        said.
        """
        if part is None:
            cancelled = self._store.cancel(job_id, actor, now.wall_ms, reason)
        else:
            cancelled = self._store.cancel_tasks(job_id, actor, now.wall_ms, reason, part)
        ending = False
        asked: defaultdict[WorkerId, list[RunId]] = defaultdict(list)
        for worker_id, run_id in cancelled.running:
            session = self._sessions.of_worker(worker_id)
            if session is not None and session.polls:
                self._store.end_cancelled(run_id, now.wall_ms)
                session.suspects.pop(run_id, None)
            else:
                asked[worker_id].append(run_id)
                ending = True
        for worker_id, runs in asked.items():
            # Every heartbeat_ack repeats it until the results come.
            if (session := self._sessions.of_worker(worker_id)) is not None:
                self._outbox.send(session, protocol.Cancel(s=session.token, ep=self._outbox.epoch, runs=tuple(runs)))
        if not cancelled.pending and not cancelled.running:
            return None
        return "ending" if ending else "done"
