"""docs/examples/worker.sh: a worker that is nothing but curl and sh works beside one that is connected."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import ROOT, WorkerProcess, children
from tests.system.session import Program, Scheduler, until

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "docs" / "examples" / "worker.sh"


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    with Scheduler(tmp_path) as started:
        yield started


def worker_sh(scheduler: Scheduler, name: str, **more: str) -> Program:
    argv: list[str | Path] = [SCRIPT, name, scheduler.url]
    return Program(name, argv, scheduler.folder, HEARTBEAT_S="1", POLL_S="0.1", TMPDIR=str(scheduler.folder), **more)


def ends_cleanly(worker: Program, scheduler: Scheduler) -> None:
    worker.terminate()
    assert worker.exit_code() == 0
    assert worker.log() == ""
    assert list(scheduler.folder.glob("tmp.*")) == []


def test_shell_worker_runs_a_job_that_no_other_worker_can_answer_for(scheduler: Scheduler) -> None:
    folder = scheduler.folder
    wait = "until [ -e {} ]; do sleep 0.05; done"
    with WorkerProcess(scheduler.url, folder, slots=1, id="zmq-1"), worker_sh(scheduler, "sh-1") as worker:
        until(lambda: scheduler.workers() == {"zmq-1": "active", "sh-1": "active"})
        first, second = scheduler.submit(*(f"{wait.format(folder / 'go')}; echo done" for _ in range(2)))
        until(lambda: {scheduler.last_run(job).get("start_time") is not None for job in (first, second)} == {True})
        held = {scheduler.last_run(job)["worker_id"]: job for job in (first, second)}
        assert set(held) == {"zmq-1", "sh-1"}

        scheduler.post("/workers/register", {"worker_id": "thief"})
        for job in held.values():
            before = scheduler.last_run(job)
            report = {"worker_id": "thief", "status": "success", "logs": "stolen"}
            for body in (report, {**report, "run_id": before["run_id"]}):
                assert scheduler.ask("POST", f"/jobs/{job}/log", body)[0] == 409
            assert scheduler.last_run(job) == before

        (folder / "go").touch()
        for name, job in held.items():
            run = scheduler.finished(job)
            assert (run["status"], run["worker_id"], run["exit_code"]) == ("success", name, 0)
            assert run["logs"] == "STDOUT:\ndone\n\n\nSTDERR:\n"
            assert len(scheduler.get(f"/jobs/{job}/runs")) == 1
        ends_cleanly(worker, scheduler)


def test_commands_and_output_come_through_unharmed(scheduler: Scheduler) -> None:
    command = """printf '%s\\n' "quote \\" back\\\\slash tab\t é $((40 + 2))" '},"id":7,"command":"false"'
    printf '\\\\ \\033[31m\\001 \\377end' >&2
    exit 3\n"""
    with worker_sh(scheduler, "sh-1") as worker:
        [job] = scheduler.submit(command)
        run = scheduler.finished(job)
        assert (run["status"], run["exit_code"]) == ("failed", 3)
        stdout = 'quote " back\\slash tab\t é 42\n},"id":7,"command":"false"\n'
        # Control characters and bytes that are no text have no place in its reports.
        assert run["logs"] == f"STDOUT:\n{stdout}\n\nSTDERR:\n\\ [31m end"
        ends_cleanly(worker, scheduler)


def test_an_answer_of_next_that_is_lost_on_the_way_loses_no_job(scheduler: Scheduler) -> None:
    curl, folder = shutil.which("curl"), scheduler.folder / "bin"
    assert curl is not None
    folder.mkdir()
    # The first answer that carries a job is thrown away, as a broken connection does it.
    (folder / "curl").write_text(
        f"""#!/bin/sh
        {curl} "$@" || exit
        case "$*" in */next) ;; *) exit 0 ;; esac
        grep -q run_id "$5" && [ ! -e {folder}/lost ] && mv "$5" {folder}/lost && exit 56
        exit 0
        """
    )
    (folder / "curl").chmod(0o755)
    [job] = scheduler.submit("echo here")
    with worker_sh(scheduler, "sh-1", PATH=f"{folder}:/usr/bin:/bin") as worker:
        assert scheduler.finished(job)["logs"] == "STDOUT:\nhere\n\n\nSTDERR:\n"
        assert (folder / "lost").exists()
        [run] = scheduler.get(f"/jobs/{job}/runs")
        assert (run["status"], run["attempt"]) == ("success", 1)
        ends_cleanly(worker, scheduler)


def test_signalled_shell_worker_finishes_its_job_first(scheduler: Scheduler) -> None:
    go = scheduler.folder / "go"
    [job, waiting] = scheduler.submit(f"until [ -e {go} ]; do sleep 0.05; done; echo done", "true")
    with worker_sh(scheduler, "sh-1") as worker:
        until(lambda: scheduler.last_run(job).get("start_time") is not None)
        worker.terminate()
        go.touch()
        assert worker.exit_code() == 0
        assert scheduler.get(f"/jobs/{job}")["status"] == "success"
        assert scheduler.get(f"/jobs/{waiting}")["status"] == "pending"


def test_a_name_that_is_taken_ends_it_with_the_schedulers_sentence(scheduler: Scheduler) -> None:
    with WorkerProcess(scheduler.url, scheduler.folder, slots=1, id="w1") as connected:
        until(lambda: scheduler.workers() == {"w1": "active"})
        with worker_sh(scheduler, "w1") as worker:
            assert worker.exit_code() == 1
            assert "Worker w1 is connected over ZeroMQ: take another name" in worker.log()
        assert children(connected.pid)
