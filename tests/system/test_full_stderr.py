"""Log lines to a pipe: nobody reads it, and it stops nothing; somebody reads it, and all is there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.system.process import PROGRAM, children, gone
from tests.system.session import SCHEDULER, Scheduler, environment, until
from tests.system.test_command_line import ZSCHED

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

# What a pipe holds when nobody changes it is 64 KiB; with less the tests are shorter.
PIPE_BYTES = 4_096
F_SETPIPE_SZ = 1031
SUBMITS = 200
STRAYS = 200


@contextlib.contextmanager
def unread(folder: Path, argv: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A program whose stderr is a small pipe, and the pipe's reading end."""
    readable, writable = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(writable, F_SETPIPE_SZ, PIPE_BYTES)
    with open(readable, "rb"):
        with open(writable, "wb") as stderr:
            process = subprocess.Popen(
                argv, cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, stderr=stderr, process_group=0
            )
        below: list[int] = []
        try:
            yield process, readable
        finally:
            below = children(process.pid)
            process.kill()
            process.wait()
            for pid in below:
                assert gone(pid, 10)


def fill(readable: int) -> None:
    """Write to a pipe until it takes no more."""
    with open(os.open(f"/proc/self/fd/{readable}", os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0) as pipe:
        for size in (1_024, 1):
            while pipe.write(bytes(size)):
                pass


def end_and_read(process: subprocess.Popen[bytes], readable: int) -> list[str]:
    """End a program while its log is read. Returns all lines."""
    parts: list[bytes] = []
    reader = threading.Thread(target=lambda: parts.extend(iter(lambda: os.read(readable, 65_536), b"")))
    reader.start()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    reader.join()
    return b"".join(parts).decode().splitlines()


def test_scheduler_serves_while_its_log_has_no_reader(tmp_path: Path) -> None:
    scheduler = Scheduler(tmp_path)
    ports = (f"--port={scheduler.port}", f"--zmq-port={scheduler.zmq_port}")
    with unread(tmp_path, [*SCHEDULER, *ports, "--log-level=DEBUG"]) as (process, readable):
        until(lambda: _answers(scheduler))
        # Each call of REST is a line of some 150 bytes.
        for _ in range(SUBMITS):
            assert scheduler.submit("true")
        lines = end_and_read(process, readable)
    # All of it had waited, up to the last line.
    assert sum("POST /jobs" in line for line in lines) == SUBMITS
    assert lines[-1].endswith("ended cleanly")


def _answers(scheduler: Scheduler) -> bool:
    try:
        return scheduler.ask("GET", "/readyz")[0] == 200
    except OSError:
        return False


def test_worker_runs_jobs_while_its_log_has_no_reader(tmp_path: Path) -> None:
    with Scheduler(tmp_path, "-worker-timeout", "3s") as scheduler:
        argv = [*PROGRAM, "--id=w1", f"--scheduler={scheduler.url}", "--slots=2", "--log-level=DEBUG"]
        with unread(tmp_path, argv) as (process, readable):
            until(lambda: scheduler.workers().get("w1") == "active")
            # Each leaves an orphan behind, which the guard logs.
            jobs = scheduler.submit(*["setsid sleep 60 & true"] * STRAYS)
            assert all(scheduler.finished(job)["status"] == "success" for job in jobs)
            assert scheduler.workers()["w1"] == "active"
            lines = end_and_read(process, readable)
    assert sum("an orphan of run" in line for line in lines) >= STRAYS
    assert lines[-1].endswith("worker w1: ended")


def test_up_stops_while_its_stderr_has_no_reader(tmp_path: Path) -> None:
    scheduler = Scheduler(tmp_path)
    ports = (f"--port={scheduler.port}", f"--zmq-port={scheduler.zmq_port}")
    with unread(tmp_path, [*ZSCHED, "up", *ports]) as (process, readable):
        until(lambda: _answers(scheduler) and scheduler.workers() == {"worker-1": "active"})
        fill(readable)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
