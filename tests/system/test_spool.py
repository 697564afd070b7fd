"""Results that nobody took in time: kept by a real worker over the death of all its processes. Named after promises."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess, gone
from tests.system.stub import StubScheduler
from zsched.protocol import Foreign, Held, Result

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow


@pytest.fixture
def scheduler() -> Iterator[StubScheduler]:
    with StubScheduler() as stub:
        yield stub


def wait_spooled(worker: WorkerProcess, what: bytes) -> None:
    """Until the output of a job is in the spool's file. The scheduler says nothing meanwhile."""
    file = worker.state_dir / "spool" / "db-1.spool"
    end = time.monotonic() + 20
    while not file.exists() or what not in file.read_bytes():
        assert time.monotonic() < end, worker.log()
        time.sleep(0.005)


def kill(worker: WorkerProcess) -> None:
    """Guard and agent at once."""
    agent = worker.agent()
    assert agent is not None
    os.kill(agent, signal.SIGSTOP)
    worker.send(signal.SIGKILL)
    os.kill(agent, signal.SIGKILL)
    worker.exit_code()
    assert gone(agent, within_s=10)


def test_results_outlive_guard_and_agent_while_no_scheduler_answers(scheduler: StubScheduler, tmp_path: Path) -> None:
    witness, go = tmp_path / "witness", tmp_path / "go"
    with WorkerProcess(scheduler.url, tmp_path) as worker:
        run = scheduler.submit(f"echo >> {witness}; until [ -e {go} ]; do sleep 0.01; done; echo precious")
        lost = scheduler.submit("sleep 1000")
        scheduler.until(lambda: scheduler.started.keys() >= {run, lost})
        # From here on nobody serves the socket.
        go.touch()
        wait_spooled(worker, b"precious\n")
        kill(worker)
    scheduler.restart()

    with WorkerProcess(scheduler.url, tmp_path):
        scheduler.until(lambda: run in scheduler.results)
        scheduler.until(lambda: lost in scheduler.started)

        assert scheduler.results[run].stdout.head == b"precious\n"
        earlier, later = scheduler.registers
        assert later.incarnation != earlier.incarnation
        assert (earlier.db, later.db) == ("", "db-1")
        # What it runs no more it does not list.
        assert later.runs == (Held(run, "finished"),)
        assert witness.read_text("ascii") == "\n"


def test_acked_results_are_not_reported_by_the_next_start(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path) as worker:
        for _ in range(3):
            scheduler.run("true")
        # The word to forget has come when the next run has been started.
        last = scheduler.submit("sleep 1000")
        scheduler.until(lambda: last in scheduler.started)
        kill(worker)

    with WorkerProcess(scheduler.url, tmp_path):
        scheduler.until(lambda: len(scheduler.registers) >= 2)
        assert scheduler.registers[1].runs == ()


def test_results_of_another_database_wait_until_it_comes_again(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path) as worker:
        long = scheduler.submit("sleep 1000")
        first = scheduler.submit("echo first")
        scheduler.acking = False
        scheduler.until(lambda: any(isinstance(frame, Result) for frame in scheduler.seen))
        scheduler.until(lambda: long in scheduler.started)

        scheduler.db, scheduler.acking = "db-2", True
        orders, scheduler.running = scheduler.running, {}
        scheduler.restart()
        assert scheduler.run("echo second").stdout.head == b"second\n"
        # The first database's run goes on.
        assert len(worker.jobs()) == 1
        # As soon as that runs, the word to forget the second has come.
        last = scheduler.submit("sleep 1000")
        scheduler.until(lambda: last in scheduler.started)
        assert first not in scheduler.results
        kill(worker)

    with WorkerProcess(scheduler.url, tmp_path):
        scheduler.until(lambda: len(scheduler.registers) >= 3)
        register = scheduler.registers[-1]
        assert (register.db, register.runs) == ("db-2", ())
        assert register.foreign == (Foreign("db-1", results=1, finished=(first,)),)
        # The first worker may have reported the start.
        scheduler.started.clear()
        scheduler.db, scheduler.running = "db-1", {first: orders[first]}
        # It takes the run back, since it is not listed, and hands it out anew.
        scheduler.restart()
        scheduler.until(lambda: first in scheduler.results)

        assert scheduler.results[first].stdout.head == b"first\n"
        assert first not in scheduler.started
        assert not (worker.state_dir / "spool" / "db-2.spool").exists()


@pytest.mark.slow
@pytest.mark.parametrize("restart", [True, False])
def test_result_is_reported_despite_a_foreign_run_with_the_same_id(
    scheduler: StubScheduler, tmp_path: Path, restart: bool
) -> None:
    with WorkerProcess(scheduler.url, tmp_path) as worker:
        scheduler.acking = False
        run = scheduler.submit("echo first")
        scheduler.until(lambda: any(isinstance(frame, Result) for frame in scheduler.seen))
        scheduler.db, scheduler.acking = "db-2", True
        orders, scheduler.running = scheduler.running, {}
        scheduler.restart()
        scheduler.until(lambda: len(scheduler.registers) >= 2)
        scheduler.submit("trap '' TERM; while :; do sleep 0.01; done", run=run, grace_ms=1_000)
        scheduler.until(lambda: run in scheduler.started)

        scheduler.db, scheduler.running = "db-1", orders
        scheduler.restart()
        scheduler.until(lambda: "keeps 1 run and 0 results of database db-2" in worker.log())
        agent = worker.agent()
        assert agent is not None
        if restart:
            os.kill(agent, signal.SIGKILL)
        scheduler.until(lambda: run in scheduler.results)

        assert scheduler.results[run].stdout.head == b"first\n"
        assert len(worker.jobs()) == 1


def test_a_full_disk_loses_no_result_and_no_more_runs_are_asked_for(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path) as worker:
        scheduler.run("true")
        limits = resource.prlimit(worker.pid, resource.RLIMIT_FSIZE)
        # Files longer than that fail to grow, as on a disk that is full. The log is shorter.
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (32 * 1024, limits[1]))
        large = "head -c 60000 /dev/zero | tr '\\0' x"

        assert scheduler.run(large, output_bytes_max=100_000).stdout.total == 60_000
        scheduler.until(lambda: scheduler.window == 0)
        scheduler.acking = False
        waiting = scheduler.submit(large, output_bytes_max=100_000)
        scheduler.push()
        scheduler.until(lambda: len([frame for frame in scheduler.seen if isinstance(frame, Result)]) >= 3)
        assert worker.log().count("results can't be kept on disk: [Errno 27] File too large") == 1

        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, limits)
        scheduler.until(lambda: scheduler.window > 0)
        assert "results are kept on disk again" in worker.log()
        kill(worker)

    scheduler.acking = True
    with WorkerProcess(scheduler.url, tmp_path):
        scheduler.until(lambda: waiting in scheduler.results)
        assert scheduler.results[waiting].stdout.total == 60_000


def test_a_spool_that_can_not_be_read_keeps_the_worker_from_starting(scheduler: StubScheduler, tmp_path: Path) -> None:
    current = tmp_path / "state" / "spool" / "current"
    current.mkdir(parents=True)
    (tmp_path / "state").chmod(0o700)
    with WorkerProcess(scheduler.url, tmp_path) as worker:
        assert worker.exit_code() == 73
    assert f"the spool {current.parent} can't be read: Is a directory" in worker.log()
