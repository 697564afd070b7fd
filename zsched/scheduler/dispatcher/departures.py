"""How a connected worker's session ends: by its goodbye, its silence, or the end of its key. And how a worker that is
gone is removed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Final

from zsched import protocol
from zsched.model.types import Now, Worker, WorkerId, lease_margin_ms
from zsched.scheduler.dispatcher import arrival, foreign, losses
from zsched.scheduler.dispatcher.commands import Command, ConflictError, NotFoundError
from zsched.scheduler.dispatcher.returns import Returns
from zsched.scheduler.dispatcher.session import Session, Sessions
from zsched.store.contract import Store

log = logging.getLogger(__name__)

_LEFT: Final = "said goodbye"


@dataclass(frozen=True, slots=True)
class RemoveWorker(Command[Worker]):
    """Remove a worker that is gone; the reply is the worker as it was."""

    worker_id: WorkerId
    actor: str


def on_bye(
    store: Store, sessions: Sessions, returns: Returns, session: Session, frame: protocol.WorkerBye, now: Now
) -> None:
    """A worker leaves, or has lost its guard and with it all processes."""
    log.info("worker %s says goodbye: %s", session.name, frame.reason)
    if frame.reason == "guard_lost":
        losses.lose_worker(store, session.name, "lost its guard", now, crash=not session.leaving)
    else:
        returns.count(session.name, leave(store, session, frame, now), now.mono_ms)
    foreign.forget_processes(store, session.name, now)
    end_session(store, sessions, session, frame.reason, now)


def leave(store: Store, session: Session, frame: protocol.WorkerBye, now: Now) -> int:
    """A worker leaves of its own accord. The runs that it still holds are lost; those that it has not started are
    pending again. Returns how many runs it had.
    """
    had = store.held_by(session.name)
    # A worker that lists nothing may have started any of them.
    listed = {run.run_id for run in had} if frame.runs is None else {held.run for held in frame.runs}
    unstarted = arrival.proves_absence(session, frame.runs or ())
    lost = []
    for run in had:
        if run.run_id in listed:
            losses.lose_run(store, session.name, run, _LEFT, now, losses.NO_BLAME)
            lost.append(run)
        elif losses.drop_run(store, session.name, run, _LEFT, now, unstarted=unstarted):
            lost.append(run)
    losses.log_lost(session.name, _LEFT, lost)
    return len(had)


def judge_silence(store: Store, sessions: Sessions, timeout_ms: int, now: Now) -> None:
    """Give up the workers that have been silent for too long."""
    for session in sessions.silent(now.mono_ms, partial(patience_ms, store, timeout_ms)):
        silence_ms = now.mono_ms - session.heard_ms
        log.warning("worker %s is inactive: silent for %d ms", session.name, silence_ms)
        why = f"silent for {silence_ms} ms"
        losses.lose_worker(store, session.name, why, now, crash=not session.leaving)
        end_session(store, sessions, session, "silent", now)


def patience_ms(store: Store, timeout_ms: int, session: Session) -> int:
    """How long a worker may be silent: until the last lease of its runs is over by any clock, if it has any."""
    lease_ms = store.load(session.name).lease_ms
    return max(timeout_ms, lease_ms + lease_margin_ms(lease_ms) if lease_ms else 0)


def end_session(store: Store, sessions: Sessions, session: Session, why: str, now: Now) -> None:
    """The worker is inactive, and its session is closed."""
    store.note_seen({session.name: session.seen_ms})
    store.deactivate(session.name, why, now.wall_ms)
    sessions.close(session.name)


def remove_worker(store: Store, sessions: Sessions, command: RemoveWorker, now: Now) -> Worker:
    """Raises NotFoundError, and ConflictError for a worker that is active, or holds something of another database."""
    name = command.worker_id
    worker = store.worker(name)
    if worker is None:
        raise NotFoundError("unknown_worker", "Worker not found")
    if store.foreign.of(name):
        raise ConflictError(
            "foreign_runs",
            f"Worker {name} holds runs or results of another database: run `zsched foreign discard {name}` first",
        )
    if sessions.of_worker(name) is not None or not store.remove(name, command.actor, now.wall_ms):
        raise ConflictError("worker_active", f"Worker {name} is active: stop it first")
    log.info("worker %s: removed by %s", name, command.actor)
    return worker
