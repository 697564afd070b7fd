"""What is due by the wall clock: runs that the scheduler itself ends, starts and back-offs, deadlines, and fires."""

from __future__ import annotations

import logging

from zsched.model.limits import DUE_RUNS_MAX
from zsched.model.types import Now
from zsched.model.units import counted
from zsched.scheduler.dispatcher import recurrence
from zsched.store.contract import Store

log = logging.getLogger(__name__)


def on_due(store: Store, now: Now) -> int | None:
    """Do what is due. Returns when the next thing is, by the wall clock in ms; None: nothing waits."""
    due_ms = store.next_due_ms()
    if due_ms is None or due_ms > now.wall_ms:
        return due_ms
    for worker_id, run_id in store.end_overdue(now.wall_ms):
        log.info("run %d timed out: worker %s had not reported how it ended", run_id, worker_id)
    # Deadlines first, so that no run becomes ready at the moment at which it must have started.
    if expired := store.expire(now.wall_ms, DUE_RUNS_MAX):
        log.info("%s had not started at the deadline", counted(expired, "run"))
    store.release_due(now.wall_ms, DUE_RUNS_MAX)
    recurrence.fire_due(store, now)
    return store.next_due_ms()
