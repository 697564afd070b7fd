"""What is due by the wall clock: runs that the scheduler itself ends, back-offs that are over, and fires."""

from __future__ import annotations

import logging

from zsched.model.types import Now
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
    store.release_due(now.wall_ms)
    recurrence.fire_due(store, now)
    return store.next_due_ms()
