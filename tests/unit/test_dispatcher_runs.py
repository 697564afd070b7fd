"""Dialogues about runs: who gets which, what a heartbeat heals, and what becomes of results."""

from __future__ import annotations

import pytest

from tests.unit.world import TIMEOUT_MS, Peer, World
from zsched import protocol
from zsched.model.types import OnLost, Policy, RunStatus
from zsched.protocol import Error, HeartbeatAck, Registered, Result, ResultAck, Return


def test_worker_registers_and_gets_the_settings_of_its_session(world: World) -> None:
    w1 = Peer(world)
    answer = w1.register()
    assert answer == Registered(
        s="s1", ep=1, db=world.store.identity, heartbeat_ms=TIMEOUT_MS // 3, timeout_ms=TIMEOUT_MS
    )
    stored = world.worker("w1")
    assert (stored.status, stored.kind, stored.slots, stored.lock) == ("active", "zmq", 2, (1, 2))


def test_a_worker_that_speaks_more_often_than_needed_keeps_its_interval(world: World) -> None:
    w1 = Peer(world)
    w1.heartbeat_ms = 500
    assert w1.register().heartbeat_ms == 500


def test_a_submitted_job_is_sent_in_the_same_turn_and_ends_with_its_result(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one("echo hello", timeout_ms=5_000)
    run_id = w1.take_one()
    order = w1.orders[run_id]
    assert (order.job, order.command, order.attempt, order.timeout_ms) == (job_id, "echo hello", 1, 5_000)
    assert world.job(job_id).status == RunStatus.RUNNING
    w1.start(run_id)
    assert w1.finish(run_id) == "stored"
    assert world.states(job_id) == ["success/exit"]
    assert world.job(job_id).status == RunStatus.SUCCESS


def test_a_waiting_job_is_sent_when_a_worker_gets_ready(world: World) -> None:
    job_id = world.submit_one()
    w1 = Peer(world)
    w1.register()
    assert w1.take() == []
    w1.ready()
    assert world.run(w1.take_one()).job_id == job_id


def test_a_worker_gets_no_more_than_its_slots(world: World) -> None:
    w1 = Peer(world, slots=3).join()
    world.submit(5)
    first, *_ = got = w1.take()
    assert len(got) == 3
    w1.finish(first)
    assert len(w1.take()) == 1


def test_a_worker_gets_no_more_than_its_window(world: World) -> None:
    w1 = Peer(world, slots=3)
    w1.register()
    w1.ready(window=2)
    world.submit(5)
    assert len(w1.take()) == 2


def test_a_window_of_nothing_is_a_drain(world: World) -> None:
    w1 = Peer(world).join()
    w1.ready(window=0)
    world.submit(3)
    assert w1.take() == []


def test_runs_go_ahead_only_as_asked(world: World) -> None:
    w1 = Peer(world, slots=2)
    w1.register()
    w1.ready(ahead=3)
    world.submit(9)
    assert len(w1.take()) == 5


def test_the_window_bounds_runs_ahead_too(world: World) -> None:
    w1 = Peer(world, slots=2)
    w1.register()
    w1.ready(window=3, ahead=9)
    world.submit(9)
    assert len(w1.take()) == 3


def test_the_store_counts_what_a_worker_holds_when_frames_cross(world: World) -> None:
    w1 = Peer(world).join()
    world.submit(2)
    held = w1.take()
    world.submit(2)
    # This was said before the run frame came: it holds nothing and wants as much as ever.
    w1.say(protocol.Ready(s=w1.session, window=20, ahead=0))
    assert w1.take() == []
    w1.finish(held[0])
    assert len(w1.take()) == 1


def test_jobs_spread_evenly_over_workers_alike(world: World) -> None:
    workers = [Peer(world, name, slots=8).join() for name in ("w1", "w2", "w3")]
    world.submit(9)
    assert [len(worker.take()) for worker in workers] == [3, 3, 3]


def test_the_worker_with_most_room_is_served_first(world: World) -> None:
    small, large = Peer(world, "small", slots=1).join(), Peer(world, "large", slots=4).join()
    world.submit_one()
    assert len(large.take()) == 1
    world.submit(4)
    assert (len(small.take()), len(large.take())) == (1, 3)


def test_free_slots_are_filled_before_anything_goes_ahead(world: World) -> None:
    greedy, plain = Peer(world, "greedy"), Peer(world, "plain")
    for worker in (greedy, plain):
        worker.register()
    greedy.ready(ahead=10)
    plain.ready()
    world.submit(4)
    assert (len(greedy.take()), len(plain.take())) == (2, 2)
    world.submit(2)
    assert (len(greedy.take()), len(plain.take())) == (2, 0)


def test_better_priority_goes_first_whatever_its_age(world: World) -> None:
    low, high = world.submit(2)
    world.by_hand("UPDATE runs SET priority = 5 WHERE job_id = ?", high)
    w1 = Peer(world, slots=1).join()
    first = w1.take_one()
    assert world.run(first).job_id == high
    w1.finish(first)
    assert world.run(w1.take_one()).job_id == low


def test_demand_does_not_place_lesser_runs_before_better_ones_of_another(world: World) -> None:
    best, worst, between = world.submit(3)
    world.by_hand("UPDATE runs SET priority = CASE job_id WHEN ? THEN 9 WHEN ? THEN 0 ELSE 5 END", best, worst)
    world.by_hand("INSERT INTO demands (wish) VALUES (?)", '{"needs":["env"],"probation":false}')
    world.by_hand("UPDATE runs SET demand_id = (SELECT max(demand_id) FROM demands) WHERE job_id = ?", between)
    w1 = Peer(world, slots=2)
    w1.can = ("env",)
    w1.join()
    assert [world.run(run_id).job_id for run_id in w1.take()] == [best, between]


def test_more_runs_than_one_statement_claims_are_all_sent(world: World) -> None:
    w1 = Peer(world, slots=150)
    w1.register()
    w1.ready(window=150)
    world.submit(150)
    assert len(w1.take()) == 150


# --- heartbeats ---


def test_a_heartbeat_is_acked_and_lets_the_worker_go_on(world: World) -> None:
    w1 = Peer(world).join()
    world.submit_one()
    w1.start(w1.take_one())
    assert w1.beat() == HeartbeatAck(s=w1.session, ep=1, seq=1)


def test_run_seen_in_a_frame_but_not_listed_is_missing_and_pending_again(world: World) -> None:
    w1, job_id = Peer(world).join(), world.submit_one()
    lost = w1.take_one()
    w1.held.clear()
    w1.beat(window=0)
    assert world.states(job_id) == ["pending/returned"]
    assert world.run(lost).attempt == 1
    w1.ready()
    assert w1.take_one() == lost


def test_a_run_in_a_frame_that_is_still_on_its_way_is_not_missing(world: World) -> None:
    w1, job_id = Peer(world).join(), world.submit_one()
    w1.take()
    w1.beat(n=0, runs=())
    assert world.states(job_id) == ["running"]


def test_a_started_run_that_is_missing_is_lost_without_blame(world: World) -> None:
    w1, job_id = Peer(world).join(), world.submit_one()
    run_id = w1.take_one()
    w1.start(run_id)
    w1.held.clear()
    w1.beat(window=0)
    assert world.states(job_id) == ["failed/worker_lost", "pending"]
    last = world.runs(job_id)[-1]
    assert (last.attempt, last.crashes) == (2, 0)


def test_a_heartbeat_tells_of_a_start_that_was_not_heard(world: World) -> None:
    w1 = Peer(world).join()
    world.submit_one()
    run_id = w1.take_one()
    w1.held[run_id] = "running"
    w1.beat()
    assert world.run(run_id).started_ms == world.wall_ms


def test_worker_is_asked_to_kill_runs_of_others(world: World) -> None:
    w1, w2 = Peer(world, "w1").join(), Peer(world, "w2")
    world.submit_one()
    theirs = w1.take_one()
    w2.register()
    w2.held = {theirs: "running", 99: "waiting"}
    assert w2.beat().kill == (theirs, 99)
    assert world.run(theirs).worker_id == "w1"


def test_a_finished_run_is_not_killed_but_its_result_waited_for(world: World) -> None:
    w1 = Peer(world).join()
    w1.held = {99: "finished"}
    assert w1.beat().kill == ()


# --- results ---


def test_a_result_counts_once_and_is_acked_again(world: World) -> None:
    w1, job_id = Peer(world).join(), world.submit_one()
    run_id = w1.take_one()
    assert w1.finish(run_id, exit_code=3) == "stored"
    assert w1.finish(run_id, exit_code=3) == "duplicate"
    assert world.run(run_id).exit_code == 3
    assert world.states(job_id) == ["failed/exit"]


def test_a_result_of_an_unknown_run_is_acked_so_that_the_worker_forgets_it(world: World) -> None:
    assert Peer(world).join().finish(99) == "unknown"


def test_a_result_from_a_lost_run_is_refused_and_leaves_an_event(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    run_id = w1.take_one()
    w1.start(run_id)
    world.wait(TIMEOUT_MS)
    w2 = Peer(world, "w2").join()
    winner = w2.take_one()
    back = w1.again(incarnation="i1")
    back.held[run_id] = "finished"
    assert back.register().kill == ()
    assert back.finish(run_id) == "stale"
    assert world.states(job_id) == ["failed/worker_lost", "running"]
    assert [reason for _, reason, _ in world.events("failed")][-1] == "stale"
    assert w2.finish(winner) == "stored"
    assert world.job(job_id).status == RunStatus.SUCCESS


def test_results_of_one_frame_are_acked_together(world: World) -> None:
    w1 = Peer(world).join()
    world.submit(2)
    one, two = w1.take()
    w1.say(Result(s=w1.session, results=(w1.result(one), w1.result(two, 1), w1.result(99))))
    ack = world.sent(ResultAck)
    assert ack.verdicts == ((one, "stored"), (two, "stored"), (99, "unknown"))


def test_output_is_cut_to_the_bound_whatever_a_worker_sends(world: World) -> None:
    w1 = Peer(world).join()
    world.submit_one()
    run_id = w1.take_one()
    much = b"x" * 300 * 1024
    output = protocol.Output(head=much, tail=much, total=5 * len(much))
    result = protocol.RunResult(run=run_id, status="success", reason="exit", exit_code=0, finished_ms=1, stdout=output)
    w1.say(Result(s=w1.session, results=(result,)))
    world.sent(ResultAck)
    ((head, tail, total),) = world.engine.execute(
        "SELECT length(stdout_head), length(stdout_tail), stdout_total FROM outputs"
    )
    assert (head, tail, total) == (128 * 1024, 128 * 1024, 5 * len(much))


# --- runs that come back ---


def test_a_run_handed_back_is_pending_without_an_attempt(world: World) -> None:
    w1 = Peer(world, slots=1).join()
    job_id = world.submit_one()
    run_id = w1.take_one()
    world.hear(w1.peer, protocol.Ready(s=w1.session, window=0, ahead=0), Return(s=w1.session, runs=(run_id,)))
    assert world.states(job_id) == ["pending/returned"]
    assert world.run(run_id).attempt == 1
    w1.ready()
    assert w1.take_one() == run_id


def test_return_of_the_run_of_another_worker_is_ignored(world: World) -> None:
    w1, w2 = Peer(world, "w1").join(), Peer(world, "w2").join()
    world.submit_one()
    run_id = w1.take_one()
    w2.say(Return(s=w2.session, runs=(run_id, 99)))
    assert world.run(run_id).worker_id == "w1"


def test_run_whose_frame_could_not_be_sent_is_pending_and_goes_elsewhere(world: World) -> None:
    w1 = Peer(world, "w1", slots=4).join()
    w2 = Peer(world, "w2", slots=1).join()
    job_id = world.submit_one()
    (frame,) = world.sent_to(w1.peer)

    world.turn(lambda: world.dispatcher.on_unreachable(w1.peer, frame, world.now))
    run_id = w2.take_one()
    run = world.run(run_id)
    assert (run.job_id, run.attempt, run.crashes) == (job_id, 1, 0)


def test_an_unreachable_worker_gets_nothing_until_it_speaks(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    (frame,) = world.sent_to(w1.peer)
    world.turn(lambda: world.dispatcher.on_unreachable(w1.peer, frame, world.now))
    assert world.states(job_id) == ["pending/undelivered"]
    world.turn()
    assert w1.take() == []
    w1.beat()
    assert w1.take() != []


def test_a_lost_ack_puts_nothing_back(world: World) -> None:
    w1 = Peer(world).join()
    world.submit_one()
    run_id = w1.take_one()
    ack = HeartbeatAck(s=w1.session, ep=1, seq=1)
    world.turn(lambda: world.dispatcher.on_unreachable(w1.peer, ack, world.now))
    assert world.run(run_id).status == RunStatus.RUNNING


# --- damage ---


def test_damaged_job_fails_with_its_reason_and_stops_nothing_else(world: World) -> None:
    bad, good = world.submit(2)
    world.by_hand("UPDATE jobs SET command = '' WHERE job_id = ?", bad)
    w1 = Peer(world).join()
    assert world.run(w1.take_one()).job_id == good
    assert world.states(bad) == ["failed/quarantined"]
    assert world.job(bad).status == RunStatus.FAILED


def test_many_damaged_jobs_stop_nothing_else(world: World) -> None:
    *bad, good = world.submit(9)
    world.by_hand("UPDATE jobs SET command = CAST(x'ff' AS TEXT) WHERE job_id < ?", good)
    w1 = Peer(world).join()
    world.wait(5_000)
    assert [world.run(run_id).job_id for run_id in w1.take()] == [good]
    assert {world.states(job_id)[0] for job_id in bad} == {"failed/quarantined"}


@pytest.mark.parametrize("damage", ["nonsense", "[]", "{}", "null", '{"needs": 1, "probation": false}'])
def test_demand_that_cannot_be_read_stops_nothing_else(world: World, damage: str) -> None:
    bad, worse = world.submit(2, policy=Policy(on_lost=OnLost.FAIL))
    good = world.submit_one()
    world.by_hand("UPDATE demands SET wish = ? WHERE wish LIKE '%once%'", damage)
    world.restart()
    world.store.rollback()
    w1 = Peer(world).join()
    assert [world.run(run_id).job_id for run_id in w1.take()] == [good]
    assert world.states(bad) == world.states(worse) == ["failed/quarantined"]
    assert world.job(bad).status == RunStatus.FAILED


@pytest.mark.parametrize("column", ["can", "labels"])
def test_worker_whose_row_is_damaged_stops_no_scheduler(world: World, column: str) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    w1.take_one()
    world.by_hand(f"UPDATE workers SET {column} = 'nonsense'")
    world.restart()
    world.wait(TIMEOUT_MS)
    assert world.states(job_id) == ["failed/worker_lost", "pending"]
    assert world.worker("w1").status == "inactive"


@pytest.mark.parametrize("column", ["env", "secret_env", "backoff", "on_lost", "on_disconnect"])
def test_job_whose_row_is_damaged_can_be_shown_and_cancelled(world: World, column: str) -> None:
    job_id = world.submit_one()
    world.by_hand(f"UPDATE jobs SET {column} = 'nonsense'")
    assert world.job(job_id).name == "job"
    world.cancel(job_id)
    assert world.states(job_id) == ["cancelled/cancelled"]


def test_garbage_is_answered_at_most_once_a_second_and_changes_nothing(world: World) -> None:
    def garbage() -> None:
        world.turn(lambda: world.dispatcher.on_garbage(b"x", "not a msgpack map", world.now))

    garbage()
    assert world.sent(Error) == Error(code="E_BAD", fatal=False, detail="not a msgpack map")
    garbage()
    world.wait(999)
    garbage()
    world.sent()
    world.wait(1)
    garbage()
    world.sent(Error)


@pytest.mark.parametrize("count", [0, 1])
def test_the_next_tick_is_the_first_thing_due(world: World, count: int) -> None:
    for _ in range(count):
        Peer(world).join()
    world.turn()
    assert world.next_tick_ms == world.mono_ms + 1_000
