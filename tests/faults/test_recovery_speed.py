"""How long it takes until the runs of a dead worker are through again, and how many workers a poison job meets.

The figures are in the log (`pytest -rP`).
"""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path

import pytest

from tests.faults.stage import Stage
from tests.system.session import until

log = logging.getLogger(__name__)

JOBS = 200
SLOTS = 100
MANY = 2_000
CRASH_LIMIT = 5
# What 200 jobs of 2 s may take after the death of one of their two workers.
RECOVERY_S = 8.0
# 2,000 runs on one host: four groups of a second each, the start of 2,000 processes, and what this machine needs.
MANY_RECOVERY_S = 30.0


def kill(stage: Stage, name: str, slots: int) -> None:
    """Kill guard and agent of a worker, and start it again at once."""
    worker = stage.workers[name]
    agent = worker.agent()
    assert agent is not None
    os.kill(worker.pid, signal.SIGKILL)
    os.kill(agent, signal.SIGKILL)
    worker.exit_code()
    stage.worker(name, slots)


def settled(stage: Stage, count: int) -> bool:
    """Whether `count` runs have started, none of them on probation."""
    trusted = "SELECT count(*) FROM runs WHERE status = 'running' AND started_ms IS NOT NULL AND probation = 0"
    return stage.number(trusted) == count


def test_short_jobs_of_a_killed_worker_are_through_in_seconds(tmp_path: Path) -> None:
    with Stage(tmp_path) as stage:
        for name in ("w1", "w2"):
            stage.worker(name, SLOTS)
        stage.active()
        jobs = stage.scheduler.submit(*["sleep 2"] * JOBS)
        until(lambda: stage.number("SELECT count(*) FROM runs WHERE status = 'running'") == JOBS, within_s=10)
        began = time.monotonic()
        kill(stage, "w1", SLOTS)
        stage.all_end(within_s=120)
        took_s = time.monotonic() - began
        log.info("%d jobs of 2 s had ended %.1f s after one of two guards was killed", JOBS, took_s)
        assert stage.number("SELECT count(*) FROM jobs WHERE status = 'success'") == len(jobs)
        assert took_s <= RECOVERY_S
        stage.close_the_books()


def test_two_thousand_suspects_on_one_host_are_trusted_in_seconds(tmp_path: Path) -> None:
    # The start of thousands of processes may hold a worker up.
    with Stage(tmp_path, timeout_s=30) as stage:
        stage.worker("w1", MANY)
        stage.active()
        began = time.monotonic()
        stage.scheduler.submit(*["sleep 600"] * MANY)
        until(lambda: settled(stage, MANY), within_s=120)
        log.info("%d runs had started after %.1f s", MANY, time.monotonic() - began)
        lost = stage.lost_runs() + MANY
        began = time.monotonic()
        kill(stage, "w1", MANY)
        until(lambda: stage.lost_runs() >= lost and settled(stage, MANY), within_s=300)
        took_s = time.monotonic() - began
        log.info("%d suspects on one host ran again, trusted, after %.1f s", MANY, took_s)
        assert took_s <= MANY_RECOVERY_S


@pytest.mark.parametrize("places", [(137,), (3, 90, 180)], ids=["one", "three"])
def test_poison_among_two_hundred_fails_and_no_other_job_does(tmp_path: Path, places: tuple[int, ...]) -> None:
    with Stage(tmp_path) as stage:
        names = ("w1", "w2")
        for name in names:
            stage.worker(name, SLOTS)
        stage.active()
        losses = 0

        def all_ended() -> bool:
            nonlocal losses
            for name in names:
                if stage.workers[name].ended():
                    losses += 1
                    stage.worker(name, SLOTS)
            return stage.unfinished() == 0

        began = time.monotonic()
        # The parent of a job is the guard.
        commands = ["kill -9 $PPID" if place in places else "sleep 2" for place in range(JOBS + len(places))]
        jobs = stage.scheduler.submit(*commands)
        until(all_ended, within_s=300)
        took_s = time.monotonic() - began
        log.info("%d poison among %d jobs: %d workers lost in %.1f s", len(places), JOBS, losses, took_s)
        ends = {job: stage.scheduler.get(f"/jobs/{job}") for job in jobs}
        poison = [ends[job]["last_run"]["reason"] for job, line in zip(jobs, commands, strict=True) if "kill" in line]
        good = [ends[job]["status"] for job, line in zip(jobs, commands, strict=True) if "kill" not in line]
        assert poison == ["crash_limit"] * len(places)
        assert good == ["success"] * JOBS
        assert losses <= len(places) * (CRASH_LIMIT + 8)
        stage.active()
        stage.close_the_books()
