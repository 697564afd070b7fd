"""What a job may and may not do to its worker and its host. Real processes; the worker is root's and another user's."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import ROOT, WorkerProcess, alive
from tests.system.stub import StubScheduler

NOBODY = 65_534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
# Python that fails in its own way on each of the doors that /proc/PID and ptrace open, and prints which let it in.
BURGLAR = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def read(path):
    with open(path, "rb") as file:
        file.read(1)
def trace(pid):
    PTRACE_SEIZE = 0x4206
    if libc.ptrace(PTRACE_SEIZE, pid, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
for pid in map(int, sys.argv[1:]):
    doors = {
        "environ": lambda: read(f"/proc/{pid}/environ"),
        "maps": lambda: read(f"/proc/{pid}/maps"),
        "mem": lambda: open(f"/proc/{pid}/mem", "rb"),
        "fd": lambda: os.listdir(f"/proc/{pid}/fd"),
        "cwd": lambda: os.readlink(f"/proc/{pid}/cwd"),
        "ptrace": lambda: trace(pid),
    }
    for name, door in doors.items():
        try:
            door()
        except PermissionError:
            continue
        print("open:", name)
print("tried")
"""


@pytest.fixture
def scheduler() -> Iterator[StubScheduler]:
    with StubScheduler() as stub:
        yield stub


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody, the user, owns and can reach; or this test is skipped."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to be another user")
    seen = subprocess.run(
        [*AS_NOBODY, sys.executable, "-c", "import zsched.worker.guard"], cwd=ROOT, capture_output=True, text=True
    )
    if seen.returncode != 0:
        pytest.skip(f"user {NOBODY} can't read this checkout: {seen.stderr.splitlines()[-1]}")
    made = Path(tempfile.mkdtemp(prefix="zsched-nobody-"))
    os.chown(made, NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def nobody(scheduler: StubScheduler, folder: Path) -> Iterator[WorkerProcess]:
    """A worker that is not root."""
    with WorkerProcess(scheduler.url, folder, under=AS_NOBODY) as process:
        scheduler.until(lambda: scheduler.registers)
        yield process


def burgle(*pids: int) -> str:
    """A job that tries to look into processes."""
    words = [sys.executable, "-I", "-S", "-c", BURGLAR, *map(str, pids)]
    return "exec " + " ".join(map(shlex.quote, words))


def told(scheduler: StubScheduler, command: str) -> str:
    """What a job prints."""
    result = scheduler.run(command)
    assert (result.status, result.stderr.head) == ("success", b"")
    return result.stdout.head.decode()


# --- what every job inherits -----------------------------------------------------------------------------------------


def test_files_of_a_job_are_its_users_alone_and_no_program_gives_it_more_rights(
    scheduler: StubScheduler, tmp_path: Path
) -> None:
    with WorkerProcess(scheduler.url, tmp_path):
        assert told(scheduler, "umask; grep NoNewPrivs /proc/self/status") == "0077\nNoNewPrivs:\t1\n"


def test_a_worker_may_be_told_otherwise(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path, umask="022", no_new_privs="no"):
        assert told(scheduler, "umask; grep NoNewPrivs /proc/self/status") == "0022\nNoNewPrivs:\t0\n"
        # What is the worker's own stays so.
        assert {path.name: path.stat().st_mode & 0o077 for path in (tmp_path / "state").iterdir()} == {
            "lock": 0,
            "spool_id": 0,
            "curve.key": 0,
        }


def test_when_memory_runs_out_a_job_goes_before_its_worker(scheduler: StubScheduler, tmp_path: Path) -> None:
    with WorkerProcess(scheduler.url, tmp_path) as worker:
        job = int(told(scheduler, "cat /proc/self/oom_score_adj"))
        agent = worker.agent()
        assert agent is not None
        ours = [int(Path(f"/proc/{pid}/oom_score_adj").read_text("ascii")) for pid in (worker.pid, agent, os.getpid())]

    assert ours[0] == ours[1] == ours[2]
    assert job == min(ours[0] + 500, 1_000)


def test_what_the_worker_was_started_with_is_not_open_in_a_job(scheduler: StubScheduler, tmp_path: Path) -> None:
    opened = ("sh", "-c", 'exec "$@" 7</etc/passwd', "sh")
    with WorkerProcess(scheduler.url, tmp_path, under=opened) as worker:
        assert told(scheduler, "readlink /proc/self/fd/0; ls /proc/self/fd").split() == ["/dev/null", *"0123"]
        if os.geteuid() == 0:
            # So it was there to be inherited.
            assert os.readlink(f"/proc/{worker.pid}/fd/7") == "/etc/passwd"


# --- a worker that is not root ---------------------------------------------------------------------------------------


def test_a_job_can_look_into_neither_guard_nor_agent(scheduler: StubScheduler, nobody: WorkerProcess) -> None:
    agent = nobody.agent()
    assert agent is not None

    assert told(scheduler, f"id -u; {burgle(nobody.pid, agent)}") == f"{NOBODY}\ntried\n"


def test_a_job_can_be_looked_into_by_its_own_user(scheduler: StubScheduler, nobody: WorkerProcess) -> None:
    run = scheduler.submit("exec sleep 1000")
    scheduler.until(lambda: run in scheduler.started)

    # So a debugger works in jobs, and the test above can fail.
    assert told(scheduler, burgle(scheduler.started[run].pid)).count("open:") == 6


def test_it_knows_and_ends_its_own_processes_all_the_same(
    scheduler: StubScheduler, nobody: WorkerProcess, folder: Path
) -> None:
    pid_file, other = folder / "pid", scheduler.submit("exec sleep 1000")
    scheduler.until(lambda: other in scheduler.started)

    told(scheduler, f"setsid sleep 1000 & echo $! > {pid_file}; while ! grep -q sleep /proc/$!/comm; do :; done")

    assert not alive(int(pid_file.read_text("ascii")))
    assert other not in scheduler.results
    assert int(told(scheduler, "cat /proc/self/oom_score_adj")) > 0


def test_an_agent_without_its_guard_ends_what_that_left(scheduler: StubScheduler, nobody: WorkerProcess) -> None:
    run = scheduler.submit("exec sleep 1000")
    scheduler.until(lambda: run in scheduler.started)
    jobs = nobody.jobs()

    os.kill(nobody.pid, 9)
    scheduler.until(lambda: scheduler.byes)

    assert scheduler.byes == ["guard_lost"]
    assert jobs
    assert not any(map(alive, jobs))
