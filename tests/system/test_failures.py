"""What is killed, and what is kept: kill -9 of each process while jobs run. A job runs to its end, once, or again.

Every job writes what it does into a witness file outside zsched, which is what the tests believe.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess, alive, gone
from tests.system.session import Scheduler, until

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

log = logging.getLogger(__name__)

TIMEOUT_S = 3.0
# Where a loss must be seen long before the silence tells.
PATIENCE_S = 12.0
RunPid = tuple[int, int]


class Scene:
    """A scheduler, its workers, and the witness file."""

    def __init__(self, folder: Path, timeout_s: float) -> None:
        self._folder = folder
        self._witness = folder / "witness"
        self._witness.touch()
        self._held = ExitStack()
        self.scheduler = Scheduler(folder, "-worker-timeout", f"{timeout_s:.0f}s")
        self._held.enter_context(self.scheduler)

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def worker(self, name: str, slots: int) -> WorkerProcess:
        folder = self._folder / name
        folder.mkdir()
        worker = WorkerProcess(self.scheduler.url, folder, slots=slots, id=name, heartbeat_interval="1s")
        self._held.enter_context(worker)
        until(lambda: self.scheduler.workers().get(name) == "active")
        return worker

    def submit(self, count: int, seconds: float) -> list[int]:
        """Jobs that say to the witness when they start and end; returns their ids when all run."""
        says = 'echo "$ZSCHED_RUN_ID $$ {}" >>' + str(self._witness)
        command = f"{says.format('start')}; sleep {seconds}; {says.format('end')}"
        before = len(self.witness("start"))
        jobs = self.scheduler.submit(*[command] * count)
        until(lambda: len(self.witness("start")) == before + count)
        return jobs

    def witness(self, word: str) -> list[RunPid]:
        """The runs and pids that said this, in order. A line that is being written is not there yet."""
        lines = self._witness.read_text("ascii").rpartition("\n")[0].splitlines()
        return [(int(run), int(pid)) for run, pid, said in map(str.split, lines) if said == word]

    def runs_on(self, name: str, jobs: list[int]) -> set[int]:
        """The live runs of a worker, once the scheduler knows that they have started."""
        runs = [self.scheduler.last_run(job) for job in jobs]
        return {run["run_id"] for run in runs if run["status"] == "running" and run["worker_id"] == name}

    def all_succeed(self, jobs: list[int]) -> None:
        until(lambda: all(self.scheduler.get(f"/jobs/{job}")["status"] == "success" for job in jobs), within_s=60)

    def lost(self, jobs: list[int]) -> list[int]:
        """The runs of these jobs that a worker's loss has ended."""
        runs = [run for job in jobs for run in self.scheduler.get(f"/jobs/{job}/runs")]
        return [run["run_id"] for run in runs if run.get("reason") == "worker_lost"]

    def nothing_is_left(self) -> None:
        """No process that a job started has outlived it."""
        assert [pid for _, pid in self.witness("start") if alive(pid)] == []


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A scheduler that takes a silent worker for lost after three seconds."""
    with Scene(tmp_path, TIMEOUT_S) as opened:
        yield opened


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Scene]:
    """A scheduler that would wait long for a silent worker."""
    with Scene(tmp_path, PATIENCE_S) as opened:
        yield opened


def kill(*pids: int | None) -> float:
    """kill -9; returns the moment."""
    for pid in pids:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def until_s(killed: float, condition: Callable[[], bool]) -> float:
    """Seconds from the kill until something has happened."""
    until(condition)
    return time.monotonic() - killed


@pytest.mark.parametrize("count", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_the_jobs_of_a_killed_worker_end_on_another(scene: Scene, count: int) -> None:
    """Guard and agent at once, so nobody is left to end the processes: they may go on, but nobody hears of them."""
    doomed, other = scene.worker("w1", slots=count // 2), scene.worker("w2", slots=count)
    jobs = scene.submit(count, seconds=3)
    mine = scene.runs_on("w1", jobs)
    assert len(mine) == count // 2

    killed = kill(doomed.agent(), doomed.pid)
    inactive_s = until_s(killed, lambda: scene.scheduler.workers()["w1"] == "inactive")
    reassigned_s = until_s(killed, lambda: set(scene.lost(jobs)) == mine)
    started_s = until_s(killed, lambda: len(scene.witness("start")) > count)
    log.info("%d jobs: inactive %.2f s, reassigned %.2f s, started %.2f s", count, inactive_s, reassigned_s, started_s)

    # Not before its silence is a proof, and within a second after that; its last heartbeat was at most one ago.
    assert TIMEOUT_S - 1.5 < inactive_s < TIMEOUT_S + 1
    assert reassigned_s < TIMEOUT_S + 2
    scene.all_succeed(jobs)
    assert scene.scheduler.workers() == {"w1": "inactive", "w2": "active"}
    assert set(scene.lost(jobs)) == mine
    # Who was not on it was not disturbed: each run started once, each job won once, and only the lost ones began anew.
    runs = [run for run, _ in scene.witness("start")]
    assert len(runs) == len(set(runs)) == count + count // 2
    winners = [scene.scheduler.last_run(job)["run_id"] for job in jobs]
    assert set(runs) - mine == set(winners)
    ended = [run for run, _ in scene.witness("end")]
    assert set(winners) <= set(ended)
    assert len(ended) == len(set(ended))
    assert other.agent() is not None
    scene.nothing_is_left()


@pytest.mark.parametrize("away_s", [0.0, pytest.param(5.0, marks=pytest.mark.slow)])
def test_killed_scheduler_returns_to_the_same_runs_in_the_same_processes(scene: Scene, away_s: float) -> None:
    worker = scene.worker("w1", slots=20)
    # Half of them end while nobody is there to hear it.
    jobs = scene.submit(10, seconds=away_s + 4) + scene.submit(10, seconds=0.5)
    started = scene.witness("start")

    scene.scheduler.kill()
    until(lambda: len(scene.witness("end")) == 10)
    # The outage is what is tested here, not a wait for something.
    time.sleep(away_s)
    scene.scheduler.start()
    scene.all_succeed(jobs)

    assert scene.witness("start") == started
    assert sorted(scene.witness("end")) == sorted(started)
    assert {run["run_id"] for job in jobs for run in scene.scheduler.get(f"/jobs/{job}/runs")} == {
        run for run, _ in started
    }
    assert scene.scheduler.workers() == {"w1": "active"}
    assert not worker.ended()
    scene.nothing_is_left()


def test_what_was_acknowledged_before_a_kill_is_there_after_it(scene: Scene) -> None:
    jobs = [scene.scheduler.submit("true")[0] for _ in range(20)]
    scene.scheduler.kill()
    scene.scheduler.start()
    assert [job["id"] for job in scene.scheduler.get("/jobs")] == jobs[::-1]
    scene.worker("w1", slots=2)
    scene.all_succeed(jobs)
    assert scene.scheduler.submit("true") == [jobs[-1] + 1]


def test_killed_agent_is_replaced_and_the_same_processes_go_on(scene: Scene) -> None:
    worker = scene.worker("w1", slots=20)
    jobs = scene.submit(10, seconds=4) + scene.submit(10, seconds=0.2)
    started, agent = scene.witness("start"), worker.agent()
    kill(agent)
    until(lambda: worker.agent() not in (None, agent))

    scene.all_succeed(jobs)
    assert scene.witness("start") == started
    assert sorted(scene.witness("end")) == sorted(started)
    assert scene.lost(jobs) == []
    assert scene.scheduler.workers() == {"w1": "active"}
    scene.nothing_is_left()


def test_an_agent_that_is_killed_again_and_again_costs_no_job(scene: Scene) -> None:
    worker = scene.worker("w1", slots=4)
    jobs = scene.submit(4, seconds=3)
    started = scene.witness("start")
    for _ in range(3):
        until(lambda: worker.agent() is not None)
        agent = worker.agent()
        assert agent is not None
        kill(agent)
        assert gone(agent, within_s=5)
    scene.all_succeed(jobs)
    assert sorted(scene.witness("end")) == sorted(scene.witness("start")) == sorted(started)


def test_jobs_of_a_killed_guard_die_with_it_and_start_elsewhere_at_once(patient: Scene) -> None:
    doomed = patient.worker("w1", slots=2)
    jobs = patient.submit(2, seconds=3)
    pids = [pid for _, pid in patient.witness("start")]
    agent = doomed.agent()
    assert agent is not None
    mine = patient.runs_on("w1", jobs)
    patient.worker("w2", slots=4)

    killed = kill(doomed.pid)
    assert all(gone(pid, within_s=2) for pid in pids)
    inactive_s = until_s(killed, lambda: patient.scheduler.workers()["w1"] == "inactive")
    reassigned_s = until_s(killed, lambda: set(patient.lost(jobs)) == mine)
    log.info("guard alone: inactive %.2f s, reassigned %.2f s", inactive_s, reassigned_s)

    # On the agent's word, long before its silence would have told.
    assert inactive_s < PATIENCE_S / 3
    assert reassigned_s < PATIENCE_S / 3
    assert gone(agent, within_s=5)
    patient.all_succeed(jobs)
    assert patient.scheduler.workers() == {"w1": "inactive", "w2": "active"}
    patient.nothing_is_left()


def test_worker_that_restarts_at_once_proves_that_the_old_one_is_dead(patient: Scene, tmp_path: Path) -> None:
    """The same host, the same boot, the same locked file: its runs start anew long before the silence would tell."""
    old = patient.worker("w1", slots=2)
    jobs = patient.submit(2, seconds=3)
    mine = patient.runs_on("w1", jobs)
    killed = kill(old.agent(), old.pid)
    old.exit_code()
    with WorkerProcess(patient.scheduler.url, tmp_path / "w1", slots=2, id="w1", heartbeat_interval="1s") as new:
        reassigned_s = until_s(killed, lambda: set(patient.lost(jobs)) == mine)
        log.info("the same worker anew: reassigned %.2f s", reassigned_s)
        assert reassigned_s < PATIENCE_S / 2
        # What the old one had left is ended, and starts anew.
        patient.all_succeed(jobs)
        assert {run for run, _ in patient.witness("end")}.isdisjoint(mine)
        assert not new.ended()
        patient.nothing_is_left()
