"""A real worker process for tests, and what /proc says about it. Ends only what it started, by pid."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-P", "-m", "zsched.commands.worker")


class Logged:
    """A program whose log is in a file. It writes a line with the log call, before anything that follows."""

    log_path: Path

    def log(self) -> str:
        return self.log_path.read_text("utf-8")

    def wait_for_log(self, text: str, within_s: float = 30.0, times: int = 1) -> None:
        """For a line that the program writes after what the test has seen of it."""
        end = time.monotonic() + within_s
        while (log := self.log()).count(text) < times:
            assert time.monotonic() < end, f"{text!r} did not come into the log within {within_s} s:\n{log}"
            time.sleep(0.02)


class WorkerProcess(Logged):
    """`python -P -m zsched.commands.worker` with its log in a file."""

    def __init__(
        self,
        url: str,
        folder: Path,
        slots: int = 2,
        nofile: str = "",
        under: Sequence[str] = (),
        program: Sequence[str] = PROGRAM,
        cwd: Path | str = ROOT,
        **settings: str,
    ) -> None:
        """`nofile`: the soft and the hard limit of descriptors that it starts with, as prlimit(1) reads them. `under`:
        a program that becomes the worker, with its arguments. `cwd`: where its jobs start too.
        """
        self.state_dir = folder / "state"
        self.log_path = folder / "worker.log"
        flags = {"id": "w1", "scheduler": url, "state-dir": str(self.state_dir), "slots": str(slots)} | settings
        options = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", value)]
        limited = ["prlimit", f"--nofile={nofile}"] if nofile else []
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*under, *limited, *program, *options],
                cwd=cwd,
                env={"PYTHONPATH": str(ROOT)} | os.environ,
                stdin=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The agent goes by itself when the guard is gone, once it has ended what that had started."""
        agent = self.agent()
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if agent is not None:
            assert gone(agent, within_s=10), f"agent {agent} did not end"

    def agent(self) -> int | None:
        """The agent's pid, None while there is none."""
        for pid in children(self.pid):
            if "zsched.worker.agent.main" in command_line(pid):
                return pid
        return None

    def jobs(self) -> list[int]:
        """The main processes of its jobs, and strays that have become its children."""
        return [pid for pid in children(self.pid) if "zsched.worker.agent.main" not in command_line(pid)]

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def exit_code(self) -> int:
        """Waits for the end."""
        return self._process.wait(timeout=20)


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, as they may not enter pytest's."""
    with tempfile.TemporaryDirectory(prefix="zsched-test-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    return []


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")


def gone(pid: int, within_s: float) -> bool:
    """Wait for the end of a process that is no child of ours."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # Not select(): it takes no descriptor above 1,023.
        waiting = select.poll()
        waiting.register(watched, select.POLLIN)
        return bool(waiting.poll(within_s * 1_000))
    finally:
        os.close(watched)


def rss_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(pid: int) -> int:
    """The most that rss_bytes ever was. The kernel keeps it, so that what was soon given back counts too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text("utf-8"))
    assert found is not None
    return int(found[1]) * 1024


def open_fds(pid: int) -> int:
    """How many descriptors a process has open. Skips the test when that may not be known: a worker's are closed."""
    if os.geteuid() != 0:
        pytest.skip("only root can count the descriptors of a worker")
    return len(os.listdir(f"/proc/{pid}/fd"))
