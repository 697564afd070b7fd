"""Dialogues with the agent. Each ends by showing that nothing was said that is not in it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from msgspec.structs import replace

from zsched.model.limits import FRAME_LIST_MAX, WINDOW_MAX
from zsched.model.types import Now
from zsched.protocol import (
    Cancel,
    Dispatch,
    Error,
    Heartbeat,
    HeartbeatAck,
    Held,
    Ready,
    Register,
    Registered,
    Result,
    ResultAck,
    Return,
    RunOrder,
    RunResult,
    SchedulerBye,
    SchedulerFrame,
    Started,
    WorkerBye,
    WorkerFrame,
)
from zsched.worker import messages
from zsched.worker.agent import pace
from zsched.worker.agent.agent import CAN, EXIT_REFUSED, Agent
from zsched.worker.messages import Ended, FromAgent, FromGuard, Hello, Session, Snapshot, State

TIMEOUT_MS = 30_000
HEARTBEAT_MS = 5_000
POLL_MS = 2_000
SLOTS = 2
WINDOW = 128


class Dialogue:
    """An agent between a scheduler and a guard that are both the test, and the only clock there is."""

    def __init__(
        self,
        held: tuple[Held, ...] = (),
        results: tuple[RunResult, ...] = (),
        db: str = "",
        dropped: tuple[int, ...] = (),
        disk_fails: bool = False,
        stuck: tuple[int, ...] = (),
        leases: tuple[tuple[int, int], ...] = (),
        foreign: tuple[messages.ForeignRuns, ...] = (),
    ) -> None:
        self.mono_ms = 1_000_000
        self._registered_ms = 0
        # Whether the guard answers that it lives.
        self.guard_lives = True
        hello = Hello(
            worker="w1",
            schedulers=("http://localhost:8080",),
            slots=SLOTS,
            heartbeat_ms=HEARTBEAT_MS,
            poll_ms=POLL_MS,
            log_level="INFO",
            incarnation="i1",
            boot_id="b1",
            lock=(1, 2),
            state_dir="/nowhere",
            spool_id="m1",
            snapshot=Snapshot(State(db, foreign, stuck, disk_fails), held, results, dropped=dropped, leases=leases),
        )
        self.agent = Agent(hello, self.now)

    @property
    def now(self) -> Now:
        return Now(self.mono_ms, 1_700_000_000_000 + self.mono_ms)

    def hear(self, *frames: SchedulerFrame) -> None:
        for frame in frames:
            self.agent.on_frame(frame, self.now)

    def moves_to(self, frame: Registered) -> None:
        """The session is lost, and the next register is answered so, by a scheduler with another database."""
        self.agent.on_disconnected(self.now)
        (lost,) = (message for message in self.agent.to_guard if isinstance(message, Session) and message.lost)
        self.agent.to_guard.remove(lost)
        self.guard(messages.Unstarted((), withdrawn=True))
        self.wait(0)
        assert isinstance(self.sent()[-1], Register)
        self.hear(frame)
        self.sent()

    def guard(self, *said: FromGuard) -> None:
        for message in said:
            self.agent.on_guard(message, self.now)

    def wait(self, gap_ms: int) -> None:
        """Let time pass as the link would: wake at each deadline."""
        end_ms = self.mono_ms + gap_ms
        due_ms = self.tick()
        while due_ms is not None and due_ms <= end_ms:
            self.mono_ms = max(due_ms, self.mono_ms)
            due_ms = self.tick()
        self.mono_ms = end_ms

    def tick(self) -> int | None:
        due_ms = self.agent.on_tick(self.now)
        asked = [message for message in self.agent.to_guard if isinstance(message, messages.Alive)]
        if not asked or not self.guard_lives:
            return due_ms
        self.agent.to_guard = [message for message in self.agent.to_guard if message not in asked]
        self.guard(messages.Alive())
        return self.agent.on_tick(self.now)

    def says(self, *frames: WorkerFrame) -> None:
        """Exactly these frames were sent since the last look."""
        assert self.sent() == list(frames)

    def orders(self, *said: FromAgent) -> None:
        """Exactly these messages went to the guard since the last look, besides Alive."""
        sent = [message for message in self.agent.to_guard if not isinstance(message, messages.Alive)]
        self.agent.to_guard.clear()
        assert sent == list(said)

    def sent(self) -> list[WorkerFrame]:
        """What was sent since the last look; a register without its time, which is looked at here."""
        sent: list[WorkerFrame] = []
        for frame in self.agent.to_scheduler:
            if isinstance(frame, Register):
                assert self._registered_ms < frame.sent_ms <= max(self.mono_ms, self._registered_ms + 1)
                self._registered_ms = frame.sent_ms
                frame = replace(frame, sent_ms=0)
            sent.append(frame)
        self.agent.to_scheduler.clear()
        return sent

    def start(self, *runs: int) -> messages.Start:
        """As the guard is told of these, if that is now."""
        return messages.Start(tuple(map(order, runs)), self.mono_ms)

    def ack(self) -> None:
        """The last heartbeat."""
        for frame in self.agent.to_scheduler:
            if isinstance(frame, Heartbeat):
                self.hear(HeartbeatAck(s=frame.s, ep=1, seq=frame.seq))

    def register(self) -> None:
        """Be registered, and have said what is wanted."""
        self.wait(0)
        assert isinstance(self.sent()[0], Register)
        self.hear(registered())
        self.says(ready())
        self.orders(Session("d1"))
        self.guard(snapshot("d1"))


# What the guard hears when a session of d1 is lost.
LOST = Session("d1", lost=True)


def snapshot(
    db: str,
    running: tuple[int, ...] = (),
    results: tuple[RunResult, ...] = (),
    foreign: tuple[messages.ForeignRuns, ...] = (),
    discarded: tuple[int, ...] = (),
) -> Snapshot:
    """The guard's answer to a change of the database."""
    finished = (Held(result.run, "finished") for result in results)
    held = (*(Held(run, "running") for run in running), *finished)
    return Snapshot(State(db, foreign), held, results, discarded=discarded)


def registered(
    session: str = "s1", db: str = "d1", keep: tuple[int, ...] = (), kill: tuple[int, ...] = ()
) -> Registered:
    return Registered(s=session, ep=1, db=db, heartbeat_ms=5_000, timeout_ms=TIMEOUT_MS, keep=keep, kill=kill)


def ready(session: str = "s1", window: int = WINDOW, ahead: int = 0) -> Ready:
    return Ready(s=session, window=window, ahead=ahead)


def register(*held: Held, db: str = "") -> Register:
    return Register(
        versions=(1,),
        worker="w1",
        incarnation="i1",
        boot_id="b1",
        lock=(1, 2),
        slots=SLOTS,
        heartbeat_ms=HEARTBEAT_MS,
        db=db,
        agent="0.1.0",
        can=CAN,
        runs=held,
    )


def heartbeat(seq: int, *held: Held, n: int = 0, session: str = "s1", ahead: int = 0) -> Heartbeat:
    return Heartbeat(s=session, seq=seq, n=n, window=WINDOW, ahead=ahead, runs=held)


def order(run: int, probation: bool = False) -> RunOrder:
    return RunOrder(
        run=run, job=run, task=0, attempt=1, command="true", grace_ms=1, output_bytes_max=1, probation=probation
    )


def run_frame(n: int, *runs: int, session: str = "s1") -> Dispatch:
    return Dispatch(s=session, ep=1, n=n, runs=tuple(map(order, runs)))


def result(run: int, took_ms: int = 1_000) -> RunResult:
    return RunResult(run, "success", "exit", finished_ms=5_000 + took_ms, started_ms=5_000, exit_code=0)


def acked(*runs: int, session: str = "s1", verdict: str = "stored") -> ResultAck:
    return ResultAck(s=session, ep=1, verdicts=tuple((run, verdict) for run in runs))  # type: ignore[misc]


@pytest.fixture
def d() -> Iterator[Dialogue]:
    """A registered agent. At the end nothing is left in its outboxes."""
    dialogue = Dialogue()
    dialogue.register()
    yield dialogue
    dialogue.says()
    dialogue.orders()


# --- registering -----------------------------------------------------------------------------------------------------


def test_it_registers_until_it_is_answered() -> None:
    d = Dialogue()
    gaps = []
    for _ in range(7):
        before = d.mono_ms
        while not d.agent.to_scheduler:
            due_ms = d.tick()
            assert due_ms is not None
            d.mono_ms = d.mono_ms if d.agent.to_scheduler else due_ms
        gaps.append(d.mono_ms - before)
        d.says(register())
    for gap, most in zip(gaps, [0, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000], strict=True):
        assert most * 0.8 <= gap <= most
    d.orders()


@pytest.mark.parametrize(("timeout_ms", "most_ms"), [(1_000, 333), (6_000, 2_000), (30_000, 10_000), (90_000, 15_000)])
def test_once_the_timeout_is_known_it_registers_three_times_within_it(timeout_ms: int, most_ms: int) -> None:
    d = Dialogue(db="d1")
    d.wait(0)
    d.hear(msgspec.structs.replace(registered(), timeout_ms=timeout_ms))
    d.agent.on_disconnected(d.now)
    d.guard(messages.Unstarted((), withdrawn=True))
    d.sent()
    gaps: list[int] = []
    since_ms = d.mono_ms
    while len(gaps) < 8:
        d.wait(10)
        if register(db="d1") in d.sent():
            gaps.append(d.mono_ms - since_ms)
            since_ms = d.mono_ms
    assert max(gaps) <= most_ms + 10
    assert gaps[-1] >= most_ms * 0.8 - 10


def test_each_register_has_a_later_time_than_the_one_before() -> None:
    """Also when a new connection comes in the millisecond of the register over the last."""
    d = Dialogue()
    for _ in range(2):
        d.agent.on_connected(d.now)
        d.tick()
    first, second = d.agent.to_scheduler
    assert isinstance(first, Register)
    assert isinstance(second, Register)
    assert first.sent_ms < second.sent_ms
    d.says(register(), register())


def test_registered_it_says_what_it_wants() -> None:
    d = Dialogue()
    d.wait(0)
    d.says(register())
    d.hear(registered())
    d.says(ready())
    d.orders(Session("d1"))


def test_what_it_held_is_registered_and_then_reported() -> None:
    d = Dialogue((Held(1, "running"), Held(2, "finished"), Held(3, "running")), (result(2),), db="d1")
    d.wait(0)
    d.says(register(Held(1, "running"), Held(2, "finished"), Held(3, "running"), db="d1"))
    d.hear(registered(keep=(1, 2), kill=(3,)))
    d.orders(messages.Stop((3,), drop=True))
    d.says(Result(s="s1", results=(result(2),)), ready(window=SLOTS - 1))
    d.guard(Ended(gone=(3,)))
    d.says(ready())


def test_result_of_a_killed_run_is_never_reported() -> None:
    d = Dialogue((Held(1, "running"), Held(2, "finished")), (result(2),), db="d1")
    d.wait(0)
    d.says(register(Held(1, "running"), Held(2, "finished"), db="d1"))
    d.hear(registered(kill=(1, 2)))
    d.orders(messages.Stop((1, 2), drop=True))
    d.guard(Ended((result(1),)), Ended(gone=(1, 2)))
    # Two slots are taken until they are gone: nothing is asked for at first.
    d.says(ready())
    d.orders()


def test_results_kept_for_their_database_are_reported_when_it_returns() -> None:
    d = Dialogue((Held(1, "finished"),), (result(1),), db="d1")
    d.wait(0)
    d.says(register(Held(1, "finished"), db="d1"))
    d.hear(registered(db="d2"))
    d.orders(Session("d2"))
    waits = (messages.ForeignRuns("d1", results=1, finished=(1,)),)
    d.guard(snapshot("d2", foreign=waits))
    d.sent()
    d.moves_to(registered("s2", db="d1"))
    # An answer to what was said before: of a database that is not the one any more.
    d.guard(State("d2", waits), Ended((result(3),), found=True))
    d.guard(snapshot("d1", (), (result(1),), ()))
    assert d.sent()[-1] == Result(s="s2", results=(result(1),))
    d.hear(acked(1, session="s2"))
    d.orders(Session("d1"), messages.Forget((1,)))
    d.says()


def test_result_read_before_the_guard_changed_databases_is_of_no_new_run() -> None:
    d = Dialogue((Held(1, "running"),), db="d1")
    d.wait(0)
    d.hear(registered(db="d2"))
    d.guard(snapshot("d2", foreign=(messages.ForeignRuns("d1", running=(1,)),)))
    # This database has a run 1 too.
    d.hear(run_frame(1, 1))
    d.guard(messages.Began(1, 100, 5))
    d.moves_to(registered("s2", db="d1", keep=(1,)))
    d.sent()
    d.guard(Ended((result(1),)))
    d.says()


def test_run_dispatched_again_has_the_result_that_waited_for_its_database() -> None:
    d = Dialogue(db="d2")
    d.wait(0)
    d.hear(registered(db="d1"), run_frame(1, 1))
    d.guard(snapshot("d1"), Ended((result(1),), found=True))
    d.says(register(db="d2"), ready(), Result(s="s1", results=(result(1),)))
    d.hear(acked(1))
    d.orders(Session("d1"), d.start(1), messages.Forget((1,)))


def test_results_from_disk_without_a_session_are_registered_first() -> None:
    d = Dialogue(db="d1")
    d.guard(Ended((result(1),), found=True))
    d.says()
    d.wait(0)
    d.says(register(Held(1, "finished"), db="d1"))
    d.hear(registered())
    d.says(Result(s="s1", results=(result(1),)), ready())
    d.orders()


@pytest.mark.parametrize("restart", [True, False])
def test_worker_whose_disk_fails_asks_for_nothing_and_reports_its_results(restart: bool) -> None:
    d = Dialogue((Held(1, "finished"),), (result(1),), db="d1", disk_fails=restart)
    d.wait(0)
    d.says(register(Held(1, "finished"), db="d1"))
    d.hear(registered())
    if restart:
        d.says(Result(s="s1", results=(result(1),)))
    else:
        d.says(Result(s="s1", results=(result(1),)), ready())
        d.guard(State("d1", disk_fails=True))
        d.says(ready(window=0))
    d.guard(State("d1", disk_fails=False))
    d.says(ready())
    d.orders()


def test_another_worker_of_that_name_is_waited_for() -> None:
    d = Dialogue()
    d.wait(0)
    d.says(register())
    for _ in range(3):
        d.hear(Error(code="E_DUP", fatal=False, detail="w1 is there"))
        d.wait(999)
        d.says()
        d.wait(1)
        d.says(register())
    d.orders()


def test_a_fatal_refusal_ends_it() -> None:
    d = Dialogue()
    d.wait(0)
    d.says(register())
    d.hear(Error(code="E_KEY", fatal=True, detail="no"))
    d.orders(messages.Refused(EXIT_REFUSED))
    d.says()
    assert d.agent.exit_code == EXIT_REFUSED


# --- the session -----------------------------------------------------------------------------------------------------


def test_an_idle_worker_announces_itself_and_its_life(d: Dialogue) -> None:
    d.wait(HEARTBEAT_MS)
    d.says(ready(), ready(), heartbeat(1))
    d.hear(HeartbeatAck(s="s1", ep=1, seq=1))


def test_frames_of_another_session_are_dropped(d: Dialogue) -> None:
    d.hear(run_frame(1, 7, session="s0"), Cancel(s="s0", ep=1, runs=(7,)), SchedulerBye(s="s0", ep=1, reason="x"))


@pytest.mark.parametrize("acks", [True, False])
def test_a_session_ends_when_no_ack_has_come_for_the_timeout(acks: bool) -> None:
    d = Dialogue()
    d.register()
    for seq in range(1, 13):
        d.wait(HEARTBEAT_MS)
        if acks:
            d.hear(HeartbeatAck(s="s1", ep=1, seq=seq))
    assert d.agent.registered is acks
    assert (LOST in d.agent.to_guard) is not acks


def test_worker_that_stood_still_loses_its_session_before_old_frames_act(d: Dialogue) -> None:
    d.wait(0)
    d.mono_ms += TIMEOUT_MS
    d.hear(run_frame(1, 1), HeartbeatAck(s="s1", ep=1, seq=0))
    d.orders(LOST)
    d.says()
    assert not d.agent.registered


def test_an_ack_counts_from_when_its_heartbeat_was_sent(d: Dialogue) -> None:
    d.wait(HEARTBEAT_MS)
    assert heartbeat(1) in d.agent.to_scheduler
    d.wait(1)
    # The ack comes at once, and lies unread.
    d.mono_ms += TIMEOUT_MS - HEARTBEAT_MS - 2
    d.hear(HeartbeatAck(s="s1", ep=1, seq=1), run_frame(1, 1))
    d.orders(d.start(1))
    d.mono_ms += HEARTBEAT_MS
    d.hear(run_frame(2, 2))
    assert LOST not in d.agent.to_guard
    d.mono_ms += 1
    d.hear(run_frame(3, 3))
    assert not d.agent.registered
    d.sent()
    d.orders(messages.Start((order(2),), d.mono_ms - 1), LOST)


def test_lost_session_starts_nothing_and_registers_no_waiting_run(d: Dialogue) -> None:
    d.hear(run_frame(1, 1, 2, 3))
    d.orders(d.start(1, 2, 3))
    d.guard(messages.Began(1, 100, 5))
    d.says(Started(s="s1", run=1, pid=100, at_ms=5))

    d.agent.on_disconnected(d.now)
    d.orders(LOST)
    d.hear(run_frame(2, 4))
    d.wait(60_000)
    # Not before the guard has said what had not started.
    d.says()
    d.guard(messages.Unstarted((3,), withdrawn=True))
    d.wait(0)
    d.says(register(Held(1, "running"), Held(2, "running"), db="d1"))


def test_a_lost_session_is_replaced_at_once(d: Dialogue) -> None:
    d.hear(Error(code="E_SESSION", fatal=False, detail="unknown"), Error(code="E_SESSION", fatal=False, detail="again"))
    d.orders(LOST)
    d.guard(messages.Unstarted((), withdrawn=True))
    d.wait(0)
    d.says(register(db="d1"))
    d.hear(registered("s2"))
    # A whole heartbeat: nobody has said yet which of the two registers this answers.
    d.says(heartbeat(1, session="s2"))


def test_late_answer_to_an_earlier_register_opens_no_session(d: Dialogue) -> None:
    d.agent.on_disconnected(d.now)
    d.orders(LOST)
    d.hear(registered("s9"))
    assert not d.agent.registered


def test_a_run_of_a_session_that_was_replaced_is_dropped(d: Dialogue) -> None:
    d.hear(run_frame(1, 1))
    d.orders(d.start(1))
    d.hear(registered("s2"))
    d.orders(messages.Stop((1,), drop=True))
    d.guard(Ended(gone=(1,)))
    d.says(ready("s2", window=SLOTS - 1), ready("s2"))


def test_a_goodbye_of_the_scheduler_keeps_the_runs(d: Dialogue) -> None:
    d.hear(run_frame(1, 1))
    d.orders(d.start(1))
    d.hear(SchedulerBye(s="s1", ep=1, reason="stop"))
    d.orders(LOST)
    d.guard(messages.Unstarted((), withdrawn=True))
    d.wait(0)
    d.says(register(Held(1, "running"), db="d1"))


@pytest.mark.parametrize("held", [True, False])
def test_while_the_guard_is_silent_nothing_is_said_to_the_scheduler(d: Dialogue, held: bool) -> None:
    if held:
        d.hear(run_frame(1, 1, 2))
        d.orders(d.start(1, 2))
        d.guard(Ended((result(1),)))
        d.sent()
    d.guard_lives = False
    d.wait(TIMEOUT_MS // 2)
    assert any(isinstance(frame, Heartbeat) for frame in d.agent.to_scheduler)
    d.ack()
    d.sent()

    d.wait(TIMEOUT_MS // 2 - HEARTBEAT_MS)
    d.hear(run_frame(2, 3), acked())
    d.says()
    assert d.agent.registered
    # It is asked once.
    assert sum(isinstance(message, messages.Alive) for message in d.agent.to_guard) == 1

    d.guard(messages.Alive())
    d.wait(0)
    assert any(isinstance(frame, Heartbeat) for frame in d.sent())
    d.orders(d.start(3))


def test_session_ending_while_the_guard_is_silent_has_no_early_successor(d: Dialogue) -> None:
    d.guard_lives = False
    d.wait(2 * TIMEOUT_MS)
    d.sent()
    d.wait(10 * TIMEOUT_MS)
    d.says()
    d.orders(LOST)
    d.guard(messages.Unstarted((), withdrawn=True))
    d.wait(0)
    d.says(register(db="d1"))


@pytest.mark.parametrize("timeout_ms", [1_000, 20_000, 30_000, 3_600_000])
def test_guard_gets_the_longest_silence_of_its_agent(timeout_ms: int) -> None:
    d = Dialogue()
    d.agent.on_seek()
    assert d.agent.to_guard == [messages.Alive(60_000)]
    d.wait(0)
    d.hear(msgspec.structs.replace(registered(), timeout_ms=timeout_ms))
    d.guard_lives = False
    d.wait(2_000)
    within_ms = max(5_000, min(10_000, timeout_ms // 3))
    assert [message for message in d.agent.to_guard if isinstance(message, messages.Alive)] == [
        messages.Alive(within_ms)
    ]


# --- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_is_started_reported_and_forgotten(d: Dialogue) -> None:
    d.hear(run_frame(1, 1))
    d.orders(d.start(1))
    d.guard(Ended((result(1),)))
    d.says(Result(s="s1", results=(result(1),)))
    d.hear(acked(1))
    d.orders(messages.Forget((1,)))


def test_what_the_guard_dropped_at_its_end_is_listed_until_the_goodbye(d: Dialogue) -> None:
    d.hear(run_frame(1, 1))
    d.orders(d.start(1))
    d.guard(State("d1", stopping=True), Ended(gone=(1,)))
    d.sent()
    d.hear(acked())
    d.wait(HEARTBEAT_MS)
    beats = [frame for frame in d.sent() if isinstance(frame, Heartbeat)]
    assert [beat.runs for beat in beats] == [(Held(1, "running"),)]


@pytest.mark.parametrize("verdict", ["stored", "duplicate", "stale", "unknown"])
def test_whatever_the_verdict_is_the_result_is_forgotten(d: Dialogue, verdict: str) -> None:
    d.hear(run_frame(1, 1))
    d.guard(Ended((result(1),)))
    d.hear(acked(1, verdict=verdict))
    d.says(Result(s="s1", results=(result(1),)))
    d.orders(d.start(1), messages.Forget((1,)))


def test_an_order_for_a_run_that_is_held_is_ignored(d: Dialogue) -> None:
    d.hear(run_frame(1, 1), run_frame(2, 1))
    d.orders(d.start(1))
    d.guard(Ended((result(1),)))
    d.says(Result(s="s1", results=(result(1),)))
    d.hear(run_frame(3, 1))


def test_a_heartbeat_lists_all_that_is_held_and_the_last_run_frame(d: Dialogue) -> None:
    d.hear(run_frame(1, 1, 2), run_frame(2, 3))
    d.guard(messages.Began(1, 100, 5), Ended((result(2),)))
    d.orders(d.start(1, 2), d.start(3))
    d.sent()
    d.hear(acked())
    d.wait(HEARTBEAT_MS)
    beats = [frame for frame in d.sent() if isinstance(frame, Heartbeat)]
    assert beats == [heartbeat(1, Held(1, "running"), Held(2, "finished"), Held(3, "waiting"), n=2)]


def test_result_is_reported_again_until_it_is_acked(d: Dialogue) -> None:
    d.hear(run_frame(1, 1))
    d.orders(d.start(1))
    d.guard(Ended((result(1),)))
    d.says(Result(s="s1", results=(result(1),)))
    told = 0
    for seq in range(1, 11):
        d.wait(HEARTBEAT_MS)
        told += sum(isinstance(frame, Result) for frame in d.sent())
        d.hear(HeartbeatAck(s="s1", ep=1, seq=seq))
    # After 1, 2, 4, 8, 15 and 15 s, each a little less.
    assert told == 6
    d.hear(acked(1))
    d.orders(messages.Forget((1,)))
    d.says(ready())


def test_a_result_without_a_session_waits_for_the_next(d: Dialogue) -> None:
    d.hear(run_frame(1, 1))
    d.orders(d.start(1))
    d.agent.on_disconnected(d.now)
    d.guard(messages.Unstarted((), withdrawn=True), Ended((result(1),)))
    d.orders(LOST)
    d.wait(0)
    d.says(register(Held(1, "finished"), db="d1"))
    d.hear(registered("s2", keep=(1,)))
    d.says(heartbeat(1, Held(1, "finished"), session="s2"), Result(s="s2", results=(result(1),)))


def test_large_results_go_in_frames_of_a_megabyte(d: Dialogue) -> None:
    d.hear(run_frame(1, *range(1, 6)))
    d.orders(d.start(*range(1, 6)))
    large = [
        RunResult(run, "failed", "signal", finished_ms=1, signal=9, stdout=type(result(1).stdout)(b"x" * 400_000))
        for run in range(1, 6)
    ]
    d.guard(Ended(tuple(large)))
    frames = [frame for frame in d.sent() if isinstance(frame, Result)]
    assert [[told.run for told in frame.results] for frame in frames] == [[1, 2], [3, 4], [5]]


def test_a_cancel_goes_to_the_guard_as_often_as_it_comes(d: Dialogue) -> None:
    d.hear(run_frame(1, 1), Cancel(s="s1", ep=1, runs=(1, 99)), HeartbeatAck(s="s1", ep=1, seq=0, cancel=(1,)))
    d.orders(d.start(1), messages.Stop((1,)), messages.Stop((1,)))
    d.guard(messages.Unstarted((1,)))
    d.says(Return(s="s1", runs=(1,)))


def test_a_heartbeat_ack_may_kill(d: Dialogue) -> None:
    d.hear(run_frame(1, 1), HeartbeatAck(s="s1", ep=1, seq=0, kill=(1, 99)))
    d.orders(d.start(1), messages.Stop((1,), drop=True))
    d.guard(Ended(gone=(1,)))
    d.says(ready(window=SLOTS - 1), ready())


@pytest.mark.parametrize("restart", [True, False])
def test_a_dying_run_takes_a_slot_and_is_listed_nowhere(restart: bool) -> None:
    d = Dialogue((Held(1, "running"), Held(2, "running")), db="d1", dropped=(1,) if restart else ())
    d.wait(0)
    if not restart:
        d.says(register(Held(1, "running"), Held(2, "running"), db="d1"))
        d.hear(registered(keep=(2,), kill=(1,)))
        d.orders(messages.Stop((1,), drop=True))
    else:
        d.says(register(Held(2, "running"), db="d1"))
        d.hear(registered(keep=(2,)))
    d.says(ready(window=SLOTS - 1))
    d.wait(HEARTBEAT_MS)
    d.says(Heartbeat(s="s1", seq=1, n=0, window=SLOTS - 1, ahead=0, runs=(Held(2, "running"),)))
    # Again, as long as it is not gone: no news for the guard.
    d.hear(HeartbeatAck(s="s1", ep=1, seq=1, kill=(1,)))
    d.guard(Ended(gone=(1,)))
    d.says(ready())
    d.orders()


def test_a_worker_full_of_dying_runs_asks_for_nothing(d: Dialogue) -> None:
    d.hear(run_frame(1, 1, 2, 3), HeartbeatAck(s="s1", ep=1, seq=0, kill=(1, 2, 3)))
    d.orders(d.start(1, 2, 3), messages.Stop((1, 2, 3), drop=True))
    d.says(ready(window=0))
    d.guard(Ended(gone=(3,)), Ended(gone=(1,)))
    d.says(ready(window=SLOTS - 1))
    d.guard(Ended(gone=(2,)))
    d.says(ready())


def test_run_with_the_id_of_a_dying_one_goes_back(d: Dialogue) -> None:
    d.hear(run_frame(1, 1))
    d.hear(registered("s2", kill=(1,)))
    d.orders(d.start(1), messages.Stop((1,), drop=True))
    d.says(ready("s2", window=SLOTS - 1))

    d.hear(run_frame(1, 1, 2, session="s2"))
    d.orders(d.start(2))
    # First that nothing more is taken, or it would come again at once.
    d.says(ready("s2", window=0), Return(s="s2", runs=(1,)))
    d.wait(HEARTBEAT_MS)
    d.says(Heartbeat(s="s2", seq=1, n=1, window=0, ahead=0, runs=(Held(2, "waiting"),)))
    d.guard(Ended(gone=(1,)))
    d.says(ready("s2"))
    d.hear(run_frame(2, 1, session="s2"))
    d.orders(d.start(1))


def test_run_on_probation_is_reported_at_once_and_a_second_later(d: Dialogue) -> None:
    d.hear(Dispatch(s="s1", ep=1, n=1, runs=(order(1, probation=True),)))
    d.orders(messages.Start((order(1, probation=True),), d.mono_ms))
    d.guard(messages.Began(1, 100, 5))
    d.says(Started(s="s1", run=1, pid=100, at_ms=5))
    d.wait(999)
    d.says()
    d.wait(1)
    d.wait(0)
    d.says(heartbeat(1, Held(1, "running"), n=1))


# --- leases ----------------------------------------------------------------------------------------------------------

LEASE_MS = 20_000


def leased(n: int, *runs: int, lease_ms: int = LEASE_MS, session: str = "s1") -> Dispatch:
    orders = tuple(msgspec.structs.replace(order(run), lease_ms=lease_ms) for run in runs)
    return Dispatch(s=session, ep=1, n=n, runs=orders)


def told_leases(d: Dialogue) -> list[int]:
    """From when the guard was told to count, since the last look."""
    sessions = [message for message in d.agent.to_guard if isinstance(message, Session)]
    told = [message.heard_ms for message in sessions if message.heard_ms is not None]
    d.agent.to_guard.clear()
    return told


def test_guard_knows_the_lease_before_it_starts_the_first_leased_run(d: Dialogue) -> None:
    registered_ms = d.mono_ms
    d.wait(1_000)
    frame = leased(1, 1)
    d.hear(frame)
    d.orders(Session("d1", heard_ms=registered_ms), messages.Start(frame.runs, d.mono_ms))
    d.hear(frame := leased(2, 2))
    d.orders(messages.Start(frame.runs, d.mono_ms))


def test_without_such_a_run_the_guard_hears_nothing_of_leases(d: Dialogue) -> None:
    d.hear(run_frame(1, 1))
    d.wait(HEARTBEAT_MS)
    d.hear(HeartbeatAck(s="s1", ep=1, seq=1))
    d.sent()
    d.orders(messages.Start((order(1),), d.mono_ms - HEARTBEAT_MS))


def test_while_one_is_held_heartbeats_come_ten_times_in_a_lease(d: Dialogue) -> None:
    d.wait(1_000)
    d.hear(leased(1, 1), leased(2, 2, lease_ms=10 * LEASE_MS))
    d.wait(LEASE_MS // 10)
    d.wait(LEASE_MS // 10)
    assert [frame.seq for frame in d.sent() if isinstance(frame, Heartbeat)] == [1, 2]
    d.hear(HeartbeatAck(s="s1", ep=1, seq=2))
    d.guard(Ended((result(1),)))
    d.wait(4_999)
    assert [frame.seq for frame in d.sent() if isinstance(frame, Heartbeat)] == [3]
    d.agent.to_guard.clear()
    d.wait(3_000)
    # One more that was due before it ended, and then the usual pace.
    assert [frame.seq for frame in d.sent() if isinstance(frame, Heartbeat)] == [4]
    d.orders()


def test_an_ack_renews_the_lease_from_when_its_heartbeat_was_sent(d: Dialogue) -> None:
    d.hear(leased(1, 1))
    d.agent.to_guard.clear()
    d.wait(LEASE_MS // 10)
    sent_ms = d.mono_ms
    d.sent()
    d.wait(1_500)
    d.hear(HeartbeatAck(s="s1", ep=1, seq=1))
    assert told_leases(d) == [sent_ms]
    # Once; and an older one changes nothing.
    d.hear(HeartbeatAck(s="s1", ep=1, seq=1), HeartbeatAck(s="s1", ep=1, seq=0))
    assert told_leases(d) == []


def test_the_answer_to_a_result_renews_nothing(d: Dialogue) -> None:
    d.hear(leased(1, 1), run_frame(2, 2))
    d.guard(Ended((result(2),)))
    d.agent.to_guard.clear()
    d.wait(TIMEOUT_MS - 1)
    d.sent()
    # It has lain there for long.
    d.hear(acked(2))
    assert told_leases(d) == []
    d.wait(1)
    assert not d.agent.registered
    d.sent()
    d.agent.to_guard.clear()


def test_registered_renews_the_lease_from_the_first_register_it_may_answer() -> None:
    d = Dialogue((Held(1, "running"),), db="d1", leases=((1, LEASE_MS),))
    d.wait(0)
    first_ms = d.mono_ms
    d.wait(2_500)
    assert d.sent() == [register(Held(1, "running"), db="d1")] * 3
    d.hear(registered(keep=(1,)))
    assert told_leases(d) == [first_ms]
    # Which of the three it was is settled at once.
    d.says(heartbeat(1, Held(1, "running")))
    sent_ms = d.mono_ms
    d.wait(10)
    d.hear(HeartbeatAck(s="s1", ep=1, seq=1))
    assert told_leases(d) == [sent_ms]
    # The next register can be answered by nothing older.
    d.agent.on_disconnected(d.now)
    d.guard(messages.Unstarted((), withdrawn=True))
    d.wait(0)
    again_ms = d.mono_ms
    d.sent()
    d.agent.to_guard.clear()
    d.wait(500)
    d.hear(registered("s2", keep=(1,)))
    assert told_leases(d) == [again_ms]


def test_a_second_answer_to_the_same_register_renews_nothing_more() -> None:
    d = Dialogue((Held(1, "running"),), db="d1", leases=((1, LEASE_MS),))
    d.wait(0)
    d.hear(registered(keep=(1,)))
    assert told_leases(d) == [d.mono_ms]
    d.wait(700)
    d.hear(registered("s2", keep=(1,)))
    assert told_leases(d) == []


def test_leased_run_without_a_session_registers_twenty_times_in_a_lease() -> None:
    d = Dialogue((Held(1, "running"),), db="d1", leases=((1, LEASE_MS),))
    d.wait(30_000)
    assert len(d.sent()) >= 30
    d.hear(Error(code="E_DUP", fatal=False, detail="w1 is connected"))
    d.wait(5_000)
    assert len(d.sent()) == 5


def test_lease_over_before_its_run_starts_pauses_asking_until_an_ack(d: Dialogue) -> None:
    d.wait(LEASE_MS * 7 // 10)
    d.sent()
    frame = leased(1, 1)
    d.hear(frame)
    d.agent.to_guard.clear()
    d.guard(messages.Unstarted((1,)))
    # In this order: what is not listed and was not handed back counts as lost when it may start only once.
    d.says(ready(window=0), Return(s="s1", runs=(1,)), Heartbeat(s="s1", seq=3, n=1, window=0, ahead=0))
    sent_ms = d.mono_ms
    d.hear(HeartbeatAck(s="s1", ep=1, seq=3))
    d.says(ready())
    d.hear(frame := leased(2, 1))
    d.orders(Session("d1", heard_ms=sent_ms), messages.Start(frame.runs, d.mono_ms))


def test_a_run_that_comes_back_for_want_of_a_slot_asks_for_no_ack(d: Dialogue) -> None:
    d.hear(leased(1, 1))
    d.agent.to_guard.clear()
    d.wait(1_000)
    d.guard(messages.Unstarted((1,)))
    d.says(Return(s="s1", runs=(1,)))


def test_a_new_agent_renews_no_lease_before_it_is_answered() -> None:
    d = Dialogue((Held(1, "running"),), db="d1", leases=((1, LEASE_MS),))
    d.wait(30_000)
    assert told_leases(d) == []


# --- what can't be ended ---------------------------------------------------------------------------------------------


def test_run_that_does_not_end_is_reported_at_once_and_asking_stops(d: Dialogue) -> None:
    d.hear(run_frame(1, 1, 2))
    d.orders(d.start(1, 2))
    d.guard(messages.Began(1, 100, 5), messages.Began(2, 101, 5))
    d.sent()
    d.guard(State("d1", stuck=(1,)))
    held = (Held(1, "running"), Held(2, "running"))
    d.says(Heartbeat(s="s1", seq=1, n=1, window=0, ahead=0, runs=held, stuck=(1,)))
    # It does end.
    d.guard(Ended((result(1),)))
    d.says(Result(s="s1", results=(result(1),)))
    d.guard(State("d1", stuck=()))
    d.says(heartbeat(2, Held(1, "finished"), Held(2, "running"), n=1))


def test_a_new_agent_tells_it_in_its_first_heartbeat() -> None:
    d = Dialogue((Held(1, "running"),), db="d1", stuck=(1,))
    d.wait(0)
    d.says(register(Held(1, "running"), db="d1"))
    d.hear(registered(keep=(1,)))
    d.says(Heartbeat(s="s1", seq=1, n=0, window=0, ahead=0, runs=(Held(1, "running"),), stuck=(1,)))


def test_runs_left_behind_are_reported_before_the_goodbye(d: Dialogue) -> None:
    d.hear(run_frame(1, 1))
    d.orders(d.start(1))
    d.guard(messages.Began(1, 100, 5), State("d1", stopping=True))
    d.sent()
    d.guard(State("d1", stuck=(1,), stopping=True), State("d1", stuck=(1,), stopping=True, leave=True))
    told = Heartbeat(s="s1", seq=1, n=1, window=0, ahead=0, runs=(Held(1, "running"),), stuck=(1,), leaving=True)
    d.says(told, WorkerBye(s="s1", reason="shutdown", runs=(Held(1, "running"),)))


def test_dropped_stuck_run_is_not_listed_and_the_agent_asks_for_nothing(d: Dialogue) -> None:
    d.hear(run_frame(1, 1), HeartbeatAck(s="s1", ep=1, seq=0, kill=(1,)))
    d.orders(d.start(1), messages.Stop((1,), drop=True))
    d.sent()
    d.guard(State("d1", stuck=(1,)))
    d.says(Heartbeat(s="s1", seq=1, n=1, window=0, ahead=0))
    d.guard(Ended(gone=(1,)))
    d.says()
    d.guard(State("d1", stuck=()))
    d.says(heartbeat(2, n=1))


# --- how much it asks for --------------------------------------------------------------------------------------------


def run_short(d: Dialogue, count: int, took_ms: int = 1) -> None:
    for run in range(1, count + 1):
        d.hear(run_frame(run, run))
        d.guard(Ended((result(run, took_ms),)))
        d.hear(acked(run))
    d.agent.to_guard.clear()


def asked(d: Dialogue) -> list[int]:
    return [frame.ahead for frame in d.sent() if isinstance(frame, Ready)]


def test_short_runs_make_it_ask_ahead_and_a_long_one_ends_that(d: Dialogue) -> None:
    run_short(d, 60)
    steps = asked(d)
    assert steps == sorted(steps)
    assert steps[-1] == WINDOW - SLOTS
    run_short(d, 1, took_ms=1_000)
    assert asked(d) == [0]


def test_a_run_that_waited_in_vain_ends_it_until_a_slot_gets_free(d: Dialogue) -> None:
    run_short(d, 60)
    d.sent()
    d.hear(run_frame(99, 101, 102))
    d.guard(messages.Unstarted((102,)))
    d.orders(d.start(101, 102))
    d.says(ready(ahead=0), Return(s="s1", runs=(102,)))
    d.guard(Ended((result(101, 1),)))
    d.says(Result(s="s1", results=(result(101, 1),)), ready(ahead=WINDOW - SLOTS))


def test_a_host_without_room_asks_for_nothing_for_a_while(d: Dialogue) -> None:
    gaps = []
    for n in range(1, 7):
        d.hear(run_frame(n, 1, 2))
        d.orders(d.start(1, 2))
        d.guard(messages.Unstarted((1, 2), no_room=True))
        d.says(ready(window=0), Return(s="s1", runs=(1, 2)))
        before = d.mono_ms
        while (Ready(s="s1", window=WINDOW, ahead=0)) not in d.sent():
            d.wait(50)
            d.ack()
            assert d.mono_ms - before < TIMEOUT_MS
        gaps.append(d.mono_ms - before)
    for gap, most in zip(gaps, [1_000, 2_000, 4_000, 8_000, 15_000, 15_000], strict=True):
        assert most * 0.8 <= gap <= most + 50
    d.hear(run_frame(7, 3))
    d.guard(Ended((result(3),)))
    d.hear(run_frame(8, 4))
    d.guard(messages.Unstarted((4,), no_room=True))
    d.orders(d.start(3), d.start(4))
    d.sent()
    d.wait(1_000)
    assert ready() in d.sent()


@pytest.mark.parametrize("trouble", [State("d1", stuck=(2,)), State("d1", disk_fails=True)], ids=["stuck", "disk"])
def test_agent_that_asks_for_nothing_for_another_reason_sleeps_as_well(d: Dialogue, trouble: FromGuard) -> None:
    d.hear(run_frame(1, 1, 2))
    d.orders(d.start(1, 2))
    d.guard(messages.Began(2, 100, 5), messages.Unstarted((1,), no_room=True), trouble)
    d.mono_ms += 2_000
    due_ms = d.tick()
    assert due_ms is not None
    assert due_ms > d.mono_ms
    d.sent()


def test_a_worker_that_stops_asks_for_nothing_and_says_goodbye(d: Dialogue) -> None:
    d.hear(run_frame(1, 1, 2))
    d.orders(d.start(1, 2))
    d.guard(State("d1", stopping=True), messages.Unstarted((2,)))
    d.says(Ready(s="s1", window=0, ahead=0, leaving=True), Return(s="s1", runs=(2,)))
    d.guard(Ended((result(1),)))
    d.hear(acked(1))
    d.guard(State("d1", stopping=True, leave=True))
    d.says(Result(s="s1", results=(result(1),)), WorkerBye(s="s1", reason="shutdown", runs=()))
    d.orders(messages.Forget((1,)))
    assert d.agent.exit_code == 0


def test_the_end_is_announced_at_once_and_in_each_heartbeat_and_register(d: Dialogue) -> None:
    d.guard(State("d1", stuck=(7,)), State("d1", disk_fails=True))
    d.sent()
    # It asked for nothing before either.
    d.guard(State("d1", stopping=True))
    d.says(Ready(s="s1", window=0, ahead=0, leaving=True))
    d.wait(HEARTBEAT_MS)
    assert [frame.leaving for frame in d.sent() if isinstance(frame, Heartbeat | Ready)] != []
    d.agent.on_disconnected(d.now)
    d.orders(LOST)
    d.guard(messages.Unstarted((), withdrawn=True))
    d.tick()
    assert [frame.leaving for frame in d.sent() if isinstance(frame, Register)] == [True]


def test_many_runs_that_outlive_probation_are_reported_by_few_heartbeats(d: Dialogue) -> None:
    runs = tuple(range(1, 41))
    orders = tuple(order(run, probation=True) for run in runs)
    d.hear(Dispatch(s="s1", ep=1, n=1, runs=orders))
    d.orders(messages.Start(orders, d.mono_ms))
    began_ms = d.mono_ms
    for run in runs:
        d.guard(messages.Began(run, run, 5))
        d.mono_ms += 2
    d.sent()
    d.mono_ms = began_ms + 1_000
    d.wait(200)
    assert len([frame for frame in d.sent() if isinstance(frame, Heartbeat)]) <= 4


def test_the_goodbye_lists_all_that_is_held_but_what_never_starts(d: Dialogue) -> None:
    d.hear(run_frame(1, 1, 2))
    d.guard(Ended((result(1),)), State("d1", stopping=True))
    # The guard ends before it reads of run 3.
    d.hear(run_frame(2, 3))
    d.orders(d.start(1, 2), d.start(3))
    d.guard(Ended(gone=(2,)), State("d1", stopping=True, leave=True))
    *_, bye = d.sent()
    assert bye == WorkerBye(s="s1", reason="shutdown", runs=(Held(1, "finished"), Held(2, "running")))


def test_lost_guard_is_reported(d: Dialogue) -> None:
    d.agent.on_guard_lost()
    d.says(WorkerBye(s="s1", reason="guard_lost"))


# --- what fits a frame ---


def test_lists_of_held_runs_are_bounded() -> None:
    """Results of an earlier start, found on the disk: more than one list may have."""
    finished = tuple(Held(run, "finished") for run in range(1, FRAME_LIST_MAX + 1))
    running = Held(FRAME_LIST_MAX + 1, "running")
    dialogue = Dialogue(held=(*finished, running))
    dialogue.wait(0)
    (said,) = dialogue.sent()
    assert isinstance(said, Register)
    assert len(said.runs) == FRAME_LIST_MAX
    assert running in said.runs


def test_window_leaves_room_for_results_that_are_not_acked() -> None:
    results = tuple(
        RunResult(run=run, status="success", reason="exit", finished_ms=1) for run in range(1, FRAME_LIST_MAX - 9)
    )
    held = tuple(Held(result.run, "finished") for result in results)
    dialogue = Dialogue(held=held, results=results, db="d1")
    dialogue.wait(0)
    dialogue.hear(registered())
    asked = [frame.window for frame in dialogue.sent() if isinstance(frame, Ready)]
    assert asked == [10]


@pytest.mark.parametrize("slots", [1, 2, 16, 1_000, 65_536])
def test_window_of_any_number_of_slots_fits_a_list(slots: int) -> None:
    assert pace.window(slots) <= WINDOW_MAX < FRAME_LIST_MAX
