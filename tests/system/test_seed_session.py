"""The documented session as it is written: bin/scheduler, two times bin/worker, and every line of curl."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.process import alive
from tests.system.session import LAUNCHERS, Program, Scheduler, environment, free_ports, shell, until

# The first call of a launcher may have to make .venv.
pytestmark = pytest.mark.timeout(600)

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
HELLO = "STDOUT:\nHello World\n\n\nSTDERR:\n"
SCHEDULER = LAUNCHERS / "scheduler"
WORKER = LAUNCHERS / "worker"


@pytest.fixture(scope="module", autouse=True)
def launchers() -> None:
    for program in (SCHEDULER, WORKER):
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scheduler]:
    """A scheduler and two workers, started by the documented lines."""
    folder = tmp_path_factory.mktemp("session")
    with Scheduler(folder, "-log-level", "DEBUG", argv=[SCHEDULER]) as started:
        flags = ["-scheduler", started.url, "-poll-interval", "3s"]
        names = ["worker-1", "worker-2"]
        workers = [Program(name, [WORKER, "-id", name, *flags], folder) for name in names]
        until(lambda: started.workers() == dict.fromkeys(names, "active"))
        yield started
        for worker in workers:
            worker.terminate()
        assert [worker.exit_code() for worker in workers] == [0, 0]
        assert started.program is not None
        started.program.terminate()
        assert started.program.exit_code() == 0
        for program in (started.program, *workers):
            assert "Traceback" not in program.log()


def curl(scheduler: Scheduler, line: str) -> Any:
    """A documented line, typed at this scheduler; returns the JSON that it shows."""
    done = shell(line.replace("http://localhost:8080", scheduler.url), scheduler.folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- every line of curl ----------------------------------------------------------------------------------------------

SUBMIT = (
    'curl -X POST http://localhost:8080/jobs -H "Content-Type: application/json"'
    r""" -d "{\"name\":\"hello-job\",\"command\":\"echo 'Hello World'\"}" """
)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(SUBMIT, id="as documented"),
        pytest.param(SUBMIT.replace('-H "Content-Type: application/json"', ""), id="without a Content-Type"),
        pytest.param(SUBMIT.replace("-X POST ", "-H 'Expect: 100-continue' "), id="as PowerShell sends it"),
        pytest.param(SUBMIT.replace("-X POST ", "-H 'Transfer-Encoding: chunked' "), id="in chunks"),
        pytest.param(SUBMIT.replace("localhost", "127.0.0.1", 1), id="by address"),
    ],
)
def test_a_submitted_job_runs_and_its_output_arrives(scheduler: Scheduler, line: str) -> None:
    job = curl(scheduler, line.replace("http://127.0.0.1:8080", f"http://127.0.0.1:{scheduler.port}"))
    assert (job["name"], job["command"]) == ("hello-job", "echo 'Hello World'")
    assert TIME.fullmatch(job["created_at"])
    assert TIME.fullmatch(job["updated_at"])

    run = scheduler.finished(job["id"])
    shown = curl(scheduler, f"curl http://localhost:8080/jobs/{job['id']}")
    assert shown["status"] == "success"
    assert shown["last_run"] == run
    assert (run["status"], run["exit_code"], run["logs"]) == ("success", 0, HELLO)
    assert run["worker_id"] in ("worker-1", "worker-2")
    assert all(TIME.fullmatch(run[name]) for name in ("start_time", "end_time", "created_at"))
    listed = curl(scheduler, "curl http://localhost:8080/jobs")
    assert listed[0] == {name: value for name, value in shown.items() if name != "last_run"}


def test_a_job_without_a_command_is_refused_on_the_command_line_too(scheduler: Scheduler) -> None:
    answer = curl(scheduler, """curl -X POST http://localhost:8080/jobs -d '{"name": "hello-job"}'""")
    assert (answer["error"], answer["status"]) == ("Name and command are required", 400)


def test_both_workers_take_part(scheduler: Scheduler) -> None:
    # As many at once as both have slots for, so that one alone can't take them all.
    slots = sum(worker["slots"] for worker in scheduler.get("/workers"))
    go = scheduler.folder / "go"
    jobs = scheduler.submit(*[f"until [ -e {go} ]; do sleep 0.05; done"] * slots)
    until(lambda: all(scheduler.last_run(job)["status"] == "running" for job in jobs))
    assert {scheduler.last_run(job)["worker_id"] for job in jobs} == {"worker-1", "worker-2"}
    go.touch()
    assert {scheduler.finished(job)["status"] for job in jobs} == {"success"}


# --- how jobs end ----------------------------------------------------------------------------------------------------


def run(scheduler: Scheduler, command: str, **fields: object) -> dict[str, Any]:
    [job] = scheduler.submit(command, **fields)
    return scheduler.finished(job)


def test_exit_code_is_shown(scheduler: Scheduler) -> None:
    ended = run(scheduler, "echo out; echo err >&2; exit 3")
    assert (ended["status"], ended["reason"], ended["exit_code"]) == ("failed", "exit", 3)
    assert ended["logs"] == "STDOUT:\nout\n\n\nSTDERR:\nerr\n"
    assert scheduler.get(f"/runs/{ended['run_id']}/log?stream=stderr") == b"err\n"


def test_signal_is_shown_as_a_signal(scheduler: Scheduler) -> None:
    ended = run(scheduler, "kill -SEGV $$")
    assert (ended["status"], ended["reason"], ended["signal"]) == ("failed", "signal", signal.SIGSEGV)
    assert "exit_code" not in ended


def test_a_command_that_is_not_there_is_a_failed_run(scheduler: Scheduler) -> None:
    ended = run(scheduler, "no-such-program")
    assert (ended["status"], ended["exit_code"]) == ("failed", 127)
    assert "no-such-program" in ended["logs"]


def test_output_that_is_not_utf_8_is_shown_and_kept(scheduler: Scheduler) -> None:
    ended = run(scheduler, r"printf 'a\377\376b\000c'")
    assert ended["logs"] == "STDOUT:\na\ufffd\ufffdb\0c\n\nSTDERR:\n"
    assert scheduler.get(f"/runs/{ended['run_id']}/log") == b"a\xff\xfeb\0c"


def test_a_mebibyte_of_output_keeps_head_tail_and_the_true_count(scheduler: Scheduler) -> None:
    ended = run(scheduler, "seq -f '%07.0f' 131072")

    whole = b"".join(b"%07d\n" % number for number in range(1, 131_073))
    log = scheduler.get(f"/runs/{ended['run_id']}/log")
    marker = re.search(rb"\n\[\.\.\. (\d+) bytes left out; they were not kept \.\.\.\]\n", log)
    assert marker is not None
    head, tail = log[: marker.start()], log[marker.end() :]
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert len(head) == len(tail) == 128 * 1024
    assert len(head) + int(marker[1]) + len(tail) == len(whole) == 1024 * 1024
    where = f"all that is kept: /runs/{ended['run_id']}/log?stream=stdout"
    assert f"[... {len(whole) - 64 * 1024} bytes left out; {where} ...]" in ended["logs"]


def test_a_job_that_takes_too_long_is_ended(scheduler: Scheduler) -> None:
    ended = run(scheduler, "echo before; sleep 300; echo after", timeout="1s")
    assert (ended["status"], ended["reason"]) == ("failed", "timeout")
    assert ended["logs"] == "STDOUT:\nbefore\n\n\nSTDERR:\n"


def test_a_cancel_ends_all_that_the_job_started(scheduler: Scheduler) -> None:
    pids = scheduler.folder / "pids"
    [job] = scheduler.submit(f"setsid sleep 300 & sleep 300 & echo $$ $! >{pids}; wait")
    until(lambda: pids.exists() and pids.read_text("ascii").endswith("\n"))
    scheduler.post(f"/jobs/{job}/cancel")
    ended = scheduler.finished(job)
    assert (ended["status"], ended["reason"]) == ("cancelled", "cancelled")
    assert not any(alive(int(pid)) for pid in pids.read_text("ascii").split())


@pytest.mark.slow
def test_a_cancel_ends_a_job_that_ignores_term(scheduler: Scheduler) -> None:
    pid = scheduler.folder / "stubborn"
    [job] = scheduler.submit(f"trap '' TERM; echo $$ >{pid}; sleep 300; sleep 300")
    until(lambda: pid.exists() and pid.read_text("ascii").endswith("\n"))
    scheduler.post(f"/jobs/{job}/cancel")
    ended = scheduler.finished(job)
    assert (ended["status"], ended["reason"]) == ("cancelled", "cancelled")
    assert not alive(int(pid.read_text("ascii")))


def test_a_schedule_is_taken_and_fires_next_minute(scheduler: Scheduler) -> None:
    line = """curl -d '{"name": "n", "command": "true", "schedule": "* * * * *"}' http://localhost:8080/jobs"""
    job = curl(scheduler, line)
    assert job["schedule"] == "* * * * *"
    assert job["next_fire_at"].endswith(":00.000Z")
    assert job["next_fire_at"] > job["created_at"]


# --- starting and stopping -------------------------------------------------------------------------------------------


def test_a_second_scheduler_on_the_same_database_exits_75_with_a_sentence(scheduler: Scheduler) -> None:
    db = scheduler.folder / "scheduler.db"
    assert db.exists()
    port, zmq_port = free_ports(2)
    flags = ["-db", str(db), "-port", str(port), "-zmq-port", str(zmq_port)]
    done = subprocess.run(
        [SCHEDULER, *flags], env=environment(scheduler.folder), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 75
    [line] = done.stderr.splitlines()
    assert scheduler.program is not None
    assert f"another scheduler (process {scheduler.program.pid}) holds" in line


@pytest.mark.parametrize("which", ["port", "zmq_port"])
def test_a_port_in_use_is_one_clear_line(scheduler: Scheduler, tmp_path: Path, which: str) -> None:
    port, zmq_port = free_ports(2)
    ports = {"port": port, "zmq_port": zmq_port, which: getattr(scheduler, which)}
    flags = ["-port", str(ports["port"]), "-zmq-port", str(ports["zmq_port"])]
    done = subprocess.run(
        [SCHEDULER, *flags], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert done.returncode not in (0, 75)
    [line] = done.stderr.splitlines()
    assert str(ports[which]) in line
    assert "in use" in line


def test_a_worker_without_a_name_says_how_to_give_one(tmp_path: Path) -> None:
    done = subprocess.run([WORKER], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "-id" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_waits_for_its_scheduler_and_both_end_cleanly(tmp_path: Path) -> None:
    """SIGTERM lets a worker finish what runs, and tells the scheduler; nothing is lost, and both exit 0."""
    scheduler = Scheduler(tmp_path, argv=[SCHEDULER])
    with Program("w1", [WORKER, "-id", "w1", "-scheduler", scheduler.url], tmp_path) as worker:
        worker.wait_for_log(f"can't reach {scheduler.url}")
        with scheduler:
            begun, go = tmp_path / "begun", tmp_path / "go"
            [job] = scheduler.submit(f"echo begun; touch {begun}; until [ -e {go} ]; do sleep 0.05; done; echo done")
            # The job itself must have said so: the scheduler calls a run running when it has handed it out.
            until(begun.exists)
            worker.terminate()
            worker.wait_for_log("SIGTERM, finishing 1 run")
            [waiting] = scheduler.submit("true")
            go.touch()
            assert worker.exit_code() == 0
            ended = scheduler.finished(job)
            assert (ended["status"], ended["logs"]) == ("success", "STDOUT:\nbegun\ndone\n\n\nSTDERR:\n")
            # Its goodbye may come after its end.
            until(lambda: scheduler.workers() == {"w1": "inactive"})
            assert scheduler.get(f"/jobs/{waiting}")["status"] == "pending"
            assert scheduler.program is not None
            scheduler.program.terminate()
            assert scheduler.program.exit_code() == 0
            for program in (scheduler.program, worker):
                assert "Traceback" not in program.log()
