"""Runs whose processes do not die: a real process that no signal reaches; time is an argument, so nobody waits."""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import subprocess
from collections.abc import Collection, Iterator, Mapping

import pytest

from zsched.protocol import RunOrder
from zsched.worker.guard.runs import STUCK_MS, Runs, wall_ms
from zsched.worker.process.orphans import Orphans
from zsched.worker.process.spawn import Spawner
from zsched.worker.process.sweep import mark_of

KILLED_MS = 1_000_000


class Haunts(Orphans):
    """Orphans that are whatever the test says, instead of what this process has as children."""

    def __init__(self) -> None:
        super().__init__("m1")
        self.left: dict[int, list[int]] = {}

    def kill(
        self, mains: Collection[int], living: Collection[int], of_session: Mapping[int, int], of_mark: Mapping[str, int]
    ) -> dict[int, list[int]]:
        return {run: pids for run, pids in self.left.items() if run not in living}


class World:
    """The runs of a worker on which one run lives, with a real process."""

    def __init__(self) -> None:
        self.strays = Haunts()
        self._epoll = select.epoll()
        self.runs = Runs(Spawner("w1", "m1"), self.strays, self._epoll, wall_ms)
        order = RunOrder(run=1, job=1, task=0, attempt=1, command="exec sleep 1000", grace_ms=1, output_bytes_max=1)
        self.runs.start(order, 0)
        self.pid = next(iter(self.runs._by_pid))

    def wait(self, until_ms: int) -> None:
        """Do what is due until then, each at its own time."""
        while (due_ms := self.runs.deadline_ms()) is not None and due_ms <= until_ms:
            self.runs.on_tick(due_ms)

    def end(self) -> None:
        """The process ends after all."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def close(self) -> None:
        if self.pid in self.runs._by_pid:
            self.end()
            self.runs.reap(0)
        self._epoll.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


def test_a_main_process_in_the_kernels_hands_is_stuck_until_it_ends(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent = []
    # As for a process that waits for a disk: the signal is taken, and nothing happens.
    monkeypatch.setattr(os, "killpg", lambda pid, number: sent.append((pid, number)))
    world.runs.stop(1, "timeout", KILLED_MS - 1)

    world.wait(KILLED_MS + STUCK_MS - 1)
    assert world.runs.stuck() == ()
    world.wait(KILLED_MS + STUCK_MS + 500)
    assert world.runs.stuck() == (1,)
    world.wait(KILLED_MS + 10 * STUCK_MS)
    # Killed again and again, and told once.
    assert sent[:2] == [(world.pid, signal.SIGTERM), (world.pid, signal.SIGKILL)]
    assert len(sent) > 100
    said = f"run 1 of job 1 is stuck: its processes [{world.pid}] were killed and do not end"
    assert lines(caplog, logging.ERROR) == [said]

    world.end()
    assert world.runs.reap(KILLED_MS + 10 * STUCK_MS) == []
    assert (world.runs.stuck(), len(world.runs)) == ((), 0)
    (result,) = world.runs.take().results
    assert (result.status, result.reason, result.signal) == ("failed", "timeout", 9)
    assert lines(caplog, logging.WARNING) == ["run 1 of job 1 has ended after all"]


def test_a_run_is_stuck_by_a_stray_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.strays.left = {1: [4_711]}
    world.end()
    world.runs.reap(KILLED_MS)
    assert world.runs.take().results == []

    world.wait(KILLED_MS + STUCK_MS - 1)
    assert world.runs.stuck() == ()
    world.wait(KILLED_MS + STUCK_MS + 500)
    assert world.runs.stuck() == (1,)
    assert lines(caplog, logging.ERROR) == ["run 1 of job 1 is stuck: its processes [4711] were killed and do not end"]

    world.strays.left = {}
    world.wait(KILLED_MS + STUCK_MS + 1_000)
    assert world.runs.stuck() == ()
    assert [result.run for result in world.runs.take().results] == [1]


def test_run_without_a_kill_is_never_stuck(world: World) -> None:
    world.wait(KILLED_MS + 10 * STUCK_MS)
    assert world.runs.stuck() == ()


def test_killed_twice_it_is_looked_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    monkeypatch.setattr(os, "killpg", lambda pid, number: sent.append(number))
    # By its lease and by its grace.
    world.runs.kill(1, KILLED_MS)
    world.runs.kill(1, KILLED_MS)
    world.wait(KILLED_MS + 5_000)
    assert len(sent) == 2 + 10


def test_cancel_during_a_timeouts_grace_does_not_postpone_kill(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda pid, number: sent.append(number))
    order = RunOrder(
        run=2, job=2, task=0, attempt=1, command="exec sleep 1000", grace_ms=100, output_bytes_max=1, timeout_ms=1_000
    )
    world.runs.start(order, 0)
    (pid,) = (pid for pid, live in world.runs._by_pid.items() if live.order.run == 2)
    world.runs.on_tick(1_000)
    assert sent == [signal.SIGTERM]
    world.runs.stop(2, "cancelled", 1_060)
    world.runs.on_tick(1_099)
    assert sent == [signal.SIGTERM]
    world.runs.on_tick(1_100)
    assert sent == [signal.SIGTERM, signal.SIGKILL]
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    world.runs.reap(1_100)
    assert [(result.run, result.reason) for result in world.runs.take().results] == [(2, "timeout")]


def test_killed_orphan_holds_its_run_until_it_is_reaped() -> None:
    """A process that exits has no environment any more, so its mark can't be read again."""
    orphans = Orphans("m1")
    environ = {"ZSCHED_SPOOL": "m1", "ZSCHED_MARK": "r7"}
    daemon = subprocess.Popen(["sleep", "1000"], env=environ, start_new_session=True)
    while mark_of(daemon.pid, "m1") is None:
        os.sched_yield()
    others = {pid for pid in map(int, orphans._listed()) if pid != daemon.pid}
    assert orphans.kill(others, (), {}, {"r7": 7}) == {7: [daemon.pid]}
    os.waitid(os.P_PID, daemon.pid, os.WEXITED | os.WNOWAIT)
    assert orphans.kill(others, (), {}, {"r7": 7}) == {7: [daemon.pid]}
    daemon.wait()
    orphans.on_reaped(daemon.pid)
    assert orphans.kill(others, (), {}, {"r7": 7}) == {}


def test_with_the_end_of_an_output_a_run_may_be_over(world: World) -> None:
    seen = [world.runs.maybe_over]
    world.end()
    for fd in list(world.runs._pipes._open):
        assert world.runs.on_readable(fd)
    seen.append(world.runs.maybe_over)
    world.runs.reap(0)
    assert [result.run for result in world.runs.take().results] == [1]
    assert [*seen, world.runs.maybe_over] == [False, True, False]


def test_timer_of_an_ended_run_does_not_act_on_a_foreign_run_with_its_id(world: World) -> None:
    world.runs.stop(1, "dropped", 0)
    world.end()
    world.runs.reap(0)
    assert world.runs.take().dropped == [1]
    order = RunOrder(run=1, job=1, task=0, attempt=1, command="exec sleep 1000", grace_ms=1, output_bytes_max=1)
    world.runs.start(order, 0)
    world.pid = next(iter(world.runs._by_pid))
    # Its grace of 1 ms would end it here.
    world.runs.on_tick(50)
    assert os.waitid(os.P_PID, world.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    assert world.runs._live[1].killed_ms is None


@pytest.mark.parametrize("refused", [0, 1])
def test_what_was_started_is_never_said_to_have_had_no_room(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refused: int
) -> None:
    written: list[bytes] = []

    def write(fd: int, data: bytes, offset: int) -> int:
        # As when somebody who may has raised it: who may not can't come down, before the start or after it.
        written.append(data)
        if len(written) > refused:
            raise PermissionError(errno.EACCES, "Permission denied")
        return len(data)

    monkeypatch.setattr(os, "pwrite", write)
    order = RunOrder(run=2, job=2, task=0, attempt=1, command="exec true", grace_ms=1, output_bytes_max=1)
    world.runs.start(order, 0)
    assert len(written) == refused + 1
    assert world.runs.take().unstarted == []
    assert len(lines(caplog, logging.WARNING)) == 1
    (pid,) = (pid for pid, live in world.runs._by_pid.items() if live.order.run == 2)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    world.runs.reap(0)
    assert [result.run for result in world.runs.take().results] == [2]
