"""What follows when a run failed by itself: its task is tried again, as often as its job allows, each time after a
longer pause.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from zsched.model.backoff import retry_ms
from zsched.model.types import Now, Reason, RunId, Succession
from zsched.store.contract import Runs

log = logging.getLogger(__name__)


def follow(store: Runs, run_ids: Sequence[RunId], now: Now) -> None:
    """Make the successors of those of the runs, whose ends were just stored, that failed and may be tried again.

    A run that its worker ended because its lease was over is lost, which is not a failure of the job: its task is
    pending again at once.
    """
    for failed in store.find_failed(run_ids):
        if failed.reason == Reason.LEASE_STOP:
            if not failed.once:
                store.retry(failed, Succession.REQUEUED, None, now.wall_ms)
        elif failed.failures < failed.retries:
            tries = failed.failures + 1
            pause_ms = retry_ms(failed.backoff, tries, f"{failed.job_id} {failed.task} {tries}")
            due_ms = now.wall_ms + pause_ms if pause_ms else None
            store.retry(failed, Succession.RETRY, due_ms, now.wall_ms)
            line = "run %d of job %d failed: retry %d of %d in %d ms"
            log.info(line, failed.run_id, failed.job_id, tries, failed.retries, pause_ms)
