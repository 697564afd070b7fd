"""A job is cancelled: pending runs end at once, and workers are told to end the running ones."""

from __future__ import annotations

from collections.abc import Callable

from zsched.dispatcher.session import Session, Sessions
from zsched.model import JobId, Now, RunId
from zsched.store.contract import Store


def cancel(
    store: Store, sessions: Sessions, job_id: JobId, actor: str, now: Now, tell: Callable[[Session, RunId], None]
) -> bool:
    """Cancel what is live of a job; False: nothing is. `tell` sends the cancel of a run to its worker."""
    cancelled = store.cancel(job_id, actor, now.wall_ms)
    for worker_id, run_id in cancelled.running:
        session = sessions.of_worker(worker_id)
        if session is not None and session.polls:
            store.end_cancelled(run_id, now.wall_ms)
            session.suspects.pop(run_id, None)
            session.load = None
        elif session is not None:
            # Every heartbeat_ack repeats it until the result comes.
            tell(session, run_id)
    return bool(cancelled.pending or cancelled.running)
