"""What follows when a run failed by itself: its task is tried again, as often as its job allows, each time after a
longer pause.
"""

from __future__ import annotations

import logging

from zsched.model.backoff import retry_ms
from zsched.model.types import Now, Reason, RunId, Succession
from zsched.store.contract import Store

log = logging.getLogger(__name__)


def follow(store: Store, run_id: RunId, now: Now) -> None:
    """Make the successor of a run whose end was just stored, if it failed and may be tried again.

    A run that its own worker ended because its lease was over is lost, and no failure of the job: its task goes on at
    once.
    """
    failed = store.failed(run_id)
    if failed is None:
        return
    if failed.reason == Reason.LEASE_STOP:
        if not failed.once:
            store.retry(failed, Succession.REQUEUED, None, now.wall_ms)
    elif failed.failures < failed.retries:
        tries = failed.failures + 1
        pause_ms = retry_ms(failed.backoff, tries, f"{failed.job_id} {failed.task} {tries}")
        due_ms = now.wall_ms + pause_ms if pause_ms else None
        store.retry(failed, Succession.RETRY, due_ms, now.wall_ms)
        log.info(
            "run %d of job %d failed: retry %d of %d in %d ms", run_id, failed.job_id, tries, failed.retries, pause_ms
        )
