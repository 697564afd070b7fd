"""The guard's shell over its spool: the real one on a virtual host, with the test as its agent.

What the core decides is in unit/test_guard_core.py. Here is what becomes of it: order of write, report and sync, and
results of several databases on one disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from msgspec import structs

from tests.sim.guard import SimGuard
from tests.sim.jobs import Child, Script
from tests.sim.simulation import Simulation
from zsched.model.limits import FOREIGN_DATABASES_MAX, FOREIGN_LISTED_MAX, FRAME_LIST_MAX, INTEGER_MAX, SLOTS_MAX
from zsched.protocol import Held, Register, RunOrder, pack, unpack_from_worker
from zsched.worker.agent.holdings import Holdings
from zsched.worker.agent.renewal import Renewal
from zsched.worker.guard.database import Database, listed
from zsched.worker.guard.spool import RETRY_MS
from zsched.worker.messages import (
    Ended,
    ForeignRuns,
    Forget,
    FromAgent,
    Hello,
    Message,
    Session,
    Snapshot,
    Start,
    State,
    Stop,
)


class Host:
    """A worker whose agent is the test."""

    pid = 1
    stopped = False

    def __init__(self, sim: Simulation) -> None:
        self.told: list[Message] = []
        self.timeline = sim.timeline
        self.machine = machine = sim.add_machine("h", "h", replace(sim.machines["w1"].habits, slots=2))
        machine.habits = replace(machine.habits, no_room=0.0, spawn_errors=0.0)
        machine.chance = machine.disk.chance = Random(1)
        machine.start_seen, machine.drop_seen = lambda machine, execution: None, lambda machine, run: None
        machine.signal_seen = lambda *_: None
        machine.report_seen = lambda *_: None
        machine.end_seen = lambda *_: None
        machine.spawn_agent = lambda host: self  # type: ignore[method-assign,assignment,return-value]
        self.start_guard()

    def start_guard(self) -> None:
        self.machine.kill_guard()
        self.machine.restarts = False
        self.machine.start()
        self.turn()

    @property
    def guard(self) -> SimGuard:
        assert self.machine.guard is not None
        return self.machine.guard

    def receive(self, message: Message) -> None:
        self.told.append(message)

    def kill(self) -> None:
        """Nobody does."""

    def say(self, *said: FromAgent) -> None:
        self.guard.host.incoming += said
        self.turn()

    @property
    def now_ms(self) -> int:
        return self.machine.clock.mono_ms

    def turn(self, wait_ms: int = 5) -> None:
        self.guard.wake()
        self.timeline.run(self.timeline.now_ms + wait_ms)

    def hears(self, *told: Message) -> None:
        """Exactly this since the last look."""
        assert self.told == list(told)
        self.told.clear()

    def start(self, run: int, lasts_ms: int, *, world: int = 0, children: tuple[Child, ...] = ()) -> None:
        script = Script(lasts_ms, world=world, children=children)
        self.say(Start((RunOrder(run, run, 0, 1, script.command, 100, 1_000),), self.now_ms))

    def end(self, run: int) -> None:
        """Its main process ends by itself."""
        self.machine.kernel.exit(self.machine.executions[run].main, 0)


@pytest.fixture
def host() -> Iterator[Host]:
    sim = Simulation(1)
    sim.nemesis.stop()
    host = Host(sim)
    host.say(Session("d1"))
    host.told.clear()
    yield host
    host.hears()


def ended(host: Host) -> tuple[int, ...]:
    """The runs of the only message since the last look, whose results it has."""
    [message] = host.told
    host.told.clear()
    assert isinstance(message, Ended | Snapshot)
    return tuple(result.run for result in message.results)


def test_result_of_the_turn_of_a_database_change_is_kept_for_its_own(host: Host) -> None:
    host.start(1, 10_000)
    host.start(2, 10_000)
    host.end(1)
    # Both come in one turn.
    host.say(Session("d2"))
    d1 = ForeignRuns("d1", (2,), results=1, finished=(1,))
    host.hears(Snapshot(State("d2", (d1,))))

    host.say(Session("d1"))
    [snapshot] = host.told
    assert isinstance(snapshot, Snapshot)
    assert snapshot.held == (Held(2, "running"), Held(1, "finished"))
    assert ended(host) == (1,)
    host.say(Stop((2,), drop=True))
    host.turn(200)
    host.hears(Ended(gone=(2,)))


def test_a_foreign_run_and_one_with_the_same_number_have_their_own_results(host: Host) -> None:
    host.start(1, 300)
    host.say(Session("d2"))
    host.start(1, 90, world=1)
    host.told.clear()
    host.turn(150)
    [message] = host.told
    assert isinstance(message, Ended)
    assert message.results[0].stdout.head.startswith(b"1000001 begins")
    host.told.clear()
    host.turn(300)
    host.hears(State("d2", (ForeignRuns("d1", results=1, finished=(1,)),)))
    host.say(Forget((1,)), Session("d1"))
    snapshot = host.told[-1]
    assert isinstance(snapshot, Snapshot)
    assert snapshot.results[0].stdout.head.startswith(b"1 begins")
    host.told.clear()


def test_a_discarded_foreign_run_leaves_no_file(host: Host) -> None:
    host.start(1, 20)
    host.turn(50)
    host.say(Session("d2"))
    assert "d1" in host.machine.disk.files
    host.told.clear()
    host.say(Session("d2", discard=("d1",)))
    host.hears(State("d2", (ForeignRuns("d1", ended=(1,)),)))
    assert "d1" not in host.machine.disk.files
    host.say(Session("d2", discard=("d1",)))


def test_restarted_guard_finds_what_waits_for_other_databases(host: Host) -> None:
    host.start(1, 20)
    host.turn(50)
    host.say(Session("d2"))
    host.told.clear()
    host.start_guard()
    [hello] = host.told
    host.told.clear()
    assert isinstance(hello, Hello)
    assert hello.snapshot.state == State("d2", (ForeignRuns("d1", results=1, finished=(1,)),))


def test_run_that_ended_in_the_turn_of_its_drop_leaves_no_result(host: Host) -> None:
    host.start(1, 10_000)
    host.end(1)
    host.guard.host.signals()
    # The guard has its end in the same turn, after the message.
    host.say(Stop((1,), drop=True))
    host.turn(200)
    host.hears(Ended(gone=(1,)))
    assert not host.machine.disk.holds(1)


def test_run_whose_outputs_end_is_reaped_without_a_signal(host: Host) -> None:
    host.start(1, 10_000)
    host.machine.kernel.on_child = lambda: None
    host.end(1)
    host.turn()
    assert ended(host) == (1,)
    host.say(Forget((1,)))


def test_outputs_that_a_child_holds_open_do_not_hold_the_result(host: Host) -> None:
    host.start(1, 20, children=(Child("group", 60_000), Child("daemon", 60_000)))
    host.turn(100)
    assert ended(host) == (1,)
    assert list(host.machine.kernel) == [host.machine.kernel.guard]
    host.say(Forget((1,)))


def test_result_is_reported_while_the_disk_writes_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = host.guard.host.journal
    told_before: list[list[type]] = []
    sync = journal.sync

    def synced() -> None:
        told_before.append([type(one) for one in host.told])
        sync()

    monkeypatch.setattr(journal, "sync", synced)
    host.start(1, 20)
    host.turn(50)
    # The file was new with the first result, and synced as a whole.
    host.told.clear()
    host.start(2, 20)
    host.turn(50)
    assert told_before[-1] == [Ended]
    host.told.clear()
    host.say(Forget((1, 2)))


@pytest.mark.parametrize("trouble", ["sync", "full"])
def test_results_of_a_failing_disk_are_written_when_it_is_well(host: Host, trouble: str) -> None:
    host.start(1, 20)
    host.turn(50)
    host.told.clear()
    disk = host.machine.disk
    disk.trouble = trouble  # type: ignore[assignment]
    host.start(2, 20)
    host.turn(50)
    host.turn()
    kinds = [type(message) for message in host.told]
    assert sorted(kind.__name__ for kind in kinds) == ["Ended", "State"]
    assert State("d1", disk_fails=True) in host.told
    host.told.clear()
    disk.trouble = None
    host.turn(RETRY_MS + 100)
    host.hears(State("d1"))
    assert [disk.holds(run) for run in (1, 2)] == [True, True]
    assert disk.files["d1"].synced == disk.files["d1"].written
    host.say(Forget((1, 2)))


def test_results_reported_in_the_turn_of_a_database_change_are_synced(host: Host) -> None:
    host.start(1, 20)
    host.turn(50)
    host.say(Session("d2"))
    host.say(Session("d1"), Session("d2"))
    assert host.machine.disk.files["d1"].synced
    host.told.clear()


def test_longest_register_with_foreign_runs_is_a_frame() -> None:
    largest = INTEGER_MAX - 1
    runs = range(largest - FRAME_LIST_MAX, largest)
    databases = [Database(f"f{number:063}") for number in range(20)]
    for database in databases:
        for run in runs:
            database.add_aside(run)
            database._discarded[run] = database.runs[run]
    told = listed(databases)
    assert len(told) == FOREIGN_DATABASES_MAX
    assert sum(len(held.finished) for held in told) == sum(len(held.ended) for held in told) == FOREIGN_LISTED_MAX
    assert told[0].results == FRAME_LIST_MAX
    processes = tuple(range(largest - SLOTS_MAX, largest))
    told = (structs.replace(told[0], running=processes), *told[1:])
    register = Register(
        versions=(1,),
        worker="w" * 128,
        incarnation="i" * 64,
        boot_id="b" * 64,
        lock=(largest, largest),
        slots=SLOTS_MAX,
        heartbeat_ms=1,
        runs=tuple(Held(run, "finished") for run in runs),
        foreign=Holdings(Snapshot(State("d1", told)), Renewal()).foreign_listed(),
    )
    assert unpack_from_worker(pack(register)) == register
