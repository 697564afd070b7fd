"""Log lines to a pipe: nobody reads it, and it stops nothing; somebody reads it, and all is there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.system.process import PROGRAM, children, gone
from tests.system.session import SCHEDULER, Scheduler, environment, free_ports, until

# What a pipe holds when nobody changes it is 64 KiB; with less the tests are shorter.
PIPE_BYTES = 4_096
F_SETPIPE_SZ = 1031

LOST = re.compile(r"WARN zsched\.logs: lost (\d+) log lines: ")


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


def read_to_end(readable: int) -> str:
    """All lines until every writer has ended."""
    parts = []
    while part := os.read(readable, 65_536):
        parts.append(part)
    return b"".join(parts).decode()


def lines_and_lost(text: str) -> tuple[int, int]:
    """How many lines came, and how many are said to be lost."""
    return text.count("\n"), sum(map(int, LOST.findall(text)))


def test_scheduler_serves_while_nobody_reads_its_log(tmp_path: Path) -> None:
    scheduler = Scheduler(tmp_path)
    ports = (f"--port={scheduler.port}", f"--zmq-port={scheduler.zmq_port}")
    with unread(tmp_path, [*SCHEDULER, *ports, "--log-level=DEBUG"]) as (process, readable):
        until(lambda: _answers(scheduler))
        # Each call of REST is a line of some 150 bytes.
        for _ in range(200):
            assert scheduler.submit("true")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        text = read_to_end(readable)
    assert "DEBUG" in text


def _answers(scheduler: Scheduler) -> bool:
    try:
        return scheduler.ask("GET", "/readyz")[0] == 200
    except OSError:
        return False


def test_worker_runs_jobs_while_nobody_reads_its_log(tmp_path: Path) -> None:
    with Scheduler(tmp_path, "-worker-timeout", "3s") as scheduler:
        argv = [*PROGRAM, "--id=w1", f"--scheduler={scheduler.url}", "--slots=2", "--log-level=DEBUG"]
        with unread(tmp_path, argv) as (process, readable):
            until(lambda: scheduler.workers().get("w1") == "active")
            # Each leaves a stray behind, which the guard's log tells.
            jobs = scheduler.submit(*["setsid sleep 60 & true"] * 300)
            assert all(scheduler.finished(job)["status"] == "success" for job in jobs)
            assert scheduler.workers()["w1"] == "active"
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            text = read_to_end(readable)
    assert "DEBUG" in text
