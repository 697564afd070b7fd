"""Workers that poll over REST, by the same rules as connected workers: a session, the store's count, the same claims.

Such a worker may know nothing but the documented calls. It registers once, sends heartbeats from one thread and asks
for its next run from another, and does not ask while it executes. An answer may be lost on its way. So a run that the
worker has got, and has not reported as running, is delivered again.
"""

from __future__ import annotations

import logging

from zsched.model.limits import SESSIONS_MAX
from zsched.model.types import Now, Outcome, Reason, Run, RunId, RunStatus, Worker, WorkerId, WorkerKind, WorkerStatus
from zsched.model.units import counted
from zsched.scheduler.dispatcher import answers, losses, placement
from zsched.scheduler.dispatcher.answers import Deferred
from zsched.scheduler.dispatcher.avoidance import Avoidance
from zsched.scheduler.dispatcher.commands import (
    BusyError,
    ConflictError,
    NotFoundError,
    RegisterWorker,
    Report,
    RunState,
)
from zsched.scheduler.dispatcher.session import Session, Sessions
from zsched.store.contract import Claimed, Store

log = logging.getLogger(__name__)


def register(store: Store, sessions: Sessions, command: RegisterWorker, now: Now) -> Worker:
    """A worker starts: runs still held under its name are lost, and it is active. Raises ConflictError, BusyError.

    A name with a key belongs to a worker on ZeroMQ, even while that worker is away.
    """
    _refuse_connected(sessions.of_worker(command.worker_id), command.worker_id)
    if store.access.key_of(command.worker_id) is not None:
        raise ConflictError(
            "name_has_key",
            f"Worker {command.worker_id} has a key for ZeroMQ: take another name, or revoke the key with"
            f" `zsched access revoke {command.worker_id}`",
        )
    losses.lose_worker(store, command.worker_id, "registered again", now, crash=True)
    worker = Worker(
        worker_id=command.worker_id,
        kind=WorkerKind.REST,
        status=WorkerStatus.ACTIVE,
        slots=command.slots,
        registered_ms=now.wall_ms,
        last_seen_ms=now.wall_ms,
        # Secrets go over the encrypted port only, and so does the lease.
        can=tuple(word for word in command.can if word not in ("secret_env", "stop")),
        labels=command.labels,
        queues=command.queues,
    )
    stored = store.register(worker, now.wall_ms)
    _open(sessions, worker, now)
    log.info("worker %s registered over REST: %s", command.worker_id, counted(command.slots, "slot"))
    return stored


def beat(store: Store, sessions: Sessions, worker_id: WorkerId, now: Now) -> Session:
    """A sign of life; the worker is active, also if it was not. Raises NotFoundError, ConflictError, BusyError."""
    session = sessions.of_worker(worker_id)
    _refuse_connected(session, worker_id)
    if session is None:
        worker = store.worker(worker_id)
        if worker is None or worker.kind is not WorkerKind.REST:
            raise NotFoundError("unknown_worker", f"Worker {worker_id} is not registered: POST /workers/register first")
        session = _open(sessions, worker, now)
        store.reactivate(worker_id, now.wall_ms)
        log.info("worker %s is back", worker_id)
    losses.clear_suspects(store, session, now)
    return session


def next_run(
    store: Store, sessions: Sessions, avoidance: Avoidance, worker_id: WorkerId, timeout_ms: int, now: Now
) -> Claimed | None:
    """Next run for a polling worker, or None. Delivers a run again that the worker has not reported as running."""
    session = beat(store, sessions, worker_id, now)
    held = store.held_by(session.name)
    waiting = [run for run in held if not run.started]
    full = len(held) >= session.worker.slots
    if full and waiting:
        return store.find_claimed(waiting[0].run_id)
    if full:
        # It polls, so it is idle, so the oldest run that it reported as running does not run any more.
        losses.lose_run(store, session.name, held[0], "asked for another run", now, losses.CRASH)
        losses.log_lost(session.name, "asked for another run", held[:1])
        session.suspects.pop(held[0].run_id, None)
    claimed = placement.claim_one(store, session, now) or avoidance.claim_one(session, now)
    if claimed is not None:
        session.handed = {run.run_id: session.handed.get(run.run_id, now.mono_ms) for run in waiting}
        session.handed[claimed.run_id] = now.mono_ms
    if claimed is None and waiting and _is_old(session, waiting[0].run_id, timeout_ms, now):
        return store.find_claimed(waiting[0].run_id)
    return claimed


def _is_old(session: Session, run_id: RunId, timeout_ms: int, now: Now) -> bool:
    """Whether a worker got a run more than timeout_ms ago, by the steady clock. For a run from before a restart the
    time counts from the worker's first poll after it.
    """
    return now.mono_ms - session.handed.setdefault(run_id, now.mono_ms) > timeout_ms


def report(store: Store, sessions: Sessions, command: Report, now: Now) -> Deferred[RunState] | ConflictError:
    """Store what a worker says of its run; returns the run. Raises NotFoundError, ConflictError.

    A ConflictError is returned, not raised, where the refusal itself has left an event that must stay.
    """
    if store.job(command.job_id) is None:
        raise NotFoundError("unknown_job", "Job not found")
    session = sessions.of_worker(command.worker_id)
    _refuse_connected(session, command.worker_id)
    run = _run_meant(store, command)
    if command.status is RunStatus.RUNNING:
        _started(store, session, run, now)
    else:
        if session is not None:
            losses.outlive(store, session, run.run_id)
        refused = _ended(store, command, run, now)
        if refused is not None:
            return refused
    return answers.run_state(run.run_id)


def _run_meant(store: Store, command: Report) -> Run:
    """The run of a report: the one that it names, else the worker's only live run of the job, else its last."""
    if command.run_id is not None:
        run = store.run(command.run_id)
        if run is not None and (run.job_id, run.worker_id) != (command.job_id, command.worker_id):
            run = None
    else:
        live = store.live_on(command.worker_id, command.job_id)
        if len(live) > 1:
            raise ConflictError(
                "run_id_required", f"Worker {command.worker_id} has several live runs of this job: name run_id"
            )
        run = live[0] if live else store.last_on(command.worker_id, command.job_id)
    if run is None:
        raise ConflictError("not_owner", f"Worker {command.worker_id} has no run of job {command.job_id} to report on")
    return run


def _started(store: Store, session: Session | None, run: Run, now: Now) -> None:
    if not store.start(run.run_id, run.worker_id or WorkerId(""), now.wall_ms):
        raise ConflictError("not_running", f"Run {run.run_id} is {run.status}, not running")
    if session is not None:
        session.suspects.setdefault(run.run_id, now.mono_ms)


def _ended(store: Store, command: Report, run: Run, now: Now) -> ConflictError | None:
    outcome = Outcome(
        run_id=run.run_id,
        status=command.status,
        reason=Reason.REPORTED if command.exit_code is None else Reason.EXIT,
        exit_code=command.exit_code,
        started_ms=run.started_ms or run.claimed_ms,
        finished_ms=now.wall_ms,
        stdout=command.logs,
        artifacts=command.artifacts,
    )
    verdict = store.finish(outcome, command.worker_id, now.wall_ms, text=True)
    if verdict == "stale":
        store.note_stale([outcome], command.worker_id, now.wall_ms)
    # The worker can repeat its own report, but not an end by the scheduler, at a timeout or by a cancel.
    own_word = run.reason in (Reason.EXIT, Reason.REPORTED)
    repeated = verdict == "duplicate" and own_word and run.status is command.status
    if verdict == "stored" or repeated:
        return None
    return ConflictError("not_running", f"Run {run.run_id} is {run.status}, not running")


def _refuse_connected(session: Session | None, worker_id: WorkerId) -> None:
    if session is not None and not session.polls:
        raise ConflictError("connected", f"Worker {worker_id} is connected over ZeroMQ: take another name")


def _open(sessions: Sessions, worker: Worker, now: Now) -> Session:
    if len(sessions) >= SESSIONS_MAX and sessions.of_worker(worker.worker_id) is None:
        raise BusyError("too_many_workers", f"The scheduler serves at most {SESSIONS_MAX} workers")
    session = Session(worker=worker, token="", peer=None, heard_ms=now.mono_ms, seen_ms=now.wall_ms)
    sessions.open(session)
    return session
