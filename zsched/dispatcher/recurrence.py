"""Recurring jobs: which fires make a run and which pass."""

from __future__ import annotations

import logging

from zsched import schedule
from zsched.limits import TICK_JOBS_MAX
from zsched.model import Now
from zsched.store.contract import Due, Store

log = logging.getLogger(__name__)


def fire_due(store: Store, now: Now) -> None:
    """Fire the recurring jobs whose time has come, each at most once, and set when they fire next."""
    for due in store.due(now.wall_ms, TICK_JOBS_MAX):
        try:
            _fire(store, due, now)
        except schedule.ScheduleError as error:
            # A row that somebody edited by hand: it stops itself and nobody else.
            store.skip_fire(due.job_id, None, "schedule", f"the schedule can't be read: {error}", now.wall_ms)
            log.error("job %d fires no more: its schedule can't be read: %s", due.job_id, error)


def _fire(store: Store, due: Due, now: Now) -> None:
    latest_ms = schedule.latest_fire_ms(due.schedule, due.next_fire_ms, now.wall_ms)
    next_ms = schedule.next_fire_ms(due.schedule, now.wall_ms)
    if now.wall_ms - latest_ms > schedule.LATE_MS_MAX:
        store.skip_fire(
            due.job_id, next_ms, "schedule", "its time had passed while the scheduler was down", now.wall_ms
        )
        log.warning("job %d misses a fire: its time had passed while the scheduler was down", due.job_id)
    elif due.live:
        store.skip_fire(due.job_id, next_ms, "schedule", "its last run has not ended", now.wall_ms)
        log.info("job %d skips a fire: its last run has not ended", due.job_id)
    else:
        run_id = store.fire(due.job_id, next_ms, "schedule", now.wall_ms)
        log.debug("job %d fires: run %d", due.job_id, run_id)
