"""A job that stops its worker's processes (SIGSTOP) takes no worker out for good, and its neighbours don't pay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, until

# Many processes, and some seconds of patience each.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

WORKERS = 3
INNOCENTS = 30
CRASH_LIMIT = 2

# The parent of a job is the guard; the agent is another child of it.
STOP_GUARD = "kill -STOP $PPID"
STOP_GUARD_FOREVER = f"while :; do {STOP_GUARD}; sleep 0.2; done"
STOP_AGENT_FOREVER = (
    "while :; do for pid in $(cat /proc/$PPID/task/$PPID/children); do"
    " ! grep -q worker[.]agent /proc/$pid/cmdline || kill -STOP $pid; done; sleep 0.1; done"
)


class Scene:
    """A scheduler and three workers; somebody starts again each worker that has ended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held = ExitStack()
        self.scheduler = self._held.enter_context(Scheduler(folder, "-worker-timeout", "60s"))
        self.workers = {f"w{number}": self._worker(f"w{number}") for number in range(WORKERS)}
        self.restarts = 0
        until(lambda: list(self.scheduler.workers().values()) == ["active"] * WORKERS)

    def _worker(self, name: str) -> WorkerProcess:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        worker = WorkerProcess(self.scheduler.url, folder, slots=2, id=name)
        return self._held.enter_context(worker)

    def restart(self) -> None:
        for name, worker in self.workers.items():
            if worker.ended():
                self.restarts += 1
                self.workers[name] = self._worker(name)

    def status(self, job: int) -> str:
        self.restart()
        status: str = self.scheduler.get(f"/jobs/{job}")["status"]
        return status

    def innocents_succeed(self, within_s: float) -> None:
        jobs = self.scheduler.submit(*["sleep 0.2"] * INNOCENTS)
        until(lambda: all(self.status(job) == "success" for job in jobs), within_s)

    def ends_crash_limit(self, command: str) -> None:
        """A job with this command is found out, all others succeed meanwhile and afterwards."""
        (job,) = self.scheduler.submit(command, crash_limit=CRASH_LIMIT)
        until(lambda: self.status(job) == "running")
        self.innocents_succeed(within_s=100)
        until(lambda: self.status(job) == "failed", within_s=200)
        assert self.scheduler.get(f"/jobs/{job}")["last_run"]["reason"] == "crash_limit"
        self.restart()
        until(lambda: list(self.scheduler.workers().values()) == ["active"] * WORKERS)
        # It is suspected at the first loss, when it was there with others, and blamed for those after it.
        assert CRASH_LIMIT <= self.restarts <= CRASH_LIMIT + 2
        self.innocents_succeed(within_s=20)

    def close(self) -> None:
        self._held.close()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    opened = Scene(tmp_path)
    yield opened
    opened.close()


def test_job_that_stops_its_guard_once_does_no_harm(scene: Scene) -> None:
    (job,) = scene.scheduler.submit(f"{STOP_GUARD}; echo done")
    scene.innocents_succeed(within_s=20)
    until(lambda: scene.status(job) == "success", within_s=20)
    assert scene.scheduler.get(f"/jobs/{job}")["last_run"]["attempt"] == 1
    assert scene.restarts == 0
    logs = "".join(worker.log() for worker in scene.workers.values())
    assert logs.count("was stopped by a signal: woken") == 1


def test_job_that_stops_its_guard_again_and_again_ends_crash_limit(scene: Scene) -> None:
    scene.ends_crash_limit(STOP_GUARD_FOREVER)


def test_job_that_stops_its_agents_ends_crash_limit(scene: Scene) -> None:
    scene.ends_crash_limit(STOP_AGENT_FOREVER)
