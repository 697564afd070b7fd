"""`kill -9` of a command that started a scheduler and workers: they end too, and so do the jobs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import alive, children, command_line, gone
from tests.system.session import DEADLINE_S, environment, free_ports, until
from tests.system.test_command_line import ZSCHED

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

ENDED_WITHIN_S = 5.0


@contextlib.contextmanager
def started(folder: Path, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """A command of zsched in a session of its own. What is left of the session afterwards is killed."""
    with (folder / "stderr").open("wb") as log:
        process = subprocess.Popen(
            [*ZSCHED, *argv],
            cwd=folder,
            env=environment(folder, TMPDIR=str(folder)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        yield process
    finally:
        below = descendants(process.pid)
        process.kill()
        process.communicate()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """All processes below a process, the nearest first."""
    below = children(pid)
    return below + [lower for child in below for lower in descendants(child)]


def kill_and_wait(process: subprocess.Popen[str]) -> float:
    """kill -9 of the command alone. Returns the seconds until all processes below it had ended."""
    below = descendants(process.pid)
    try:
        killed = time.monotonic()
        process.kill()
        assert [command_line(pid) for pid in below if not gone(pid, ENDED_WITHIN_S)] == []
        return time.monotonic() - killed
    finally:
        for pid in below:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_killed_up_leaves_no_process(tmp_path: Path) -> None:
    port, zmq_port = free_ports(2)
    flags = (f"--port={port}", f"--zmq-port={zmq_port}", "--workers=2", "--slots=2")
    with started(tmp_path, "up", *flags) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"http://localhost:{port}\n"
        # One of them ignores SIGTERM, and one has left its process group.
        for command in ("trap '' TERM; sleep 321; sleep 322", "setsid sleep 323 & sleep 324"):
            done = subprocess.run(
                [*ZSCHED, "submit", command],
                env=environment(tmp_path, ZSCHED_URL=f"http://localhost:{port}"),
                timeout=DEADLINE_S,
                check=True,
            )
            assert done.returncode == 0
        sleeps = ("sleep 321", "sleep 323", "sleep 324")
        until(lambda: {command_line(pid).strip() for pid in descendants(process.pid)}.issuperset(sleeps))
        kill_and_wait(process)
    # The ports and the locks are free: the next one starts and runs what was interrupted.
    with started(tmp_path, "up", *flags) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"http://localhost:{port}\n"
        until(lambda: "sleep 321" in {command_line(pid).strip() for pid in descendants(process.pid)})
        kill_and_wait(process)


def test_killed_up_ends_what_it_is_starting(tmp_path: Path) -> None:
    port, zmq_port = free_ports(2)
    with started(tmp_path, "up", f"--port={port}", f"--zmq-port={zmq_port}") as process:
        until(lambda: bool(children(process.pid)))
        kill_and_wait(process)


def test_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    with started(tmp_path, "demo") as process:
        until(lambda: "sleep 0.2" in " ".join(map(command_line, descendants(process.pid))))
        kill_and_wait(process)
