"""A scheduler that starts on another database beside workers that are at work."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess, alive
from tests.system.session import Scheduler, until
from tests.system.test_command_line import Cli
from zsched.store.contract import Restoration
from zsched.store.sqlite.engine import SqliteEngine
from zsched.store.writer import Writer

# Many processes: the quick tests leave this to .ci/run.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


class Fleet:
    """A scheduler with two workers of three slots, whose jobs write down when they start and end."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.scheduler = stack.enter_context(Scheduler(folder, "-worker-timeout", "5s", "-db", "a.db"))
        self.cli = Cli(self.scheduler, folder)
        self.workers = []
        for name in ("w1", "w2"):
            (folder / name).mkdir()
            worker = WorkerProcess(
                self.scheduler.url, folder / name, slots=3, id=name, heartbeat_interval="500ms", poll_interval="200ms"
            )
            self.workers.append(stack.enter_context(worker))
        until(lambda: self.scheduler.workers() == {"w1": "active", "w2": "active"})

    def submit(self, name: str, seconds: float | None, **fields: object) -> int:
        """A job whose shell lives for so long, or with None until `let_go`. Its pid stands in a file."""
        wait = f"while [ ! -e {self.folder}/go ]; do sleep 0.1; done" if seconds is None else f"sleep {seconds}"
        command = f"echo $$ >> {self.folder}/{name}.pid; {wait}; echo done {name}"
        return self.scheduler.submit(command, **fields)[0]

    def let_go(self) -> None:
        (self.folder / "go").touch()

    def pids(self, name: str) -> list[int]:
        """Of every start of a job."""
        path = self.folder / f"{name}.pid"
        return [int(line) for line in path.read_text("ascii").split()] if path.exists() else []

    def started(self, *names: str) -> None:
        until(lambda: all(len(self.pids(name)) == 1 for name in names))

    def move(self, db: str) -> None:
        """End the scheduler, and start it on another database on the same ports."""
        assert self.scheduler.program is not None
        self.scheduler.program.terminate()
        self.scheduler.program.exit_code()
        argv = self.scheduler._argv
        argv[argv.index("-db") + 1] = db
        self.scheduler.start()
        until(lambda: self.scheduler.workers() == {"w1": "active", "w2": "active"}, within_s=60)

    def foreign(self) -> dict[str, tuple[int, int]]:
        """How many runs and results each worker holds for other databases, by `zsched foreign`."""
        found = json.loads(self.cli.good("foreign", "--json"))
        return {view["worker_id"]: (view["running"], view["results"]) for view in found}

    def log(self) -> str:
        assert self.scheduler.program is not None
        return self.scheduler.program.log()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(tmp_path, stack)


def test_jobs_survive_a_scheduler_on_an_empty_database(fleet: Fleet) -> None:
    scheduler = fleet.scheduler
    longs = [f"long{number}" for number in range(4)]
    jobs = {name: fleet.submit(name, 600) for name in longs}
    fleet.started(*longs)
    # Each worker has two of them, and one of these.
    jobs["short"], jobs["stop"] = fleet.submit("short", None), fleet.submit("stop", 600, on_disconnect="stop")
    fleet.started("short", "stop")
    on_w2 = {name for name in jobs if fleet.pids(name)[0] in fleet.workers[1].jobs()}
    assert len(on_w2) == 3
    fleet.move("b.db")
    # The new database numbers its jobs and runs from 1 too, and nobody gets them.
    waiting = fleet.submit("waiting", 0)
    fleet.let_go()
    # The short one has ended by itself, and the other one by its lease.
    until(lambda: fleet.foreign() == {"w1": (2, 1), "w2": (2, 1)})
    assert all(alive(fleet.pids(name)[0]) for name in longs)
    assert not any(alive(fleet.pids(name)[0]) for name in ("short", "stop"))
    assert scheduler.get(f"/jobs/{waiting}")["status"] == "pending"
    ready, remark = scheduler.ask("GET", "/readyz")[1].decode().splitlines()
    assert (ready, remark.partition(" wait")[0]) == ("ready", "4 foreign runs on 2 workers")
    assert "zsched foreign discard" in fleet.log()
    assert fleet.cli("foreign", "discard")[0] == 2
    assert fleet.cli("foreign", "keep", "w3")[0] == 3

    # One worker works on beside its foreign runs, the other one is freed of them.
    fleet.cli.good("foreign", "keep", "w1")
    assert scheduler.finished(waiting)["status"] == "success"
    assert scheduler.last_run(waiting)["worker_id"] == "w1"
    assert all(alive(fleet.pids(name)[0]) for name in longs)
    fleet.cli.good("foreign", "discard", "w2")
    until(lambda: fleet.foreign().keys() == {"w1"})
    assert [name for name in longs if not alive(fleet.pids(name)[0])] == [name for name in longs if name in on_w2]
    more = [fleet.submit(f"more{number}", 1) for number in range(4)]
    assert {scheduler.finished(job)["status"] for job in more} == {"success"}
    assert {scheduler.last_run(job)["worker_id"] for job in more} == {"w1", "w2"}

    fleet.move("a.db")
    # What was discarded runs again. What went on is the same run still.
    until(lambda: all(len(fleet.pids(name)) == 2 for name in on_w2))
    for name in set(longs) - on_w2:
        assert scheduler.last_run(jobs[name])["status"] == "running"
        assert len(fleet.pids(name)) == 1
        assert alive(fleet.pids(name)[0])
    # A result that waited is told.
    if "short" not in on_w2:
        assert scheduler.finished(jobs["short"])["status"] == "success"
        assert len(fleet.pids("short")) == 1
    else:
        until(lambda: scheduler.get(f"/jobs/{jobs['stop']}/runs")[-1].get("reason") == "lease_stop")
    assert fleet.foreign() == {}


def test_results_wait_for_the_database_that_comes_back(fleet: Fleet) -> None:
    scheduler = fleet.scheduler
    names = [f"j{number}" for number in range(4)]
    jobs = [fleet.submit(name, None) for name in names]
    fleet.started(*names)
    fleet.move("b.db")
    until(lambda: sum(running for running, _ in fleet.foreign().values()) == 4)
    fleet.let_go()
    until(lambda: sum(results for _, results in fleet.foreign().values()) == 4)
    # Nothing runs any more, so there is nothing to decide.
    waiting = fleet.submit("waiting", 0)
    assert scheduler.finished(waiting)["status"] == "success"
    fleet.move("a.db")
    for job, name in zip(jobs, names, strict=True):
        assert scheduler.finished(job)["status"] == "success"
        assert f"done {name}" in scheduler.last_run(job)["logs"]
        assert len(fleet.pids(name)) == 1
    assert fleet.foreign() == {}


def test_a_restored_database_ends_the_runs_of_its_predecessor_first(fleet: Fleet) -> None:
    scheduler = fleet.scheduler
    names = [f"old{number}" for number in range(4)]
    for name in names:
        fleet.submit(name, 600)
    fleet.started(*names)
    before = time.time()
    # A copy that was restored: empty here, so that what runs is known by nobody.
    engine = SqliteEngine(fleet.folder / "c.db")
    engine.migrate(int(before * 1000))
    store = Writer(engine)
    found = SqliteEngine(fleet.folder / "a.db", read_only=True)
    [(identity,)] = found.execute("SELECT db FROM identity")
    found.close()
    engine.execute("UPDATE identity SET db = ?", (identity,))
    store = Writer(engine)
    store.begin()
    store.succeed("0" * 32, Restoration(now_ms=int(before * 1000)))
    store.commit()
    engine.close()
    assert scheduler.program is not None
    fleet.move("c.db")
    new = fleet.submit("new", 0)
    assert scheduler.finished(new)["status"] == "success"
    until(lambda: not any(alive(fleet.pids(name)[0]) for name in names))
    # The worker reaps them, and reports that.
    until(lambda: fleet.foreign() == {})
    assert "this database was restored from it" in fleet.log()
