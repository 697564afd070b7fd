"""What systemd is told: a scheduler and a worker under a manager that is this test."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from tests.system.process import children, command_line
from tests.system.session import SCHEDULER, Program, Scheduler, free_ports
from zsched.host.notify import Notify

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

# As WatchdogSec=1s, whose half it is: shorter than the loop's second, in which it turns at least once.
EVERY_S = 0.5
WATCHDOG = {"WATCHDOG_USEC": str(int(EVERY_S * 2e6))}
# A turn that is late on a busy machine is no silence.
SILENCE_S = 2.5


class Manager:
    """The socket of a service manager, by a path or by a name in the kernel's own space."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(name.replace("@", "\0", 1))

    def close(self) -> None:
        self._socket.close()

    def hear(self, within_s: float = 30.0) -> list[str]:
        """The next message's lines; none when nothing comes in time."""
        self._socket.settimeout(within_s)
        try:
            return self._socket.recv(4096).decode().split("\n")
        except TimeoutError:
            return []

    def drain(self) -> int:
        """Forget what has come; returns how much that was."""
        self._socket.setblocking(False)
        count = 0
        while True:
            try:
                self._socket.recv(4096)
            except BlockingIOError:
                return count
            count += 1

    def until(self, line: str) -> list[str]:
        """The lines of the next message that begins with this one."""
        while True:
            heard = self.hear()
            assert heard, f"nobody said {line}"
            if heard[0] == line:
                return heard


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    made = Manager(f"@zsched-{secrets.token_hex(8)}" if request.param == "abstract" else str(tmp_path / "notify"))
    yield made
    made.close()


@contextmanager
def told_scheduler(folder: Path, manager: Manager) -> Iterator[tuple[Program, str]]:
    port, zmq_port = free_ports(2)
    argv = [*SCHEDULER, "-port", str(port), "-zmq-port", str(zmq_port)]
    with Program("scheduler", argv, folder, NOTIFY_SOCKET=manager.name, **WATCHDOG) as program:
        yield program, f"http://localhost:{port}"


def test_a_scheduler_says_that_it_is_ready_that_it_lives_and_that_it_ends(tmp_path: Path, manager: Manager) -> None:
    with told_scheduler(tmp_path, manager) as (scheduler, url):
        ready, status = manager.hear()
        assert ready == "READY=1"
        assert status.startswith(f"STATUS=listening on http://0.0.0.0:{url.rpartition(':')[2]}, workers on tcp://")
        for _ in range(3):
            assert manager.hear(SILENCE_S) == ["WATCHDOG=1"]
        scheduler.terminate()
        manager.until("STOPPING=1")
        assert scheduler.exit_code() == 0
        assert manager.drain() == 0


def test_a_busy_scheduler_says_that_it_lives_no_more_often(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as other:
        # One that was started by nobody tells nobody, and the other one is told no more than twice in its time.
        manager = Manager(str(tmp_path / "notify"))
        other.kill()
        argv = [*SCHEDULER, "-port", str(other.port), "-zmq-port", str(other.zmq_port)]
        with Program("told", argv, tmp_path, NOTIFY_SOCKET=manager.name, **WATCHDOG):
            manager.until("READY=1")
            manager.until("WATCHDOG=1")
            began = time.monotonic()
            while time.monotonic() < began + 4 * EVERY_S:
                other.submit("true")
            assert 1 <= manager.drain() <= (time.monotonic() - began) / EVERY_S
        manager.close()


def test_a_scheduler_that_stands_still_says_no_more_that_it_lives(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    with told_scheduler(tmp_path, manager) as (scheduler, _):
        manager.until("WATCHDOG=1")
        os.kill(scheduler.pid, signal.SIGSTOP)
        manager.drain()
        assert manager.hear(SILENCE_S) == []
        os.kill(scheduler.pid, signal.SIGCONT)
        assert manager.hear(SILENCE_S) == ["WATCHDOG=1"]
    manager.close()


def test_stuck_turn_sends_no_watchdog_ping_and_a_failed_one_does(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    with told_scheduler(tmp_path, manager) as (scheduler, _):
        manager.until("WATCHDOG=1")
        with closing(apsw.Connection(str(tmp_path / "scheduler.db"))) as blocker:
            blocker.set_busy_timeout(5_000)
            # The scheduler's next turn waits for this, up to its busy timeout, while its other threads live on.
            blocker.execute("BEGIN IMMEDIATE")
            manager.drain()
            assert manager.hear(SILENCE_S) == []
            scheduler.wait_for_log("could not be stored")
            assert manager.hear(SILENCE_S) == ["WATCHDOG=1"]
    manager.close()


def test_worker_notifies_too_and_its_jobs_and_agent_do_not_see_the_socket(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    with Scheduler(tmp_path) as scheduler:
        argv = [sys.executable, "-P", "-m", "zsched.commands.worker", "-id", "w1", "-scheduler", scheduler.url]
        with Program("worker", [*argv, "-slots", "2"], tmp_path, NOTIFY_SOCKET=manager.name, **WATCHDOG) as worker:
            assert manager.hear() == ["READY=1", "STATUS=2 slots"]
            run = scheduler.finished(scheduler.submit("env")[0])
            assert "NOTIFY_SOCKET" not in run["logs"]
            assert "WATCHDOG" not in run["logs"]
            agents = [pid for pid in children(worker.pid) if "zsched.worker.agent.main" in command_line(pid)]
            assert len(agents) == 1
            # An agent shows its environment to root alone.
            if os.geteuid() == 0:
                environ = Path(f"/proc/{agents[0]}/environ").read_bytes()
                assert b"NOTIFY_SOCKET" not in environ
                assert b"WATCHDOG" not in environ
            manager.drain()
            for _ in range(2):
                assert manager.hear(SILENCE_S) == ["WATCHDOG=1"]
            os.kill(worker.pid, signal.SIGSTOP)
            manager.drain()
            assert manager.hear(SILENCE_S) == []
            os.kill(worker.pid, signal.SIGCONT)
            assert manager.hear(SILENCE_S) == ["WATCHDOG=1"]
            worker.terminate()
            assert manager.until("STOPPING=1") == ["STOPPING=1", "STATUS=finishing 0 runs"]
            assert worker.exit_code() == 0
    manager.close()


def test_lost_service_manager_does_no_harm(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    with told_scheduler(tmp_path, manager) as (scheduler, _):
        manager.until("READY=1")
        manager.close()
        scheduler.wait_for_log("can't send notifications")
        scheduler.terminate()
        assert scheduler.exit_code() == 0
        # Said once, though its end could not be told either.
        assert scheduler.log().count("can't send notifications") == 1


def test_what_is_meant_for_another_process_is_not_taken_for_ours(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    environ = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1", "PATH": "/bin"}
    notify = Notify(environ)
    notify.alive(1)
    assert notify.deadline_ms() is None
    assert manager.drain() == 0
    assert environ == {"PATH": "/bin"}
    manager.close()


def test_without_a_manager_nothing_happens() -> None:
    notify = Notify({"WATCHDOG_USEC": "1000000"})
    notify.ready("well")
    notify.alive(1)
    notify.stopping("well")
    assert notify.deadline_ms() is None
