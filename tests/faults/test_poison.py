"""Jobs that kill the worker they run on: each ends for good after five tries, and its neighbours don't pay for it."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from tests.faults.stage import Stage
from tests.system.session import until

log = logging.getLogger(__name__)

WORKERS = 3
POISON = 3
GOOD = 50
GOOD_COMMAND = "sleep 0.2"
CRASH_LIMIT = 5
# A poison run starts beside a few others, is tried with them once more, and may have met another suspect.
LOSSES_MAX = POISON * (CRASH_LIMIT + 4)


def test_poison_jobs_fail_and_all_other_jobs_succeed(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        for number in range(WORKERS):
            stage.worker(f"w{number}", slots=2)
        stage.active()
        names = list(stage.workers)
        losses = 0

        def all_ended() -> bool:
            """Meanwhile somebody starts again each worker that has ended."""
            nonlocal losses
            for name in names:
                if stage.workers[name].ended():
                    losses += 1
                    stage.worker(name, slots=2)
            return stage.unfinished() == 0

        began = time.monotonic()
        # The parent of a job is the guard.
        commands = [GOOD_COMMAND] * GOOD
        for at in (0, 20, 40):
            commands[at:at] = ["kill -9 $PPID"]
        jobs = stage.scheduler.submit(*commands)
        until(all_ended, within_s=120)
        log.info("%d workers lost, all jobs ended after %.1f s", losses, time.monotonic() - began)

        ends = {job: stage.scheduler.get(f"/jobs/{job}") for job in jobs}
        poison = [ends[job] for job, command in zip(jobs, commands, strict=True) if "kill" in command]
        good = [ends[job] for job, command in zip(jobs, commands, strict=True) if "kill" not in command]
        assert [(job["status"], job["last_run"]["reason"]) for job in poison] == [("failed", "crash_limit")] * POISON
        assert [job["status"] for job in good] == ["success"] * GOOD
        again = stage.number(
            "SELECT count(*) FROM runs JOIN jobs USING (job_id) WHERE command = ? AND reason = 'worker_lost'",
            GOOD_COMMAND,
        )
        log.info("%d runs of good jobs were lost and started again", again)
        assert POISON * CRASH_LIMIT <= losses <= LOSSES_MAX
        stage.active()
        stage.close_the_books()
