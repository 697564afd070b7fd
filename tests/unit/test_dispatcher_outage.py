"""Dialogues while the store refuses turns: silence, rivals and the clock are judged by what really happened."""

from __future__ import annotations

from tests.unit.world import TIMEOUT_MS, Peer, Poller, World
from zsched.model import Backoff, Policy, WorkerStatus

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


def test_a_living_worker_keeps_its_name_when_its_words_come_in_turns_that_fail(world: World) -> None:
    w1 = Peer(world).join()
    rival = rival_of(world, w1)
    rival.say(rival.introduction())
    assert rival.refused().fatal is False
    world.jump(1_000)
    world.hear_in_failing_turn(w1.peer, w1.heartbeat())
    world.jump(1_000)
    rival.say(rival.introduction())
    assert rival.refused().fatal is True


def test_silence_is_judged_although_every_other_turn_fails(world: World) -> None:
    Peer(world).join()
    start_ms = world.mono_ms
    while world.worker("w1").status is WorkerStatus.ACTIVE and world.mono_ms < start_ms + 3 * TIMEOUT_MS:
        world.jump(500)
        world.failing_turn()
        world.jump(500)
        world.turn()
    assert TIMEOUT_MS <= world.mono_ms - start_ms <= TIMEOUT_MS + 2_000


def test_a_silent_worker_is_given_up_within_a_second_of_the_first_turn_that_can_be_stored(world: World) -> None:
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
        world.ask_in_failing_turn(r1.beat_command())
    world.turn()
    assert (world.worker("w1").status, world.worker("r1").status) == (WorkerStatus.ACTIVE, WorkerStatus.ACTIVE)


def test_a_worker_that_can_only_register_is_not_lost_when_that_cannot_be_stored(world: World) -> None:
    w1 = Peer(world).join()
    for _ in range(TIMEOUT_MS // 1_000 + 5):
        world.jump(1_000)
        world.hear_in_failing_turn(b"another connection", w1.introduction())
    world.turn()
    assert world.worker("w1").status is WorkerStatus.ACTIVE


def test_what_was_read_before_a_rival_asked_is_no_later_sign_of_life(world: World) -> None:
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


def test_frames_that_lay_unread_while_a_rival_asked_are_no_later_sign_of_life(world: World) -> None:
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


def test_waiting_for_a_locked_store_is_no_standing_still(world: World) -> None:
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
