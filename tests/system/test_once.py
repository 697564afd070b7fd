"""A job that may start only once, and whose worker has not started it when their session is lost: it still runs, once.

The guard stands still, so that the order reaches its worker and goes no further.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess, gone
from tests.system.session import Scheduler, until

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

JOBS = 4


def kill_scheduler(scheduler: Scheduler, worker: WorkerProcess) -> None:
    scheduler.kill()
    scheduler.start()


def end_scheduler(scheduler: Scheduler, worker: WorkerProcess) -> None:
    assert scheduler.program is not None
    scheduler.program.terminate()
    assert scheduler.program.exit_code() == 0
    scheduler.start()


def kill_agent(scheduler: Scheduler, worker: WorkerProcess) -> None:
    agent = worker.agent()
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
    assert gone(agent, within_s=10)


@pytest.mark.parametrize("fault", [kill_scheduler, end_scheduler, kill_agent])
def test_a_job_that_never_started_runs_once_when_its_session_is_lost(
    tmp_path: Path, fault: Callable[[Scheduler, WorkerProcess], None]
) -> None:
    witness = tmp_path / "witness"
    with (
        Scheduler(tmp_path, "-worker-timeout", "20s") as scheduler,
        WorkerProcess(scheduler.url, tmp_path, slots=JOBS, heartbeat_interval="1s") as worker,
    ):
        until(lambda: scheduler.workers() == {"w1": "active"})
        worker.send(signal.SIGSTOP)
        try:
            jobs = scheduler.submit(*[f"echo $ZSCHED_JOB_ID >> {witness}"] * JOBS, on_lost="fail")
            until(lambda: all(scheduler.get(f"/jobs/{job}")["status"] == "running" for job in jobs))
            fault(scheduler, worker)
        finally:
            worker.send(signal.SIGCONT)
        runs = [scheduler.finished(job) for job in jobs]
        assert [(run["status"], run["attempt"]) for run in runs] == [("success", 1)] * JOBS
        assert sorted(map(int, witness.read_text("ascii").split())) == jobs


def test_a_job_that_never_started_fails_when_its_guard_is_killed(tmp_path: Path) -> None:
    """Nobody knows any more that it never started."""
    with Scheduler(tmp_path, "-worker-timeout", "20s") as scheduler:
        with WorkerProcess(scheduler.url, tmp_path, heartbeat_interval="1s") as worker:
            until(lambda: scheduler.workers() == {"w1": "active"})
            worker.send(signal.SIGSTOP)
            (job,) = scheduler.submit("true", on_lost="fail")
            until(lambda: scheduler.get(f"/jobs/{job}")["status"] == "running")
            worker.send(signal.SIGKILL)
            assert gone(worker.pid, within_s=10)
        run = scheduler.finished(job)
        assert (run["status"], run["reason"]) == ("failed", "worker_lost")
