"""What becomes of the runs of a worker that has died: how soon they run again, and which are to blame."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess, gone
from tests.system.session import Scheduler, until
from zsched.model.limits import PROBATION_RUNS_MIN

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

# More than the first group of suspects takes. One after the other they would take a second each.
RUNS = PROBATION_RUNS_MIN + 36
ALL_AGAIN_S = 30.0


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    with Scheduler(tmp_path, "-worker-timeout", "30s") as scheduler:
        yield scheduler


def worker(scheduler: Scheduler, folder: Path, name: str, slots: int) -> WorkerProcess:
    """One that is to be entered. With the folder of an earlier one it proves that this has died."""
    (folder / name).mkdir(exist_ok=True)
    return WorkerProcess(scheduler.url, folder / name, slots=slots, id=name)


def kill_both(host: WorkerProcess) -> None:
    """As when its host goes away: nobody is left to say so."""
    agent = host.agent()
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
    host.send(signal.SIGKILL)
    host.exit_code()
    assert gone(agent, within_s=10)


def running(scheduler: Scheduler) -> int:
    """How many jobs are running."""
    return len(scheduler.get("/jobs?status=running&limit=1000"))


def test_the_runs_of_a_dead_worker_run_again_in_groups(scheduler: Scheduler, tmp_path: Path) -> None:
    with worker(scheduler, tmp_path, "w1", RUNS) as first:
        jobs = scheduler.submit(*["sleep 600"] * RUNS)
        until(lambda: running(scheduler) == RUNS)
        first.send(signal.SIGKILL)
        first.exit_code()
    with worker(scheduler, tmp_path, "w1", RUNS):
        last = jobs[-1]
        until(lambda: scheduler.get(f"/jobs/{last}").get("why", {}).get("code") == "probation")
        until(lambda: running(scheduler) == RUNS, within_s=ALL_AGAIN_S)
        for job in jobs:
            scheduler.post(f"/jobs/{job}/cancel")
        until(lambda: running(scheduler) == 0)


@pytest.mark.parametrize("announced", [True, False])
def test_worker_that_is_killed_after_sigterm_causes_no_blame(
    scheduler: Scheduler, tmp_path: Path, announced: bool
) -> None:
    with worker(scheduler, tmp_path, "w1", 1) as first:
        (job,) = scheduler.submit("sleep 600", crash_limit=1)
        until(lambda: "start_time" in scheduler.last_run(job))
        before = scheduler.last_run(job)["run_id"]
        if announced:
            first.send(signal.SIGTERM)
            until(lambda: "leaving_at" in scheduler.get("/workers/w1"))
            # What was announced is on the scheduler's disk.
            scheduler.kill()
        kill_both(first)
    if announced:
        scheduler.start()
    with worker(scheduler, tmp_path, "w1", 1):
        if not announced:
            until(lambda: scheduler.get(f"/jobs/{job}")["status"] == "failed")
            assert scheduler.last_run(job)["reason"] == "crash_limit"
            return
        until(lambda: scheduler.last_run(job)["run_id"] != before and "start_time" in scheduler.last_run(job))
        assert "leaving_at" not in scheduler.get("/workers/w1")
        assert [run["status"] for run in scheduler.get(f"/jobs/{job}/runs")] == ["running", "failed"]
        scheduler.post(f"/jobs/{job}/cancel")
        until(lambda: scheduler.get(f"/jobs/{job}")["status"] == "cancelled")
