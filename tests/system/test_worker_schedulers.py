"""A real worker with a list of schedulers: it finds the active one, and moves to the next without losing anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import free_ports
from tests.system.stub import DEADLINE_S, StubScheduler
from zsched.protocol import Heartbeat

pytestmark = pytest.mark.slow

# Longer than a round through the list, and so long that a session that ends by its timeout is seen.
TIMEOUT_MS = 12_000


@pytest.fixture
def pair() -> Iterator[tuple[StubScheduler, StubScheduler]]:
    """The active scheduler, and one that stands by."""
    # Ports that nobody else gets while the scheduler stands by.
    ports = free_ports(2)
    with StubScheduler(TIMEOUT_MS, zmq_port=ports[0]) as active, StubScheduler(TIMEOUT_MS, zmq_port=ports[1]) as other:
        stand_by(other, active)
        yield active, other


def stand_by(stub: StubScheduler, active: StubScheduler | None = None) -> None:
    """It has no worker port, and enrols nobody."""
    stub.hang_up()
    stub.standby = {"error": "this scheduler stands by", "code": "standby"}
    if active is not None:
        stub.standby["active"] = active.url


def take_over(stub: StubScheduler, before: StubScheduler) -> None:
    """It becomes active on the same database."""
    stub.running, stub._next_run = before.running, before._next_run
    stub.restart()
    stub.standby = None


def serve(stubs: tuple[StubScheduler, ...], done: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
    """Serve the worker at all of them until `done` is true."""
    end = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end, f"not within {timeout_s} s"
        for stub in stubs:
            stub._serve(0.02)


def test_worker_finds_the_active_scheduler(tmp_path: Path, pair: tuple[StubScheduler, StubScheduler]) -> None:
    active, other = pair
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    with WorkerProcess(f"{nobody}, {other.url}, {active.url}", tmp_path) as worker:
        assert active.run("echo hello").stdout.head == b"hello\n"
        assert (active.enrolments, other.enrolments) == (1, 1)
        assert "retrying" not in worker.log()


def test_worker_moves_when_the_connection_is_cut(tmp_path: Path, pair: tuple[StubScheduler, StubScheduler]) -> None:
    """Its job goes on, and the result goes to the new scheduler, from the same state folder."""
    active, other = pair
    with WorkerProcess(f"{active.url}, {other.url}", tmp_path) as worker:
        release = tmp_path / "release"
        run = active.submit(f"while ! test -e {release}; do sleep 0.05; done; echo done")
        active.until(lambda: run in active.running and worker.jobs())
        (job,) = worker.jobs()
        stand_by(active, other)
        # Both stand by for a while: the worker asks again and again.
        before = other.enrolments
        end = time.monotonic() + DEADLINE_S
        while other.enrolments < before + 2:
            assert time.monotonic() < end
            time.sleep(0.02)
        take_over(other, active)
        other.until(lambda: other.registers)
        assert [held.run for held in other.registers[0].runs] == [run]
        assert worker.jobs() == [job]
        release.touch()
        other.until(lambda: run in other.results)
        assert other.results[run].stdout.head == b"done\n"


def test_worker_leaves_a_silent_scheduler_for_one_that_takes_it(
    tmp_path: Path, pair: tuple[StubScheduler, StubScheduler]
) -> None:
    """Long before its session would end."""
    active, other = pair
    with WorkerProcess(f"{active.url}, {other.url}", tmp_path, heartbeat_interval="500ms") as worker:
        run = active.submit("exec sleep 60")
        active.until(lambda: run in active.running and worker.jobs())
        (job,) = worker.jobs()
        active.answering = False
        take_over(other, active)
        begin = time.monotonic()
        serve((active, other), lambda: other.registers)
        assert time.monotonic() - begin < TIMEOUT_MS / 1_000 / 2
        assert [held.run for held in other.registers[0].runs] == [run]
        assert worker.jobs() == [job]
        assert other.run("echo hello").stdout.head == b"hello\n"
        assert "another scheduler has taken over" in worker.log()


def test_worker_stays_with_a_silent_scheduler_while_none_takes_over(
    tmp_path: Path, pair: tuple[StubScheduler, StubScheduler]
) -> None:
    """As during an outage of the database: the session goes on afterwards."""
    active, other = pair
    with WorkerProcess(f"{active.url}, {other.url}", tmp_path, heartbeat_interval="500ms") as worker:
        assert active.run("echo hello").stdout.head == b"hello\n"
        active.answering = False
        serve((active,), lambda: other.enrolments >= 2)
        assert active.enrolments == 1
        active.answering = True
        seen = len(active.seen)
        active.until(lambda: any(isinstance(frame, Heartbeat) for frame in active.seen[seen:]))
        assert active.run("echo again").stdout.head == b"again\n"
        assert len(active.registers) == 1
        assert "session session-1 lost" not in worker.log()


def test_all_schedulers_are_named_when_none_takes_the_worker(
    tmp_path: Path, pair: tuple[StubScheduler, StubScheduler]
) -> None:
    active, other = pair
    stand_by(active)
    nobody = f"http://127.0.0.1:{free_ports(1)[0]}"
    with WorkerProcess(f"{nobody},{active.url},{other.url}", tmp_path) as worker:
        worker.wait_for_log("; retrying")
        assert f"can't reach {nobody}: Connection refused; {active.url}: it stands by; {other.url}: " in worker.log()
        assert f"it stands by, and names {active.url} as active; retrying" in worker.log()
        take_over(active, active)
        active.until(lambda: active.registers)
        assert worker.log().count("; retrying") == 1
        assert f"the scheduler {active.url} is reached" in worker.log()
