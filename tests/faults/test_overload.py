"""More submits than it can ever serve: it says so at once, and the work that is there goes on."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests.faults.stage import HEARTBEAT_S, LENGTH_GIVEN, Callers, Stage, length_s, spread

log = logging.getLogger(__name__)

# All of them are done in the end, which takes a while.
PENDING_MAX = 10_000 if LENGTH_GIVEN else 2_000
CALLERS = 2
SUBMITS_PER_S = 2_000
# Of 99 in 100 refusals: where refusing is all there is to do; and where the machine is taken up by submits and jobs, so
# that a refusal stands in one queue with them.
CALM_MS_MAX = 100.0
BUSY_MS_MAX = 1_000.0
# From the heartbeat that was due to the row in the table: half of what a worker may be silent.
LATE_S_MAX = 1.5


@pytest.mark.parametrize(
    ("command", "refused_ms_max"),
    [
        pytest.param("sleep 0.02", CALM_MS_MAX, id="the cap is always reached"),
        pytest.param("true", BUSY_MS_MAX, id="jobs end as fast as submits come"),
    ],
)
def test_overload_is_refused_at_once_and_loses_no_worker_run_or_acked_job(
    tmp_path: Path, command: str, refused_ms_max: float
) -> None:
    seconds = length_s(8)
    with Stage(tmp_path, "-pending-max", str(PENDING_MAX)) as stage:
        stage.worker(slots=2)
        stage.active()
        first = stage.scheduler.submit(*[command] * PENDING_MAX)

        began, done = time.monotonic(), finished(stage)
        callers = Callers(stage, CALLERS, SUBMITS_PER_S, seconds, command)
        silences_s, pending = [], 0
        while not callers.done():
            (worker,) = stage.scheduler.get("/workers")
            assert worker["status"] == "active"
            silences_s.append(time.time() - datetime.fromisoformat(worker["last_seen"]).timestamp())
            pending = max(pending, stage.number("SELECT tasks FROM totals WHERE status = 'pending'"))
            time.sleep(0.1)
        rate = (finished(stage) - done) / (time.monotonic() - began)
        told = callers.told()
        log.info("work meanwhile: %.0f jobs/s; at most %d pending", rate, pending)
        log.info("longest silence of the worker %.2f s", max(silences_s))

        assert set(told.times_ms) == {"201", "429"}
        assert told.without_retry_after == 0
        refused = told.times_ms["429"]
        log.info("429: %s", spread(refused))
        assert refused[int(len(refused) * 0.99)] <= refused_ms_max
        assert pending <= PENDING_MAX
        assert max(silences_s) < HEARTBEAT_S + LATE_S_MAX
        assert rate > 0

        acked = first + told.jobs
        assert len(acked) == len(set(acked)) == stage.holds(acked)
        stage.all_end(within_s=180)
        assert stage.number("SELECT count(*) FROM jobs WHERE status = 'success'") >= len(acked)
        assert stage.lost_runs() == 0
        stage.close_the_books()


def finished(stage: Stage) -> int:
    return stage.number("SELECT tasks FROM totals WHERE status = 'success'")
