"""Dialogues with a worker that repeats itself: what it leaves in the events and in the log stays bounded."""

from __future__ import annotations

import pytest

from tests.unit.world import TEST, Peer, World, operator
from zsched.model.access import KeyOrigin
from zsched.model.limits import (
    ACK_RUNS_MAX,
    CLAIM_BYTES_MAX,
    CLAIM_RUNS_MAX,
    COMMAND_BYTES_MAX,
    LINE_INTERVAL_MS,
    REGISTER_GAP_MS,
    REGISTERS_MAX,
    RETURNS_MAX,
    RETURNS_PAUSE_MS,
    RETURNS_PAUSE_MS_MAX,
    STALE_FRAME_GAP_MS,
    STALE_FRAMES_MAX,
)
from zsched.model.types import JobSpec, RunStatus, WorkerId
from zsched.protocol import Dispatch, Error, Heartbeat, Held, Result, ResultAck, Return, Started, WorkerBye
from zsched.scheduler.dispatcher.commands import BindKey, Submit
from zsched.scheduler.dispatcher.returns import Returns

K1, K2 = "1" * 40, "2" * 40


def foreign_runs(world: World, count: int) -> list[int]:
    """Runs that no worker has."""
    return [world.runs(world.submit_one())[0].run_id for _ in range(count)]


def tell(peer: Peer, *run_ids: int) -> dict[int, str]:
    """Tell the ends of runs in one frame; returns the verdicts of the ack, none when there is no ack."""
    peer.say(Result(s=peer.session, results=tuple(peer.result(run_id) for run_id in run_ids)))
    frames = peer.world.sent_to(peer.peer)
    acks = [frame for frame in frames if isinstance(frame, ResultAck)]
    assert len(acks) == len(frames) <= 1
    return dict(acks[0].verdicts) if acks else {}


# --- stale results ---------------------------------------------------------------------------------------------------


def test_stale_results_of_a_frame_leave_one_event_and_one_line(world: World, caplog: pytest.LogCaptureFixture) -> None:
    runs = foreign_runs(world, 500)
    w1 = Peer(world)
    w1.register()
    with caplog.at_level("INFO"):
        assert tell(w1, *runs) == dict.fromkeys(runs, "stale")
    ((_, _, detail),) = [event for event in world.events("pending") if event[1] == "stale"]
    assert f"500 such results came at once, for runs {runs[0]} to {runs[-1]}" in detail
    assert [record.getMessage() for record in caplog.records if "results not stored" in record.getMessage()] == [
        f"worker w1: 500 results not stored (stale), of runs {runs[0]} to {runs[-1]}"
    ]


def test_stale_results_are_noted_and_good_ones_in_the_same_frame_stored(world: World) -> None:
    w1, own = holder(world)
    (stale,) = foreign_runs(world, 1)
    assert tell(w1, own, stale, 10**6) == {own: "stored", stale: "stale", 10**6: "unknown"}
    assert len(stale_events(world)) == 1


def holder(world: World) -> tuple[Peer, int]:
    """A worker that has one run, and takes no more."""
    w1 = Peer(world).join()
    world.submit_one()
    own = w1.take_one()
    w1.ready(window=0)
    return w1, own


def stale_events(world: World) -> list[object]:
    return [event for event in world.events("pending") if event[1] == "stale"]


def test_stale_result_frames_are_bounded_and_acked_only_with_an_event(world: World) -> None:
    runs = foreign_runs(world, STALE_FRAMES_MAX + 10)
    w1 = Peer(world)
    w1.register()
    acked = [tell(w1, run_id) for run_id in runs]
    assert acked == [{run_id: "stale"} for run_id in runs[:STALE_FRAMES_MAX]] + [{}] * 10
    assert len(stale_events(world)) == STALE_FRAMES_MAX
    # What was not acked is sent again, and noted then.
    world.jump(STALE_FRAME_GAP_MS)
    assert tell(w1, *runs[STALE_FRAMES_MAX:]) == dict.fromkeys(runs[STALE_FRAMES_MAX:], "stale")
    assert len(stale_events(world)) == STALE_FRAMES_MAX + 1


def test_good_results_are_stored_also_when_stale_ones_have_to_wait(world: World) -> None:
    w1, own = holder(world)
    stale = foreign_runs(world, STALE_FRAMES_MAX + 1)
    for run_id in stale[:-1]:
        tell(w1, run_id)
    assert tell(w1, stale[-1], own) == {own: "stored"}
    assert world.run(own).status == RunStatus.SUCCESS


def test_first_of_several_results_for_one_run_counts(world: World) -> None:
    w1 = Peer(world).join()
    world.submit_one()
    run_id = w1.take_one()
    w1.say(Result(s=w1.session, results=(w1.result(run_id), w1.result(run_id, exit_code=1))))
    (ack,) = world.sent_to(w1.peer)
    assert isinstance(ack, ResultAck)
    assert ack.verdicts == ((run_id, "stored"),)
    assert world.run(run_id).status == RunStatus.SUCCESS


# --- registers -------------------------------------------------------------------------------------------------------


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if text in record.getMessage()]


def test_registers_for_anothers_name_are_logged_and_answered_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    world = World(keyed=True)
    world.ask(BindKey(WorkerId("w1"), K1, KeyOrigin.ENROLLED, operator("ann")))
    world.ask(BindKey(WorkerId("w2"), K2, KeyOrigin.ENROLLED, operator("ann")))
    rogue = Peer(world, "w2")
    rogue.key = K1
    rogue.say(*[rogue.introduction()] * 1_000)
    assert rogue.refused().code == "E_KEY"
    assert len(lines(caplog, "is refused")) == 1
    world.jump(LINE_INTERVAL_MS)
    rogue.say(rogue.introduction())
    assert rogue.refused().fatal
    assert lines(caplog, "is refused")[1:] == [
        "worker w2 is refused: this key is that of worker w1, not of w2 (1000 times since the last such line)"
    ]
    world.end()


def test_registers_of_one_name_are_bounded(world: World, caplog: pytest.LogCaptureFixture) -> None:
    w1 = Peer(world)
    with caplog.at_level("INFO"):
        for _ in range(REGISTERS_MAX):
            w1.register()
        for _ in range(100):
            w1.say(w1.introduction())
    assert len(lines(caplog, "worker w1 registered")) == REGISTERS_MAX
    assert w1.refused() == Error(code="E_BUSY", fatal=False, detail="worker w1 registers too often")
    assert len(world.events("active")) == REGISTERS_MAX
    # Others come in, and it does a moment later.
    Peer(world, "w2").register()
    world.jump(REGISTER_GAP_MS)
    w1.register()


def test_rivals_of_one_name_are_logged_once_a_second(world: World, caplog: pytest.LogCaptureFixture) -> None:
    w1 = Peer(world).join()
    rival = Peer(world, "w1", connection="rival", incarnation="other")
    rival.boot_id = "another boot"
    for _ in range(50):
        w1.quiet_beat()
        rival.say(rival.introduction())
    world.sent_to(rival.peer)
    assert len(lines(caplog, "asks for the same name")) == 1


# --- runs that are given back ----------------------------------------------------------------------------------------


def give_back(peer: Peer, way: str) -> int:
    """Give back all runs that came; returns how many. The worker has a session after it."""
    runs = []
    for frame in peer.world.sent_to(peer.peer):
        if isinstance(frame, Dispatch):
            runs += [order.run for order in frame.runs]
            peer.n = frame.n
    if way == "return" and runs:
        peer.say(Return(s=peer.session, runs=tuple(runs)))
    elif way == "beat":
        peer.say(Heartbeat(s=peer.session, seq=1, n=peer.n, window=peer.window, ahead=peer.ahead, runs=()))
    elif way == "bye":
        peer.say(WorkerBye(s=peer.session, reason="x"))
        peer.world.sent_to(peer.peer)
        peer.register()
        peer.ready()
    return len(runs)


@pytest.mark.parametrize("way", ["return", "beat", "bye"])
def test_worker_that_gives_back_all_it_gets_is_paused(world: World, way: str) -> None:
    world.submit(2 * RETURNS_MAX)
    w1 = Peer(world, slots=8)
    w1.window, w1.ahead = 200, 200
    w1.join()
    given = 0
    while count := give_back(w1, way):
        given += count
        assert given < 2 * RETURNS_MAX
    assert RETURNS_MAX <= given < RETURNS_MAX + 200
    world.wait(RETURNS_PAUSE_MS - 1)
    assert give_back(w1, "") == 0
    world.wait(1)
    assert give_back(w1, "") > 0


def test_paused_worker_finishes_what_it_has_and_others_get_the_rest(world: World) -> None:
    world.submit(RETURNS_MAX + 100)
    w1 = Peer(world, slots=8)
    w1.window, w1.ahead = 200, 200
    w1.join()
    for _ in range(20):
        give_back(w1, "return")
    w2 = Peer(world, "w2").join()
    assert len(w2.take()) == 2


def test_pauses_double_and_are_short_again_after_a_while() -> None:
    returns, name, now_ms, pauses = Returns(), WorkerId("w1"), 1_000_000, []
    for _ in range(8):
        returns.count(name, RETURNS_MAX, now_ms)
        pauses.append(returns.paused_until_ms(name) - now_ms)
        now_ms = returns.paused_until_ms(name)
    assert pauses == [min(RETURNS_PAUSE_MS * 2**number, RETURNS_PAUSE_MS_MAX) for number in range(8)]
    now_ms += RETURNS_PAUSE_MS_MAX + 1
    returns.count(name, RETURNS_MAX, now_ms)
    assert returns.paused_until_ms(name) - now_ms == RETURNS_PAUSE_MS


def test_pause_grows_with_the_runs_given_back_at_once() -> None:
    returns = Returns()
    returns.count(WorkerId("w1"), 5 * RETURNS_MAX, 0)
    assert returns.paused_until_ms(WorkerId("w1")) == 5 * RETURNS_PAUSE_MS


def test_runs_given_back_now_and_then_cause_no_pause() -> None:
    """A long run keeps those ahead waiting once a minute, say."""
    returns = Returns()
    for minute in range(100):
        returns.count(WorkerId("w1"), RETURNS_MAX - 1, minute * (RETURNS_PAUSE_MS_MAX + 1))
    assert returns.paused_until_ms(WorkerId("w1")) == 0


# --- one turn, one line ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["shutdown", "guard_lost", "anew", "heartbeat"])
def test_runs_lost_together_are_one_line_of_the_log(world: World, caplog: pytest.LogCaptureFixture, why: str) -> None:
    world.submit(40)
    w1 = Peer(world, slots=40)
    w1.window = 40
    w1.join()
    runs = w1.take()
    for run in runs:
        w1.say(Started(s=w1.session, run=run, pid=1, at_ms=world.wall_ms))
    with caplog.at_level("INFO"):
        if why == "anew":
            w1.incarnation = "i2"
            w1.held.clear()
            w1.register()
        elif why == "heartbeat":
            w1.beat(runs=(), n=w1.n)
        else:
            w1.say(WorkerBye(s=w1.session, reason=why))
    (line,) = [one.getMessage() for one in caplog.records if "lost: " in one.getMessage()]
    assert "40 runs lost: " in line
    assert f" {runs[0]} of job " in line
    assert len(line) < 500
    world.sent_to(w1.peer)


def test_runs_whose_processes_stay_are_one_line_of_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.submit(40)
    w1 = Peer(world, slots=40)
    w1.window = 40
    w1.join()
    runs = w1.take()
    with caplog.at_level("INFO"):
        w1.beat(stuck=tuple(runs))
    (line,) = [one.getMessage() for one in caplog.records if "can't end" in one.getMessage()]
    assert "of 40 runs" in line


def test_turn_dispatches_a_bounded_number_of_bytes_and_the_next_follows(world: World) -> None:
    count, taken, turns = 400, 0, 0
    w1 = Peer(world, slots=count)
    w1.window = count
    w1.join()
    world.ask(Submit((JobSpec(name="job", command="x" * COMMAND_BYTES_MAX),) * count, TEST))
    while taken < count:
        frames = [frame for frame in world.sent_to(w1.peer) if isinstance(frame, Dispatch)]
        size = sum(len(order.command) for frame in frames for order in frame.runs)
        assert 0 < size < CLAIM_BYTES_MAX + CLAIM_RUNS_MAX * COMMAND_BYTES_MAX
        taken += sum(len(frame.runs) for frame in frames)
        turns += 1
        if taken < count:
            assert world.next_tick_ms == world.mono_ms
            world.turn()
    assert turns > 2
    assert world.next_tick_ms > world.mono_ms


def test_short_jobs_fill_a_whole_window_in_one_turn(world: World) -> None:
    w1 = Peer(world, slots=16)
    w1.window, w1.ahead = 1_024, 1_008
    w1.join()
    world.submit(2_000)
    assert sum(len(frame.runs) for frame in world.sent_to(w1.peer) if isinstance(frame, Dispatch)) == 1_024


# --- acks ------------------------------------------------------------------------------------------------------------


def test_ack_of_a_heartbeat_is_bounded_and_the_next_has_the_rest(world: World) -> None:
    w1 = Peer(world)
    w1.register()
    held = dict.fromkeys(range(1000, 1000 + ACK_RUNS_MAX + 5), "running")
    kills = []
    for _ in range(2):
        ack = w1.beat(runs=tuple(Held(run, "running") for run in held))
        kills.append(len(ack.kill))
        for run in ack.kill:
            del held[run]
    assert kills == [ACK_RUNS_MAX, 5]
