"""Dialogues while the store refuses turns: silence, rivals and the clock are judged by what really happened."""

from __future__ import annotations

from tests.unit.world import TIMEOUT_MS, Peer, Poller, World
from zsched.model.backoff import Backoff
from zsched.model.limits import RIVALS_MAX, SEEN_MS_MAX, SEEN_MS_MIN, VERDICT_PAUSE_MS
from zsched.model.types import OnDisconnect, Policy, WorkerId, WorkerStatus
from zsched.protocol import Cancel, HeartbeatAck, Held

DAY_MS = 86_400_000


def rival_of(world: World, peer: Peer) -> Peer:
    """A worker of the same name on a host that has booted since then."""
    rival = Peer(world, peer.name, connection="rival", incarnation="i9")
    rival.boot_id = "another boot"
    return rival


def test_a_rebooted_worker_gets_its_name_when_turns_have_failed(world: World) -> None:
    w1 = Peer(world).join()
    rival = rival_of(world, w1)
    for _ in range(TIMEOUT_MS // 1_000 - 1):
        world.jump(1_000)
        rival.say(rival.introduction())
        error = rival.refused()
        assert (error.code, error.fatal) == ("E_DUP", False)
        world.failing_turn()
    world.wait(1_000)
    rival.join()


def test_living_worker_keeps_its_name_when_its_frames_come_in_failed_turns(world: World) -> None:
    w1 = Peer(world).join()
    rival = rival_of(world, w1)
    rival.say(rival.introduction())
    assert rival.refused().fatal is False
    world.jump(1_000)
    world.hear_in_failing_turn(w1.peer, w1.heartbeat())
    world.sent(HeartbeatAck)
    world.jump(1_000)
    rival.say(rival.introduction())
    assert rival.refused().fatal is True


def test_a_rebooted_worker_is_not_refused_for_what_another_rival_has_seen(world: World) -> None:
    w1 = Peer(world).join()
    stranger = rival_of(world, w1)
    stranger.say(stranger.introduction())
    assert stranger.refused().fatal is False
    world.jump(1_000)
    w1.quiet_beat()
    world.jump(1_000)
    rebooted = rival_of(world, w1)
    rebooted.peer, rebooted.incarnation = b"rebooted", "i10"
    for _ in range(3):
        world.jump(1_000)
        rebooted.say(rebooted.introduction())
        assert rebooted.refused().fatal is False
    stranger.say(stranger.introduction())
    assert stranger.refused().fatal is True


def test_rivals_are_remembered_up_to_a_bound(world: World) -> None:
    w1 = Peer(world).join()
    for number in range(RIVALS_MAX + 1):
        rival = Peer(world, "w1", connection=f"c{number}", incarnation=f"r{number}")
        rival.boot_id = "another boot"
        rival.say(rival.introduction())
        assert rival.refused().fatal is False
    session = world.dispatcher._sessions.of_worker(WorkerId("w1"))
    assert session is not None
    assert set(session.rivals) == {f"r{RIVALS_MAX}"}
    assert w1.session == session.token


def test_silence_is_judged_although_every_other_turn_fails(world: World) -> None:
    Peer(world).join()
    start_ms = world.mono_ms
    while world.worker("w1").status is WorkerStatus.ACTIVE and world.mono_ms < start_ms + 3 * TIMEOUT_MS:
        world.jump(500)
        world.failing_turn()
        world.jump(500)
        world.turn()
    assert TIMEOUT_MS <= world.mono_ms - start_ms <= TIMEOUT_MS + 2_000


def test_silent_worker_is_lost_within_a_second_of_the_first_stored_turn(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    w1.start(w1.take_one())
    for _ in range(TIMEOUT_MS // 1_000 + 5):
        world.jump(1_000)
        world.failing_turn()
    assert world.states(job_id) == ["running"]
    world.wait(1_000)
    assert world.states(job_id) == ["failed/worker_lost", "pending"]


def test_a_worker_is_not_lost_when_all_it_says_comes_in_turns_that_fail(world: World) -> None:
    w1 = Peer(world).join()
    r1 = Poller(world).register()
    for _ in range(TIMEOUT_MS // 1_000 + 5):
        world.jump(1_000)
        world.hear_in_failing_turn(w1.peer, w1.heartbeat())
        world.sent(HeartbeatAck)
        world.ask_in_failing_turn(r1.beat_command())
    # Verdicts pause after turns that failed with one.
    world.wait(VERDICT_PAUSE_MS)
    assert (world.worker("w1").status, world.worker("r1").status) == (WorkerStatus.ACTIVE, WorkerStatus.ACTIVE)


def test_worker_that_can_only_register_is_not_lost_while_the_store_fails(world: World) -> None:
    w1 = Peer(world).join()
    for _ in range(TIMEOUT_MS // 1_000 + 5):
        world.jump(1_000)
        world.hear_in_failing_turn(b"another connection", w1.introduction())
    world.turn()
    assert world.worker("w1").status is WorkerStatus.ACTIVE


def test_frames_read_before_a_rival_asked_do_not_count_as_heard_later(world: World) -> None:
    """The turn is given up between the rival's register and the frames of the dead worker that lay beside it."""
    w1 = Peer(world).join()
    last_words = w1.heartbeat()
    rival = rival_of(world, w1)
    world.jump(1_000)
    world.read((rival.peer, rival.introduction()), (w1.peer, last_words))
    world.turn(lambda: world.dispatcher.on_frame(rival.peer, rival.introduction(), world.now))
    assert rival.refused().fatal is False
    world.jump(100)
    world.turn(lambda: world.dispatcher.on_frame(w1.peer, last_words, world.now))
    world.sent_to(w1.peer)
    world.jump(1_000)
    rival.say(rival.introduction())
    assert rival.refused().fatal is False


def test_frames_unread_while_a_rival_asked_do_not_count_as_heard_later(world: World) -> None:
    w1 = Peer(world).join()
    rival = rival_of(world, w1)
    world.jump(1_000)
    world.hear(rival.peer, rival.introduction(), drained=False)
    assert rival.refused().fatal is False
    world.jump(100)
    world.hear(w1.peer, w1.heartbeat(), drained=False)
    world.jump(100)
    world.hear(w1.peer, w1.heartbeat())
    world.sent_to(w1.peer)
    rival.say(rival.introduction())
    assert rival.refused().fatal is False
    world.jump(1_000)
    w1.beat()
    rival.say(rival.introduction())
    assert rival.refused().fatal is True


def test_wait_for_a_locked_store_does_not_count_as_a_stall(world: World) -> None:
    """Frames are read meanwhile, and heard at the next look."""
    Peer(world).join()
    start_ms = world.mono_ms
    while world.worker("w1").status is WorkerStatus.ACTIVE and world.mono_ms < start_ms + 3 * TIMEOUT_MS:
        world.failing_turn(waited_ms=5_000)
        world.jump(100)
        world.turn()
    assert world.mono_ms - start_ms <= TIMEOUT_MS + 5_100


def test_a_jump_of_the_clock_in_a_turn_that_fails_is_made_good_in_the_next(world: World) -> None:
    backoff = Backoff(initial_ms=20_000, factor=1, jitter=0)
    job_id = world.submit_one(policy=Policy(retries=1, backoff=backoff))
    w1 = Peer(world).join()
    run_id = w1.take_one()
    w1.start(run_id)
    w1.finish(run_id, 1)
    world.wall_ms -= DAY_MS
    world.failing_turn()
    world.wait(19_000, w1)
    assert w1.take() == []
    world.wait(1_500, w1)
    assert len(w1.take()) == 1, world.states(job_id)


def test_a_jump_of_the_clock_moves_nothing_that_its_own_turn_makes(world: World) -> None:
    backoff = Backoff(initial_ms=20_000, factor=1, jitter=0)
    job_id = world.submit_one(policy=Policy(retries=1, backoff=backoff))
    w1 = Peer(world).join()
    run_id = w1.take_one()
    w1.start(run_id)
    world.wall_ms += DAY_MS
    w1.finish(run_id, 1)
    world.wait(19_000, w1)
    assert w1.take() == []
    world.wait(1_500, w1)
    assert len(w1.take()) == 1, world.states(job_id)


# --- heartbeats ------------------------------------------------------------------------------------------------------


def stopping() -> Policy:
    return Policy(on_disconnect=OnDisconnect.STOP)


def test_a_heartbeat_that_says_nothing_new_is_acked_without_a_write(world: World) -> None:
    w1 = Peer(world)
    w1.can = ("stop",)
    w1.join()
    r1 = Poller(world).register()
    world.submit_one(policy=stopping())
    w1.start(w1.take_one())
    world.jump(1_000)
    before = world.engine.changes()
    w1.quiet_beat()
    r1.beat()
    assert world.engine.changes() == before


def test_a_heartbeat_is_acked_though_its_turn_fails(world: World) -> None:
    w1 = Peer(world).join()
    world.submit_one()
    kept = w1.take_one()
    w1.start(kept)
    cancelled = world.submit_one()
    w1.start(w1.take_one())
    world.cancel(cancelled)
    world.sent(Cancel)
    world.hear_in_failing_turn(w1.peer, w1.heartbeat(runs=(*w1.listed(), Held(99, "running"), Held(98, "finished"))))
    ack = world.sent(HeartbeatAck)
    assert (ack.seq, ack.kill, ack.cancel) == (w1.seq, (99,), (2,))


def test_what_a_heartbeat_has_to_store_is_stored_by_a_later_one(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    run_id = w1.take_one()
    w1.held = {}
    world.hear_in_failing_turn(w1.peer, w1.heartbeat(window=0))
    world.sent(HeartbeatAck)
    assert world.states(job_id) == ["running"]
    w1.held = {run_id: "running"}
    world.hear_in_failing_turn(w1.peer, w1.heartbeat(window=0))
    world.sent(HeartbeatAck)
    assert world.run(run_id).started_ms is None
    w1.beat(window=0)
    assert world.run(run_id).started_ms is not None


def test_a_stuck_run_is_not_acked_before_it_is_stored(world: World) -> None:
    w1 = Peer(world).join()
    world.submit_one()
    run_id = w1.take_one()
    w1.start(run_id)
    world.hear_in_failing_turn(w1.peer, w1.heartbeat(stuck=(run_id,), window=0))
    world.sent()
    w1.beat(stuck=(run_id,), window=0)
    world.hear_in_failing_turn(w1.peer, w1.heartbeat(stuck=(run_id,), window=0))
    world.sent(HeartbeatAck)


def test_a_heartbeat_of_a_session_that_the_rollback_undid_is_not_acked(world: World) -> None:
    w1 = Peer(world).join()
    again = w1.again()
    world.failing_turn(lambda: world.dispatcher.on_frame(again.peer, again.introduction(), world.now))
    again.session = "s2"
    world.hear_in_failing_turn(again.peer, again.heartbeat())
    world.sent()
    w1.quiet_beat()


# --- last seen -------------------------------------------------------------------------------------------------------


def test_a_worker_is_seen_when_it_registers(world: World) -> None:
    Peer(world).register()
    assert world.dispatcher.seen_ms(WorkerId("w1")) == world.wall_ms
    Poller(world).register()
    assert world.dispatcher.seen_ms(WorkerId("r1")) == world.wall_ms


def test_readers_see_when_a_worker_was_heard_also_while_it_is_not_stored(world: World) -> None:
    w1 = Peer(world).join()
    joined_ms = world.wall_ms
    world.wait(20_000, w1)
    assert world.dispatcher.seen_ms(WorkerId("w1")) == world.wall_ms
    assert world.worker("w1").last_seen_ms == joined_ms
    heard_ms = world.wall_ms
    world.wait(TIMEOUT_MS + 1_000)
    assert world.dispatcher.seen_ms(WorkerId("w1")) is None
    assert (world.worker("w1").status, world.worker("w1").last_seen_ms) == (WorkerStatus.INACTIVE, heard_ms)


def test_last_seen_is_stored_with_other_writes_and_otherwise_rarely(world: World) -> None:
    w1 = Peer(world).join()
    world.wait(SEEN_MS_MIN, w1)
    world.submit_one()
    assert world.worker("w1").last_seen_ms == world.wall_ms
    w1.finish(w1.take_one())
    world.jump(1_000)
    w1.quiet_beat()
    world.submit_one()
    assert world.worker("w1").last_seen_ms == world.wall_ms - 1_000
    w1.finish(w1.take_one())
    before = world.engine.changes()
    world.wait(SEEN_MS_MAX - 2_000, w1)
    assert world.engine.changes() == before
    world.wait(2_000, w1)
    assert world.engine.changes() == before + 1


def test_after_a_restart_a_worker_was_seen_when_it_was_heard_before(world: World) -> None:
    w1 = Peer(world).join()
    world.wait(5_000, w1)
    heard_ms = world.wall_ms
    world.turn(world.dispatcher.store_seen)
    world.jump(7_000)
    world.restart()
    assert world.dispatcher.seen_ms(WorkerId("w1")) == heard_ms
    world.wait(TIMEOUT_MS + 1_000)
    assert world.worker("w1").last_seen_ms == heard_ms
