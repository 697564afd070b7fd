"""The guard's own decisions about results, turn by turn: the real one on a virtual host, with the test as its agent."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from unittest.mock import patch

import pytest
from msgspec import structs

from tests.sim.guard import SimGuard
from tests.sim.jobs import Script
from tests.sim.machine import Machine
from tests.sim.simulation import Simulation
from tests.sim.timeline import Timeline
from zsched.model.limits import FOREIGN_DATABASES_MAX, FOREIGN_LISTED_MAX, FRAME_LIST_MAX, INTEGER_MAX, SLOTS_MAX
from zsched.protocol import Held, Register, RunOrder, pack, unpack_from_worker
from zsched.worker import messages
from zsched.worker.agent.holdings import foreign_listed
from zsched.worker.guard import guard as guard_module
from zsched.worker.guard.foreign import _Holding
from zsched.worker.guard.spool import RETRY_MS
from zsched.worker.lease import Leases
from zsched.worker.messages import FromAgent, Message


class Host:
    """A worker whose agent is the test."""

    pid = 1

    def __init__(self, machine: Machine, timeline: Timeline) -> None:
        self.told: list[Message] = []
        self.machine = machine
        self.timeline = timeline
        machine.spawn_agent = lambda keeper: self  # type: ignore[method-assign,assignment,return-value]
        machine.chance = Random(1)
        self.guard = SimGuard(machine)
        self.turn()

    def receive(self, message: Message) -> None:
        self.told.append(message)

    def kill(self) -> None:
        """Nobody does."""

    def say(self, *said: FromAgent) -> None:
        self.guard.keeper.incoming += said
        self.turn()

    @property
    def now_ms(self) -> int:
        return self.timeline.now_ms

    def turn(self, wait_ms: int = 5) -> None:
        self.guard.wake()
        self.timeline.run(self.timeline.now_ms + wait_ms)

    def hears(self, *told: Message) -> None:
        """Exactly this since the last look."""
        assert self.told == list(told)
        self.told.clear()

    def start(
        self, run: int, lasts_ms: int, *, world: int = 0, lease_ms: int | None = None, deaf: bool = False
    ) -> None:
        script = Script(lasts_ms, deaf=deaf, world=world)
        order = RunOrder(run, run, 0, 1, script.command, 100, 1, lease_ms=lease_ms)
        self.say(messages.Start((order,), self.timeline.now_ms))


@pytest.fixture
def host() -> Iterator[Host]:
    sim = Simulation(1)
    sim.nemesis.stop()
    machine = sim.machines["w1"]
    machine.habits = replace(machine.habits, slots=2, no_room=0.0, spawn_errors=0.0)
    machine.start_seen, machine.drop_seen = lambda machine, process: None, lambda machine, run: None
    machine.signal_seen = lambda machine, process, number: None
    with patch.object(guard_module, "_mono_ms", lambda: sim.timeline.now_ms):
        host = Host(machine, sim.timeline)
        host.say(messages.Database("d1"))
        host.told.clear()
        yield host
    host.hears()


def test_result_of_the_turn_of_a_database_change_is_kept_for_its_own(host: Host) -> None:
    host.start(1, 10_000)
    host.start(2, 10_000)
    host.machine.processes[1].exit(0)
    # The guard has seen its end, and not told it, when it hears this.
    host.guard.runs.reap(0)
    host.say(messages.Database("d2"))
    d1 = messages.ForeignRuns("d1", (2,), results=1, finished=(1,))
    host.hears(messages.Foreign("d2", (d1,)), messages.Spooled("d2", ()))

    host.say(messages.Database("d1"))
    [nothing, found] = host.told
    assert nothing == messages.Foreign("d1", (), live=(2,))
    assert isinstance(found, messages.Spooled)
    assert (found.db, [result.run for result in found.results]) == ("d1", [1])
    host.told.clear()
    host.say(messages.Forget((1,)), messages.Database("d2"), messages.Database("d1"), messages.Drop((2,)))
    host.turn(200)
    host.told.clear()


def test_a_foreign_run_and_one_with_the_same_number_have_their_own_results(host: Host) -> None:
    host.start(1, 300)
    host.say(messages.Database("d2"))
    host.start(1, 100, world=1)
    host.told.clear()
    host.turn(150)
    [ended] = host.told
    assert isinstance(ended, messages.Ended)
    assert ended.results[0].finished_ms - (ended.results[0].started_ms or 0) == pytest.approx(100, abs=10)
    host.told.clear()
    host.turn(300)
    host.hears(messages.Foreign("d2", (messages.ForeignRuns("d1", results=1, finished=(1,)),)))
    # The database knows its own again, though the run of the other one has just ended.
    host.say(messages.Forget((1,)), messages.Database("d1"))
    spooled = host.told[-1]
    assert isinstance(spooled, messages.Spooled)
    assert spooled.results[0].finished_ms - (spooled.results[0].started_ms or 0) == pytest.approx(300, abs=10)
    host.told.clear()
    host.say(messages.Forget((1,)))
    assert host.guard.keeper.journal is not None


def test_a_foreign_run_holds_its_slot(host: Host) -> None:
    host.start(1, 2_000)
    host.say(messages.Database("d2"))
    host.told.clear()
    for run in (7, 8):
        host.start(run, 10_000, world=1)
    assert [run for run in host.guard.runs.ids() if run > 0] == [7]
    host.turn(900)
    # One that waits for a second goes back.
    host.turn(200)
    assert messages.Unstarted((8,)) in host.told
    host.say(messages.Drop((7,)))
    host.turn(3_000)
    host.told.clear()


def test_a_discarded_foreign_run_leaves_no_result_and_is_remembered(host: Host) -> None:
    host.start(1, 20)
    host.turn(50)
    host.start(2, 10_000, deaf=True)
    host.say(messages.Database("d2"))
    host.told.clear()
    host.say(messages.Discard(("d1",)))
    host.hears(messages.Foreign("d2", (messages.ForeignRuns("d1", ending=(2,), ended=(1,)),)))
    assert "d1" not in host.machine.disk.files
    host.turn(200)
    # By this its own scheduler knows that it has run.
    host.hears(messages.Foreign("d2", (messages.ForeignRuns("d1", ended=(1, 2)),)))
    host.say(messages.Discard(("d1",)))
    host.hears()


def test_no_lease_of_a_foreign_run_is_renewed(host: Host) -> None:
    host.say(messages.Lease(host.now_ms))
    host.start(1, 60_000, lease_ms=10_000)
    told_ms = host.now_ms
    host.say(messages.Database("d2"))
    host.told.clear()
    for _ in range(13):
        host.turn(500)
        host.say(messages.Lease(host.now_ms))
    process = host.machine.processes[1]
    host.turn(1_000)
    assert (process.told_ms or 0) - told_ms == pytest.approx(7_000, abs=150)
    host.hears(messages.Foreign("d2", (messages.ForeignRuns("d1", results=1, finished=(1,)),)))


def test_a_foreign_run_may_end_in_the_turn_in_which_its_lease_does(host: Host) -> None:
    host.say(messages.Lease(host.now_ms))
    host.start(1, 60_000, lease_ms=1_000)
    host.say(messages.Database("d2"))
    host.told.clear()
    host.guard.stand_still(800)
    host.machine.processes[1].exit(0)
    host.turn(900)
    host.hears(messages.Foreign("d2", (messages.ForeignRuns("d1", results=1, finished=(1,)),)))


def test_a_foreign_run_may_end_in_the_turn_in_which_it_is_discarded(host: Host) -> None:
    host.start(1, 10_000)
    host.say(messages.Database("d2"))
    host.told.clear()
    host.machine.processes[1].exit(0)
    # The guard has seen its end, and not told it, when it hears this.
    host.guard.runs.reap(0)
    host.say(messages.Discard(("d1",)))
    host.hears(messages.Foreign("d2", (messages.ForeignRuns("d1", ended=(1,)),)))
    assert "d1" not in host.machine.disk.files


def test_restarted_guard_finds_what_waits_for_other_databases(host: Host) -> None:
    host.start(1, 20)
    host.turn(50)
    host.say(messages.Database("d2"))
    host.told.clear()
    again = Host(host.machine, host.timeline)
    [hello] = again.told
    assert isinstance(hello, messages.Hello)
    assert (hello.db, hello.foreign) == ("d2", (messages.ForeignRuns("d1", results=1, finished=(1,)),))


def test_run_that_ended_in_the_turn_of_its_drop_leaves_no_result(host: Host) -> None:
    host.start(1, 10_000)
    host.machine.processes[1].exit(0)
    # The guard has seen its end, and not told it, when it hears this.
    host.guard.runs.reap(0)
    host.say(messages.Drop((1,)))
    host.hears(messages.Gone((1,)))
    host.turn(200)
    host.hears()


def test_run_whose_outputs_end_is_reaped_without_a_signal(host: Host) -> None:
    host.start(1, 10_000)
    ended = host.machine.processes[1]
    with patch.object(ended, "on_exit", lambda: host.guard.runs._ended.append(ended)):
        ended.exit(0)
    host.turn()
    host.hears()
    host.guard.runs.maybe_over = True
    host.turn()
    assert [type(one) for one in host.told] == [messages.Ended]
    host.told.clear()
    host.say(messages.Forget((1,)))


def test_result_is_reported_while_the_disk_writes_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = host.guard.keeper.journal
    assert journal is not None
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
    assert told_before[-1] == [messages.Ended]
    host.told.clear()
    host.say(messages.Forget((1, 2)))


def test_failed_sync_after_a_report_is_logged_and_repeated(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.start(1, 20)
    host.turn(50)
    host.told.clear()
    journal = host.guard.keeper.journal
    assert journal is not None
    with monkeypatch.context() as broken:

        def fails() -> None:
            # For the judge's eyes: nobody could have done better.
            journal.forgive()
            raise OSError(errno.EIO, "the disk fails")

        broken.setattr(journal, "sync", fails)
        host.start(2, 20)
        host.turn(50)
        host.turn()
    [ended, failing] = host.told
    assert isinstance(ended, messages.Ended)
    assert failing == messages.DiskFails(True)
    host.told.clear()
    host.turn(RETRY_MS)
    host.hears(messages.DiskFails(False))
    disk = host.machine.disk
    assert [disk.holds(run) for run in (1, 2)] == [True, True]
    assert disk.files["d1"].synced == disk.files["d1"].written
    host.say(messages.Forget((1, 2)))


def test_results_reported_in_the_turn_of_a_database_change_are_synced(host: Host) -> None:
    host.start(1, 20)
    host.turn(50)
    host.say(messages.Database("d2"))
    host.say(messages.Database("d1"), messages.Database("d2"))
    assert host.machine.disk.files["d1"].synced
    host.told.clear()


def test_batch_is_written_once_and_completely_before_it_is_reported(host: Host) -> None:
    host.start(1, 20)
    host.turn(50)
    [ended] = host.told
    assert isinstance(ended, messages.Ended)
    # The keeper of the simulation has seen to the order of write and word.
    assert len(host.machine.disk.files["d1"].synced) == 1
    host.told.clear()
    host.say(messages.Forget((1,)))


def test_longest_register_with_foreign_runs_is_a_frame(host: Host) -> None:
    foreign = host.guard.executor._foreign
    largest = INTEGER_MAX - 1
    runs = frozenset(range(largest - FRAME_LIST_MAX, largest))
    foreign._holdings = {
        f"f{number:063}": _Holding(Leases(), finished=set(runs), ended=dict.fromkeys(runs)) for number in range(20)
    }
    told = foreign.listed()
    assert len(told) == FOREIGN_DATABASES_MAX
    assert sum(len(held.finished) for held in told) == sum(len(held.ended) for held in told) == FOREIGN_LISTED_MAX
    assert told[0].results == FRAME_LIST_MAX
    processes = tuple(range(largest - SLOTS_MAX, largest))
    register = Register(
        versions=(1,),
        worker="w" * 128,
        incarnation="i" * 64,
        boot_id="b" * 64,
        lock=(largest, largest),
        slots=SLOTS_MAX,
        heartbeat_ms=1,
        runs=tuple(Held(run, "finished") for run in runs),
        foreign=(foreign_listed(structs.replace(told[0], running=processes)), *map(foreign_listed, told[1:])),
    )
    assert unpack_from_worker(pack(register)) == register
    foreign._holdings.clear()
    host.told.clear()


def test_guard_sleeps_after_results_of_a_batch_were_dropped(host: Host) -> None:
    host.start(1, 50)
    host.start(2, 10_000)
    host.start(3, 10_000)
    host.start(4, 10_000)
    host.told.clear()
    while not host.guard.executor._batch.results:
        host.turn(1)
    # Run 1 has ended and run 3 has its slot. The result waits for others, since run 4 waits for a slot.
    host.say(messages.Drop((1,)))
    host.hears(messages.Gone((1,)))
    host.turn(50)
    assert host.guard._wait_s() != 0
    host.told.clear()
    host.say(messages.Withdraw(), messages.Drop((2, 3)))
    host.turn(200)
    host.told.clear()
