"""A job is cancelled: pending runs end at once, and workers are told to end the running ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from zsched.model.types import JobId, Now, RunId
from zsched.scheduler.dispatcher.session import Session, Sessions
from zsched.store.contract import Store

# What a cancel did: all that was live has ended, or a worker still has to end a run.
Met = Literal["done", "ending"]


def cancel(
    store: Store, sessions: Sessions, job_id: JobId, actor: str, now: Now, tell: Callable[[Session, RunId], None]
) -> Met | None:
    """Cancel what is live of a job; None: nothing is. `tell` sends the cancel of a run to its worker."""
    cancelled = store.cancel(job_id, actor, now.wall_ms)
    ending = False
    for worker_id, run_id in cancelled.running:
        session = sessions.of_worker(worker_id)
        if session is not None and session.polls:
            store.end_cancelled(run_id, now.wall_ms)
            session.suspects.pop(run_id, None)
        elif session is not None:
            # Every heartbeat_ack repeats it until the result comes.
            tell(session, run_id)
        ending |= session is None or not session.polls
    if not cancelled.pending and not cancelled.running:
        return None
    return "ending" if ending else "done"
