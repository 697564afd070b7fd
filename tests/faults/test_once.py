"""Jobs that may start only once, while their scheduler or their worker is disturbed: what never started still runs.

ZSCHED_FAULT_ONCE_JOBS says how many jobs there are. No fault here lasts as long as the worker timeout: after that a
scheduler gives a worker up, and can't know what the worker had started.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from tests.faults.stage import Stage
from tests.system.session import until

log = logging.getLogger(__name__)

JOBS = int(os.environ.get("ZSCHED_FAULT_ONCE_JOBS", "600"))
JOBS_PER_SUBMIT = 500
EVENTS = 3
STALL_S = 7.0
LOCK_S = 5.0


def kill_scheduler(stage: Stage) -> None:
    stage.scheduler.kill()
    stage.scheduler.start()


def end_scheduler(stage: Stage) -> None:
    assert stage.scheduler.program is not None
    stage.scheduler.program.terminate()
    assert stage.scheduler.program.exit_code() == 0
    stage.scheduler.start()


def stop_scheduler(stage: Stage) -> None:
    assert stage.scheduler.program is not None
    _stop(stage.scheduler.program.pid)


def lock_database(stage: Stage) -> None:
    """Another program writes to the database for a long time."""
    with closing(apsw.Connection(str(stage.db))) as connection:
        connection.set_busy_timeout(10_000)
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(LOCK_S)
        connection.execute("ROLLBACK")


def replace_agent(stage: Stage) -> None:
    stage.workers["w1"].send(signal.SIGHUP)


def kill_agent(stage: Stage) -> None:
    agent = stage.workers["w1"].agent()
    if agent is not None:
        os.kill(agent, signal.SIGKILL)


def stop_guard(stage: Stage) -> None:
    """What a slow disk does: the guard waits for its sync, and the agent goes on."""
    _stop(stage.workers["w1"].pid)


def stop_worker(stage: Stage) -> None:
    agent = stage.workers["w1"].agent()
    _stop(stage.workers["w1"].pid, *(() if agent is None else (agent,)))


def _stop(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(STALL_S)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("fault", "timeout_s"),
    [
        (kill_scheduler, 5),
        (end_scheduler, 5),
        (stop_scheduler, 5),
        (lock_database, 5),
        (replace_agent, 5),
        (kill_agent, 5),
        (stop_guard, 10),
        (stop_worker, 10),
    ],
)
def test_a_job_that_never_started_is_not_failed_by_a_disturbance(
    tmp_path: Path, fault: Callable[[Stage], None], timeout_s: int
) -> None:
    witness = tmp_path / "witness"
    line = f'echo "$ZSCHED_JOB_ID $ZSCHED_RUN_ID" >> {witness}'
    with Stage(tmp_path, timeout_s=timeout_s) as stage:
        stage.worker(slots=4)
        stage.active()
        for first in range(0, JOBS, JOBS_PER_SUBMIT):
            stage.scheduler.submit(*[line] * min(JOBS_PER_SUBMIT, JOBS - first), on_lost="fail")
        for event in range(EVENTS):
            due = JOBS * (event + 1) // (EVENTS + 1)
            until(lambda due=due: _ended(stage) >= due, 60)  # type: ignore[misc]
            fault(stage)
        until(lambda: _ended(stage) == JOBS, 60 + JOBS / 50)
        started = [tuple(map(int, one.split())) for one in witness.read_text("ascii").splitlines()]
        twice = [job for job, times in Counter(job for job, _ in started).items() if times > 1]
        assert twice == []
        runs = {run for _, run in started}
        lost = [run for (run,) in stage.ask("SELECT run_id FROM runs WHERE status = 'failed'")]
        unstarted = [run for run in lost if run not in runs]
        returned = stage.number("SELECT count(*) FROM events WHERE was = 'running' AND became = 'pending'")
        log.info(
            "%s: %d jobs, %d failed, of which %d never started; %d runs were put back",
            fault.__name__, JOBS, len(lost), len(unstarted), returned,
        )  # fmt: skip
        assert unstarted == []
        stage.close_the_books()


def _ended(stage: Stage) -> int:
    return stage.number("SELECT count(*) FROM runs WHERE status IN ('success', 'failed')")
