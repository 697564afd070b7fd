"""The guard's core: dialogues in which the test is the shell, the host and the agent, and the only clock."""

from __future__ import annotations

import logging
import signal
from collections.abc import Collection, Iterable

import pytest
from msgspec.structs import replace

from tests import workers
from zsched.model.files import File
from zsched.model.limits import BACKLOG_WAIT_MS_MAX, COLLECT_MS_MAX, FOREIGN_LISTED_MAX, LOG_INTERVAL_MS
from zsched.protocol import Held, RunOrder, RunResult
from zsched.worker.guard.core import Core
from zsched.worker.guard.effects import Effects, Orphan
from zsched.worker.guard.life import FINISHED, LIVE, MOVES, Event, Exit, Fate, IllegalMoveError, Phase, Run
from zsched.worker.guard.runs import STUCK_MS, Runs
from zsched.worker.messages import (
    Began,
    Ended,
    ForeignRuns,
    Forget,
    FromAgent,
    FromGuard,
    Logged,
    Look,
    Session,
    Snapshot,
    Start,
    State,
    Stop,
    Unstarted,
)
from zsched.worker.process.collected import NOTHING, Collected

KILLED_MS = 1_000_000
WALL_MS = 1_700_000_000_000
LEASE_MS = 10_000
TERM, KILL = int(signal.SIGTERM), int(signal.SIGKILL)


def order(run: int, grace_ms: int = 1, **fields: object) -> RunOrder:
    plain = RunOrder(run=run, job=run, task=0, attempt=1, command="true", grace_ms=grace_ms, output_bytes_max=100)
    return replace(plain, **fields)


def result(run: int) -> RunResult:
    return RunResult(run, "success", "exit", finished_ms=WALL_MS, started_ms=WALL_MS, exit_code=0)


class World:
    """A core and its effects. Processes have the numbers 101, 102 …; `orphans` are those that KILL does not end."""

    def __init__(
        self, slots: int = 4, results: Iterable[RunResult] = (), others: dict[str, Collection[int]] | None = None
    ) -> None:
        self.core = Core(slots, "d1", results, others or {})
        self.now_ms = 0
        # What was done since the last look.
        self.signals: list[tuple[int, int]] = []
        self.written: list[RunResult] = []
        self.aside: list[tuple[str, RunResult]] = []
        self.sent: list[FromGuard] = []
        self.orphans: list[Orphan] = []
        self.late: list[Run] = []
        # The results on disk by database; and whether the next start has no room, or can't work.
        self.disk: dict[str, list[RunResult]] = {}
        self.no_room = False
        self.spawn_error = ""
        self._pid = 100

    def hear(self, *messages: FromAgent) -> None:
        for message in messages:
            self.core.on_message(message, self.now_ms)
            self._signal()
            if (db := self.core.effects.enter) is not None:
                self._obey()
                self.core.on_entered(self.disk.get(db, ()))
                self.core.effects.enter = None

    def start(self, *orders: RunOrder) -> None:
        """Orders come, and those that get a slot start."""
        self.hear(Start(orders, self.now_ms))
        self.turn()

    def turn(self, *, backed_up: bool = False) -> None:
        core = self.core
        core.kill_overdue(self.now_ms)
        core.on_tick(self.now_ms)
        self._signal()
        self.scan()
        self.late += core.effects.late
        core.effects.late.clear()
        for run in core.effects.starts:
            if self.no_room:
                core.on_no_room(run)
            elif self.spawn_error:
                core.on_spawn_error(run, self.spawn_error, WALL_MS)
            else:
                self._pid += 1
                core.on_spawned(run, self._pid, f"m{run.db}.{run.number}", WALL_MS, self.now_ms)
        core.effects.starts.clear()
        core.report(self.now_ms, backed_up=backed_up)
        self._obey()

    def wait(self, until_ms: int) -> None:
        """Do what is due until then, each at its own time."""
        while (due_ms := self.core.deadline_ms()) is not None and due_ms <= until_ms:
            self.now_ms = max(self.now_ms, due_ms)
            self.turn()
        self.now_ms = until_ms

    def end(self, *numbers: int, db: str = "d1", exit_code: int | None = 0) -> None:
        """The main processes of these runs end, and are reaped."""
        for number in numbers:
            process = self.find(number, db).process
            assert process is not None
            ended = Exit(process.pid, exit_code, None if exit_code is not None else KILL)
            self.core.on_exit(ended, WALL_MS + 7, self.now_ms)
        self.core.runs.on_reaped()
        self.scan()

    def scan(self) -> None:
        if self.core.runs.scan_due:
            for run in self.core.on_orphans(self.orphans, self.now_ms):
                if run.fate is Fate.WANTED and run.live_process.order.artifacts:
                    self.core.on_collecting(run, self.now_ms)
                else:
                    self.core.on_over(run)

    def collect(self, number: int, kept: Collected = NOTHING, db: str = "d1") -> None:
        """The helper has read the artifacts of a run."""
        run = self.find(number, db)
        run.live_process.collected = kept
        self.core.on_over(run)

    def find(self, number: int, db: str = "d1") -> Run:
        run = self.core.find(db, number)
        assert run is not None
        return run

    def pid(self, number: int, db: str = "d1") -> int:
        process = self.find(number, db).process
        assert process is not None
        return process.pid

    def says(self, *messages: FromGuard) -> None:
        """Exactly this was sent since the last look."""
        sent, self.sent = self.sent, []
        assert sent == list(messages)

    def signalled(self) -> list[tuple[int, int]]:
        """The signals since the last look."""
        signals, self.signals = self.signals, []
        return signals

    def _signal(self) -> None:
        self.signals += self.core.effects.signals
        self.core.effects.signals.clear()

    def _obey(self) -> None:
        effects = self.core.effects
        self.written += effects.write
        self.aside += effects.aside
        self.sent += effects.send
        for db in effects.discard:
            self.disk.pop(db, None)
        for part in (effects.write, effects.aside, effects.send, effects.discard, effects.forget, effects.kills):
            part.clear()


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


@pytest.fixture
def world() -> World:
    """Run 1 lives."""
    world = World()
    world.start(order(1))
    world.says(State("d1"))
    return world


# --- artifacts -------------------------------------------------------------------------------------------------------

WITH_ARTIFACTS = order(2, artifacts=("a",))


def test_result_waits_for_the_artifacts_and_has_them(world: World) -> None:
    world.start(WITH_ARTIFACTS)
    world.end(2)
    world.wait(500)
    assert world.find(2).phase is Phase.COLLECTING
    assert world.written == []
    world.collect(2, Collected((File("a", b"x"),), 2, "too large\n\x1b[2J"))
    world.turn()
    (ended,) = world.written
    assert (ended.status, ended.files, ended.left_out) == ("success", (File("a", b"x"),), 2)
    assert ended.detail == "2 artifacts not kept: too large??[2J"


def test_run_whose_artifacts_are_read_has_a_slot_and_no_process(world: World) -> None:
    """Its process number may be another process's by now, so nothing is sent to it."""
    world.hear(Session("d1", heard_ms=0))
    world.start(replace(WITH_ARTIFACTS, timeout_ms=200, lease_ms=LEASE_MS))
    pid = world.pid(2)
    world.end(2)
    world.signalled()
    world.hear(Stop((2,)))
    world.wait(COLLECT_MS_MAX - 1)
    world.core.kill_overdue(world.now_ms)
    world.turn()
    assert pid not in {number for number, _ in world.signalled()}
    assert len(world.core.runs) == 2
    assert world.late == []


def test_artifacts_that_come_too_late_are_given_up(world: World) -> None:
    world.start(WITH_ARTIFACTS)
    world.end(2)
    world.wait(COLLECT_MS_MAX)
    assert [run.number for run in world.late] == [2]
    world.collect(2, Collected((), 1, "they could not be read in time"))
    world.turn()
    assert [(ended.run, ended.left_out) for ended in world.written] == [(2, 1)]


def test_orphans_of_a_run_whose_artifacts_are_read_are_killed(world: World) -> None:
    world.start(WITH_ARTIFACTS)
    world.end(2)
    world.core.runs.on_reaped()
    world.core.on_orphans([Orphan(501, 501, "md1.2")], world.now_ms)
    assert world.core.effects.kills == [501]


def test_start_of_a_run_is_reported_while_its_artifacts_are_read(world: World) -> None:
    world.start(WITH_ARTIFACTS)
    world.end(2)
    world.sent.clear()
    world.wait(200)
    assert any(isinstance(message, Began) and message.run == 2 for message in world.sent)


def test_artifacts_of_a_run_that_is_not_wanted_are_not_read(world: World) -> None:
    world.start(WITH_ARTIFACTS)
    world.hear(Stop((2,), drop=True))
    world.end(2)
    assert world.core.find("d1", 2) is None


# --- the table -------------------------------------------------------------------------------------------------------

# Drawn by hand: what may happen to a run, and what becomes of it then.
DRAWN = {
    Phase.WAITING: {"start": "starting", "return": ""},
    Phase.STARTING: {"spawned": "running", "spawn error": "ended", "no room": ""},
    Phase.RUNNING: {"stop": "ending", "exit": "closing"},
    Phase.ENDING: {"kill": "ending", "exit": "closing"},
    Phase.CLOSING: {
        "result": "ended",
        "vanish": "",
        "give up": "given up",
        "discard": "discarded",
        "collect": "collecting",
    },
    Phase.COLLECTING: {"result": "ended", "vanish": "", "give up": "given up", "discard": "discarded"},
    Phase.ENDED: {"report": "reported", "forget": "", "leave": "aside"},
    Phase.REPORTED: {"forget": "", "leave": "aside"},
    Phase.ASIDE: {"read": "reported", "lose": "", "discard": "discarded"},
    Phase.GIVEN_UP: {"leave": ""},
    Phase.DISCARDED: {"forget": ""},
}


def test_the_table_is_as_drawn() -> None:
    rows: dict[Phase, dict[str, str]] = {before: {} for before in Phase}
    for (before, event), after in MOVES.items():
        rows[before][event.value] = "" if after is None else after.value
    assert rows == DRAWN


@pytest.mark.parametrize("before", Phase, ids=lambda phase: phase.value)
@pytest.mark.parametrize("event", Event, ids=lambda event: event.value)
def test_event_that_the_table_does_not_have_is_impossible(before: Phase, event: Event) -> None:
    run = Run("d1", 1, phase=before)
    if (before, event) in MOVES:
        assert run.move(event) is MOVES[before, event]
        assert run.phase is MOVES[before, event]
        return
    with pytest.raises(IllegalMoveError, match=f"run 1 is {before.value}: no {event.value}"):
        run.move(event)
    assert run.phase is before


def test_each_row_of_the_table_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what an agent says and what processes do."""
    reached: set[tuple[Phase, Event]] = set()
    move = Run.move

    def note(run: Run, event: Event) -> Phase | None:
        assert run.phase is not None
        reached.add((run.phase, event))
        return move(run, event)

    monkeypatch.setattr(Run, "move", note)
    world = World(slots=8)
    world.start(*map(order, (1, 2, 3, 4, 5)))
    world.no_room = True
    world.start(order(6))
    world.no_room, world.spawn_error = False, "no such user"
    world.start(order(7))
    world.spawn_error = ""
    world.hear(Start((order(8),), 0), Stop((8,)))
    world.end(1)
    world.hear(Stop((1,), drop=True), Stop((3, 5), drop=True))
    world.wait(1_000)
    world.end(5)
    world.end(2)
    world.turn()
    world.hear(Forget((7,)))
    world.hear(Session("d2"))
    world.end(4, 3)
    world.turn()
    # Of d1, 2 and 4 have results on disk, and 3 is discarded. One result is there, one is gone.
    world.disk = {"d1": [result(2)]}
    world.hear(Session("d1"))
    assert world.find(2).phase is Phase.REPORTED
    world.hear(Session("d2"), Session("d2", discard=("d1",)), Session("d1"))
    # With artifacts: one has a result, one is dropped, one is of a discarded database, one lives when the worker ends.
    world.start(*(order(number, artifacts=("a",)) for number in (11, 12, 13)))
    world.end(11, 12, 13)
    world.collect(11)
    world.hear(Stop((12,), drop=True))
    world.collect(12)
    world.hear(Session("d2"), Session("d2", discard=("d1",)))
    world.collect(13)
    world.hear(Session("d1"))
    world.start(order(9), order(14, artifacts=("a",)))
    world.end(14)
    world.core.stop_all(world.now_ms)
    world.end(9)
    world.collect(14)
    world.hear(Session("d2"))
    assert MOVES.keys() - reached == set()


# --- slots and the backlog -------------------------------------------------------------------------------------------


def test_at_most_slots_runs_live_and_the_next_starts_when_one_is_gone() -> None:
    world = World(slots=2)
    world.start(*map(order, (1, 2, 3)))
    assert [world.find(number).phase for number in (1, 2, 3)] == [Phase.RUNNING, Phase.RUNNING, Phase.WAITING]
    # Its main process has ended, and an orphan keeps its slot.
    world.orphans = [Orphan(900, 900, "md1.1")]
    world.end(1)
    world.turn()
    assert world.find(3).phase is Phase.WAITING
    world.orphans = []
    world.core.runs.on_reaped()
    world.scan()
    world.turn()
    assert world.find(3).phase is Phase.RUNNING


def test_no_run_waits_for_longer_than_a_second() -> None:
    world = World(slots=1)
    world.start(order(1), order(2))
    world.sent.clear()
    world.wait(BACKLOG_WAIT_MS_MAX)
    world.says(Began(1, world.pid(1), WALL_MS), Unstarted((2,)))
    # The guard stalled, so these are late before it reads them; the first is known.
    world.hear(Start((order(1), order(3)), world.now_ms - BACKLOG_WAIT_MS_MAX))
    world.turn()
    world.says(Unstarted((3,)))


def test_a_run_without_room_goes_back_and_one_that_cannot_start_has_failed() -> None:
    world = World()
    world.no_room = True
    world.start(order(1))
    world.says(Unstarted((1,), no_room=True), State("d1"))
    world.no_room, world.spawn_error = False, "no such user"
    world.start(order(2))
    failed = RunResult(2, "failed", "spawn_error", finished_ms=WALL_MS, detail="no such user")
    world.says(Ended((failed,)))
    assert world.written == [failed]
    assert len(world.core.runs) == 0


def test_runs_without_room_go_back_in_one_message() -> None:
    """The agent pauses for longer with each message."""
    world = World()
    world.no_room = True
    world.start(order(1), order(2), order(3))
    world.says(Unstarted((1, 2, 3), no_room=True), State("d1"))


@pytest.mark.parametrize("trouble", ["no_room", "spawn_error"])
def test_slot_of_a_failed_start_is_filled_at_once(trouble: str) -> None:
    world = World(slots=2)
    setattr(world, trouble, "no such user")
    world.start(*(order(run) for run in range(1, 7)))
    world.wait(0)
    assert world.core.waiting == 0


def test_worker_that_ends_says_so_before_it_returns_runs() -> None:
    """Else the scheduler may dispatch the same runs to it again."""
    world = World(slots=1)
    world.start(order(1), order(2))
    world.says(State("d1"))
    world.core.stop_accepting()
    world.turn()
    world.says(State("d1", stopping=True), Unstarted((2,)))


def test_run_that_is_over_keeps_no_order(world: World) -> None:
    """It has the secrets, and a result may wait for days."""
    world.start(order(1))
    world.end(1)
    world.spawn_error = "no such user"
    world.start(order(2))
    assert world.find(1).order is None
    assert world.find(2).order is None


def test_mark_is_read_of_orphans_of_unknown_runs_alone(world: World) -> None:
    """Reading it may block while the process hangs."""
    world.start(order(1))
    assert not world.core.runs.is_unknown(999, session=world.pid(1))
    assert world.core.runs.is_unknown(999, session=999)
    world.orphans = [Orphan(999, 999, "md1.1")]
    world.end(1)
    assert not world.core.runs.is_unknown(999, session=999)


def test_run_on_probation_is_first_and_reports_its_start_at_once() -> None:
    world = World(slots=1)
    world.hear(Start((order(1), order(2, probation=True)), 0))
    world.turn()
    world.says(Began(2, 101, WALL_MS), State("d1"))


# --- results ---------------------------------------------------------------------------------------------------------


def test_result_is_written_in_the_turn_in_which_it_is_reported(world: World) -> None:
    world.end(1)
    assert world.written == []
    world.turn()
    ended = replace(result(1), finished_ms=WALL_MS + 7)
    assert world.written == [ended]
    world.says(Ended((ended,)))
    world.hear(Forget((1,)))
    assert world.core.effects.forget == [1]
    assert world.core.find("d1", 1) is None
    # An ack that comes again changes nothing.
    world.hear(Forget((1,)))
    assert world.core.effects.forget == [1]


def test_results_are_reported_in_batches_while_runs_wait() -> None:
    world = World(slots=2)
    world.start(*map(order, range(1, 9)))
    world.sent.clear()
    world.end(1)
    world.turn()
    world.end(2)
    world.turn()
    world.says()
    world.wait(20)
    ended = tuple(replace(result(number), finished_ms=WALL_MS + 7) for number in (1, 2))
    world.says(Ended(ended))
    assert world.written == list(ended)


def test_dropped_result_of_a_batch_is_never_written_and_no_time_is_due() -> None:
    world = World(slots=1)
    world.start(order(1), order(2), order(3))
    world.sent.clear()
    world.end(1)
    world.turn()
    assert world.core.deadline_ms() == 20
    world.hear(Stop((1,), drop=True))
    world.turn()
    world.says(Ended(gone=(1,)))
    # The next is the start of run 2, which lasts.
    assert world.core.deadline_ms() == 100
    assert world.written == []


def test_new_agent_gets_all_that_is_held() -> None:
    world = World(results=(result(7),))
    world.start(order(1), order(2), order(3, lease_ms=LEASE_MS))
    world.hear(Stop((2,), drop=True))
    # Run 3 had no lease to count from, so it has gone back.
    world.hear(Session("d1", heard_ms=0))
    world.start(order(4, lease_ms=LEASE_MS))
    held = (Held(1, "running"), Held(2, "running"), Held(4, "running"), Held(7, "finished"))
    snapshot = Snapshot(State("d1"), held, (result(7),), dropped=(2,), leases=((4, LEASE_MS),))
    found = world.core.snapshot()
    assert replace(found, held=tuple(sorted(found.held, key=lambda item: item.run))) == snapshot
    # The results are written, so that they may be reported.
    world.end(1)
    assert [item.run for item in world.core.snapshot().results] == [7, 1]
    assert [item.run for item in world.core.effects.write] == [1]


def test_results_that_could_be_read_late_are_reported(world: World) -> None:
    world.core.on_read((result(1), result(5)))
    # Run 1 lives, so the scheduler has dispatched it again.
    world.turn()
    world.says(Ended((result(5),), found=True))
    assert world.find(1).phase is Phase.RUNNING


def test_failing_disk_is_reported_once(world: World) -> None:
    for _ in range(2):
        world.core.on_disk(fails=True)
    world.turn()
    world.says(State("d1", disk_fails=True))


# --- ending ----------------------------------------------------------------------------------------------------------


def test_stopped_run_gets_term_and_after_its_grace_kill(world: World) -> None:
    world.start(order(2, grace_ms=500))
    pid = world.pid(2)
    world.hear(Stop((2,)))
    assert world.signalled() == [(pid, TERM)]
    world.wait(499)
    assert world.signalled() == []
    world.wait(500)
    assert world.signalled() == [(pid, KILL)]
    world.end(2, exit_code=None)
    world.turn()
    assert [(item.reason, item.status, item.signal) for item in world.written] == [("cancelled", "failed", 9)]


def test_cancel_during_a_timeouts_grace_does_not_postpone_kill(world: World) -> None:
    world.start(order(2, grace_ms=100, timeout_ms=1_000))
    pid = world.pid(2)
    world.wait(1_000)
    assert world.signalled() == [(pid, TERM)]
    world.now_ms = 1_060
    world.hear(Stop((2,)))
    world.wait(1_099)
    assert world.signalled() == []
    world.wait(1_100)
    assert world.signalled() == [(pid, KILL)]
    world.end(2, exit_code=None)
    assert [(run.number, run.result.reason) for run in world.core._here.results() if run.result] == [(2, "timeout")]


def test_killed_twice_it_is_looked_at_once(world: World) -> None:
    world.now_ms = KILLED_MS
    world.core.runs.stop(world.find(1), "lease_stop", KILLED_MS)
    # By its lease and by its grace.
    for _ in range(2):
        world.core.runs.kill(world.find(1), KILLED_MS)
    world.wait(KILLED_MS + 5_000)
    assert world.signalled() == [(101, TERM)] + [(101, KILL)] * (3 + 10)


def test_a_main_process_in_the_kernels_hands_is_stuck_until_it_ends(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.now_ms = KILLED_MS - 1
    world.core.runs.stop(world.find(1), "timeout", KILLED_MS - 1)
    world.turn()
    world.says(Began(1, 101, WALL_MS))
    world.wait(KILLED_MS + STUCK_MS - 1)
    world.says()
    world.wait(KILLED_MS + STUCK_MS + 500)
    world.says(State("d1", stuck=(1,)))
    world.wait(KILLED_MS + 10 * STUCK_MS)
    # Killed again and again, and logged once.
    assert len(world.signalled()) > 100
    said = "run 1 of job 1 is stuck: its processes [101] were killed and do not end"
    assert lines(caplog, logging.ERROR) == [said]

    world.end(1, exit_code=None)
    world.turn()
    assert len(world.core.runs) == 0
    (ended,) = world.written
    assert (ended.status, ended.reason, ended.signal) == ("failed", "timeout", 9)
    world.says(Ended((ended,)), State("d1"))
    assert lines(caplog, logging.WARNING) == ["run 1 of job 1 has ended after all"]


def test_a_run_is_stuck_by_an_orphan_too(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.orphans = [Orphan(4_711, 101, None)]
    world.now_ms = KILLED_MS
    world.end(1)
    world.turn()
    world.says(Began(1, 101, WALL_MS))
    world.wait(KILLED_MS + STUCK_MS - 1)
    world.says()
    world.wait(KILLED_MS + STUCK_MS + 500)
    world.says(State("d1", stuck=(1,)))
    assert lines(caplog, logging.ERROR) == ["run 1 of job 1 is stuck: its processes [4711] were killed and do not end"]

    world.orphans = []
    world.wait(KILLED_MS + STUCK_MS + 1_000)
    assert [item.run for item in world.written] == [1]


def test_run_without_a_kill_is_never_stuck(world: World) -> None:
    world.wait(KILLED_MS + 10 * STUCK_MS)
    assert list(world.core.runs.stuck) == []


def test_killed_orphan_holds_its_run_until_it_is_reaped(world: World) -> None:
    """A process that exits has no environment any more, so its mark can't be read again."""
    world.orphans = [Orphan(900, 900, "md1.1")]
    world.end(1)
    assert world.core.effects.kills == [900]
    world.orphans = [Orphan(900, 900, None)]
    world.core.runs.on_reaped()
    world.scan()
    assert world.find(1).phase is Phase.CLOSING
    world.orphans = []
    world.core.on_exit(Exit(900, None, KILL), WALL_MS, 0)
    world.core.runs.on_reaped()
    world.scan()
    assert world.find(1).phase is Phase.ENDED


def test_orphans_of_living_runs_are_spared_and_others_killed(world: World) -> None:
    world.start(order(2))
    spared = [Orphan(900, 102, None), Orphan(901, 901, "md1.2"), Orphan(902, 902, None)]
    world.orphans = [*spared, Orphan(903, 903, "forged"), Orphan(904, 101, None)]
    world.end(1)
    assert world.core.effects.kills == [903, 904]
    # Without any main process no orphan is spared.
    world.core.effects.kills.clear()
    world.end(2)
    assert world.core.effects.kills == [900, 901, 902, 903, 904]


def test_mark_says_whose_an_orphan_is_before_its_session(world: World) -> None:
    """The number of an ended run's main process may be used again by another run's process."""
    world.start(order(2))
    world.orphans = [Orphan(900, 900, "md1.1"), Orphan(101, 101, "md1.2")]
    world.end(1)
    assert world.core.effects.kills == [900]


def test_timer_of_an_ended_run_does_not_act_on_one_with_its_number(world: World) -> None:
    world.hear(Stop((1,), drop=True))
    world.end(1)
    world.turn()
    world.says(Ended(gone=(1,)))
    world.signalled()
    world.start(order(1))
    # The grace of the first, 1 ms, would end it here.
    world.wait(50)
    assert world.signalled() == []
    assert world.find(1).phase is Phase.RUNNING


def test_worker_that_ends_lists_the_runs_that_it_has_ended(world: World) -> None:
    world.core.stop_all(0)
    world.turn()
    world.says(State("d1", stopping=True))
    world.end(1, exit_code=None)
    world.turn()
    world.says(Ended(gone=(1,)))
    assert world.written == []
    assert world.core.snapshot().held == (Held(1, "running"),)
    world.start(order(2))
    world.says(Unstarted((2,)))


# --- leases ----------------------------------------------------------------------------------------------------------


def test_lease_ends_a_run_without_a_renewal_by_term_and_kill(world: World) -> None:
    world.hear(Session("d1", heard_ms=0))
    world.start(order(2, grace_ms=60_000, lease_ms=LEASE_MS))
    world.now_ms = 1_000
    world.hear(Session("d1", heard_ms=1_000))
    world.wait(1_000 + 7_000 - 1)
    assert world.signalled() == []
    world.wait(1_000 + 7_000)
    assert world.signalled() == [(102, TERM)]
    world.wait(1_000 + 9_000)
    assert world.signalled() == [(102, KILL)]
    world.end(2, exit_code=None)
    world.turn()
    assert [item.reason for item in world.written] == ["lease_stop"]


def test_guard_that_stalled_kills_overdue_runs_first(world: World) -> None:
    world.hear(Session("d1", heard_ms=0))
    world.start(order(2, grace_ms=60_000, lease_ms=LEASE_MS))
    world.now_ms = 9_000
    world.core.kill_overdue(9_000)
    assert world.core.effects.signals == [(102, TERM), (102, KILL)]


def test_run_whose_lease_is_over_is_not_started(world: World) -> None:
    world.hear(Session("d1", heard_ms=0))
    world.sent.clear()
    world.now_ms = 7_000
    world.start(order(2, lease_ms=LEASE_MS))
    world.says(Unstarted((2,)), Began(1, 101, WALL_MS))


# --- other databases -------------------------------------------------------------------------------------------------


def foreign(*runs: ForeignRuns, db: str = "d2") -> State:
    return State(db, runs)


def test_runs_of_two_databases_with_one_number_have_their_own_results(world: World) -> None:
    world.hear(Session("d2"))
    world.turn()
    world.says(Snapshot(foreign(ForeignRuns("d1", (1,)))))
    world.start(order(1))
    assert len(world.core.runs) == 2
    world.end(1, exit_code=3)
    world.end(1, db="d2")
    world.turn()
    assert [(db, item.exit_code) for db, item in world.aside] == [("d1", 3)]
    assert [item.exit_code for item in world.written] == [0]
    assert world.core.find("d1", 1) is not world.core.find("d2", 1)
    world.says(Ended(tuple(world.written)), foreign(ForeignRuns("d1", results=1, finished=(1,))))


def test_result_of_the_turn_of_a_database_change_is_written_for_its_own(world: World) -> None:
    world.end(1)
    world.hear(Session("d2"))
    assert [item.run for item in world.written] == [1]
    world.turn()
    world.says(Snapshot(foreign(ForeignRuns("d1", results=1, finished=(1,)))))


def test_stop_and_drop_name_runs_of_the_current_database_alone(world: World) -> None:
    world.hear(Session("d2"), Stop((1,)), Stop((1,), drop=True), Forget((1,)))
    assert world.signalled() == []
    assert world.find(1).fate is Fate.WANTED


def test_discarded_runs_end_without_results_and_are_listed(world: World) -> None:
    world.hear(Session("d2"), Session("d2", discard=("d1", "d2", "d3")))
    assert world.signalled() == [(101, TERM)]
    world.turn()
    world.sent.clear()
    world.end(1, exit_code=None)
    world.turn()
    world.says(foreign(ForeignRuns("d1", ended=(1,))))
    assert (world.written, world.aside) == ([], [])
    # With its database the list goes.
    world.hear(Session("d1"))
    world.turn()
    world.says(Snapshot(State("d1")))


def test_discarded_run_whose_database_returns_is_listed_until_it_is_gone(world: World) -> None:
    world.hear(Session("d2"), Session("d2", discard=("d1",)), Session("d1"))
    world.turn()
    assert world.sent[-1] == Snapshot(State("d1"), (Held(1, "running"),), discarded=(1,))
    world.sent.clear()
    world.end(1, exit_code=None)
    world.turn()
    world.says(Ended(gone=(1,)))


def test_lease_of_a_foreign_run_is_not_renewed(world: World) -> None:
    world.hear(Session("d1", heard_ms=0))
    world.start(order(2, grace_ms=60_000, lease_ms=LEASE_MS))
    world.hear(Session("d2"))
    world.now_ms = 6_000
    world.hear(Session("d2", heard_ms=6_000))
    world.wait(7_000)
    assert world.signalled() == [(102, TERM)]


def test_stuck_foreign_run_is_counted_for_the_agent(world: World) -> None:
    world.hear(Session("d2"), Session("d2", discard=("d1",)))
    world.wait(2 * STUCK_MS)
    assert world.sent[-1] == foreign(ForeignRuns("d1", ending=(1,), stuck=1))


def test_restarted_guard_finds_what_waits_for_other_databases() -> None:
    world = World(others={"d0": (4, 5)})
    world.disk = {"d0": [result(5)]}
    assert world.core.snapshot().state == State("d1", (ForeignRuns("d0", results=2, finished=(4, 5)),))
    world.hear(Session("d0"))
    world.turn()
    # The other was damaged on the disk.
    world.says(Snapshot(State("d0"), (Held(5, "finished"),), (result(5),)))


def test_list_of_discarded_runs_is_bounded() -> None:
    numbers = range(1, FOREIGN_LISTED_MAX + 11)
    world = World(others={"d0": numbers})
    world.hear(Session("d1", discard=("d0",)))
    world.turn()
    (state,) = world.sent
    assert isinstance(state, State)
    assert state.foreign[0].ended == tuple(numbers)[10:]
    assert world.core.find("d0", 1) is None


# --- output ----------------------------------------------------------------------------------------------------------


def test_both_streams_of_a_watched_run_are_reported(world: World) -> None:
    process = world.find(1).process
    assert process is not None
    process.outputs[0].feed(b"out")
    process.outputs[1].feed(b"err")
    world.hear(Look(1, 0, 0, 10_000))
    world.turn()
    world.says(Logged(1, "stdout", 0, b"out"), Logged(1, "stderr", 0, b"err"))
    # It is the first that is left out when the agent can't keep up.
    process.outputs[0].feed(b"more")
    world.now_ms = 10_000 - 1
    world.turn(backed_up=True)
    world.says(Began(1, 101, WALL_MS))


def test_watch_ends_with_the_session_that_asked_for_it(world: World) -> None:
    process = world.find(1).process
    assert process is not None
    process.outputs[0].feed(b"one")
    world.hear(Look(1, 0, 0, 10_000))
    world.turn()
    world.says(Logged(1, "stdout", 0, b"one"))
    world.hear(Session("d1", lost=True))
    process.outputs[0].feed(b"two")
    world.now_ms += LOG_INTERVAL_MS
    world.turn()
    world.says(Unstarted((), withdrawn=True))
    # The viewers of the next session begin where they are.
    world.hear(Look(1, 0, 0, 10_000))
    world.turn()
    world.says(Logged(1, "stdout", 0, b"onetwo"))


def test_secrets_are_redacted_before_they_are_kept() -> None:
    world = World()
    world.start(order(1, secret_env={"KEY": "hunter2-hunter2"}))
    process = world.find(1).process
    assert process is not None
    process.outputs[0].feed(b"key hunter2-")
    process.outputs[0].feed(b"hunter2.")
    for output in process.outputs:
        output.end()
    world.end(1)
    world.turn()
    assert world.written[0].stdout.head + world.written[0].stdout.tail == b"key ***."


def test_phases_are_disjoint() -> None:
    assert not LIVE & FINISHED


def test_page_shows_the_tables() -> None:
    """`python -m tests.workers --write` updates it."""
    assert workers.PAGE.read_text("utf-8") == workers.page()
    assert len(workers.runs()) == len(MOVES)


def test_input_and_files_of_a_run_are_kept_only_until_its_start() -> None:
    run = Run(
        "d1", 1, order(1, stdin="x" * 1_000, files=(File("a", b"x" * 1_000),), secret_env={"P": "hunter2hunter2"})
    )
    run.move(Event.START)
    process = Runs(Effects()).on_spawned(run, 101, "mark", WALL_MS, 0)
    assert run.order == process.order == order(1, files=(File("a", b""),), secret_env={"P": "hunter2hunter2"})
    assert process.order.has_scratch
