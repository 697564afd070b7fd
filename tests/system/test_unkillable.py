"""Jobs that resist their end: those that ignore TERM, and those that the worker may not kill. Real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess, alive, gone
from tests.system.stub import StubScheduler
from tests.system.test_guard import pid_in, read_pid
from zsched.protocol import Heartbeat

# A run is stuck only after 10 s.
pytestmark = pytest.mark.slow

NOBODY = 65_534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
STUCK_S = 10.0


@pytest.fixture
def scheduler() -> Iterator[StubScheduler]:
    with StubScheduler() as stub:
        yield stub


def test_job_that_ignores_term_and_leaves_orphans_is_gone_after_its_grace(
    scheduler: StubScheduler, tmp_path: Path
) -> None:
    main, stray = tmp_path / "main", tmp_path / "stray"
    command = f"trap '' TERM; echo $$ > {main}; setsid sleep 1000 & echo $! > {stray}; sleep 1000; sleep 1000"
    with WorkerProcess(scheduler.url, tmp_path) as worker:
        run = scheduler.submit(command, timeout_ms=2_000, grace_ms=1_000)
        scheduler.until(lambda: pid_in(main)() and pid_in(stray)())
        began = time.monotonic()
        pids = [read_pid(main), read_pid(stray)]
        while any(map(alive, pids)):
            scheduler.until(lambda: True)
            assert time.monotonic() < began + 5, worker.log()
            time.sleep(0.01)
        took_s = time.monotonic() - began
        scheduler.until(lambda: run in scheduler.results)
        result = scheduler.results[run]

        assert (result.status, result.reason, result.signal) == ("failed", "timeout", 9)
        assert abs(took_s - 3) < 0.5
        # A result may be there before the last process is reaped.
        scheduler.until(lambda: worker.jobs() == [])


@pytest.fixture
def suid(scheduler: StubScheduler) -> Iterator[Path]:
    """A folder that nobody, the user, may use, with a program in it that makes whoever runs it root."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for a program that the worker may not kill")
    folder = Path(tempfile.mkdtemp(prefix="zsched-suid-"))
    os.chown(folder, NOBODY, NOBODY)
    program = folder / "root"
    shutil.copy(shutil.which("setpriv") or "setpriv", program)
    program.chmod(0o4755)
    became = subprocess.run([*AS_NOBODY, program, "--reuid=0", "id", "-u"], capture_output=True, text=True)
    if became.stdout != "0\n":
        shutil.rmtree(folder)
        pytest.skip(f"setuid does not work here: nosuid, or no_new_privs ({became.stderr.strip()})")
    yield folder
    shutil.rmtree(folder)


class Stuck:
    """A worker of nobody, and on it a run with a process of root's."""

    def __init__(self, scheduler: StubScheduler, folder: Path, worker: WorkerProcess, where: str) -> None:
        self._scheduler = scheduler
        self.worker = worker
        pid_file = folder / "pid"
        rootly = f"{folder}/root --reuid=0 sh -c 'echo $$ > {pid_file}; exec sleep 1000'"
        command = {"main": f"exec {rootly}", "stray": f"{rootly} & while ! [ -s {pid_file} ]; do sleep 0.01; done"}
        self.run = scheduler.submit(command[where], grace_ms=100)
        scheduler.until(pid_in(pid_file))
        self.pid = read_pid(pid_file)

    def told(self) -> list[Heartbeat]:
        return [frame for frame in self._scheduler.seen if isinstance(frame, Heartbeat) and frame.stuck]

    def end(self) -> None:
        if alive(self.pid):
            os.kill(self.pid, signal.SIGKILL)
            gone(self.pid, within_s=5)


@pytest.mark.parametrize("where", ["main", "stray"])
def test_run_that_the_worker_may_not_kill_is_reported_and_ends_by_itself(
    scheduler: StubScheduler, suid: Path, where: str
) -> None:
    with WorkerProcess(scheduler.url, suid, under=AS_NOBODY, no_new_privs="no") as worker:
        stuck = Stuck(scheduler, suid, worker, where)
        try:
            if where == "main":
                scheduler.until(lambda: stuck.run in scheduler.started)
                scheduler.cancel(stuck.run)
            began = time.monotonic()
            scheduler.until(stuck.told, timeout_s=STUCK_S + 5)
            assert time.monotonic() - began > STUCK_S - 0.5
            told = stuck.told()[0]
            assert (told.stuck, told.window) == ((stuck.run,), 0)
            assert (stuck.run, "running") in [(held.run, held.phase) for held in told.runs]
            assert worker.log().count(f"is stuck: its processes [{stuck.pid}] were killed and do not end") == 1
            # A new agent knows it too.
            seen = len(stuck.told())
            worker.send(signal.SIGHUP)
            scheduler.until(lambda: len(scheduler.registers) >= 2 and len(stuck.told()) > seen)
            assert scheduler.window == 0
        finally:
            stuck.end()
        scheduler.until(lambda: stuck.run in scheduler.results and scheduler.window)
        reason = {"main": "cancelled", "stray": "exit"}[where]
        assert scheduler.results[stuck.run].reason == reason
        assert scheduler.run("true").status == "success"


def test_stuck_run_does_not_delay_the_end_of_the_worker_and_is_reported(scheduler: StubScheduler, suid: Path) -> None:
    with WorkerProcess(scheduler.url, suid, under=AS_NOBODY, no_new_privs="no") as worker:
        stuck = Stuck(scheduler, suid, worker, "main")
        try:
            began = time.monotonic()
            worker.send(signal.SIGTERM)
            scheduler.until(lambda: scheduler.window == 0)
            worker.send(signal.SIGTERM)
            scheduler.until(lambda: worker.ended() and scheduler.byes, timeout_s=STUCK_S + 8)

            assert time.monotonic() - began > STUCK_S - 0.5
            assert (worker.exit_code(), scheduler.byes) == (0, ["shutdown"])
            assert stuck.told()[-1].stuck == (stuck.run,)
            assert alive(stuck.pid)
            assert stuck.run not in scheduler.results
            assert f"runs ({stuck.run},) are left behind" in worker.log()
        finally:
            stuck.end()
