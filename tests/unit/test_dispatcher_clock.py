"""Dialogues about clocks that jump, a store that refuses, and workers whose words are out of bounds."""

from __future__ import annotations

from tests.unit.world import TIMEOUT_MS, Peer, Poller, World
from zsched.model.limits import CLOCK_AHEAD_MS_MAX, GRACE_MS_DEFAULT
from zsched.model.types import RunStatus
from zsched.protocol import Held, Output, Ready, Result, ResultAck, RunResult, Started

DAY_MS = 86_400_000


def test_a_day_forward_ends_no_run_before_its_time(world: World) -> None:
    r1 = Poller(world).register()
    (job_id,) = world.submit(timeout_ms=20_000)
    r1.next_run()
    r1.report(job_id, RunStatus.RUNNING)
    world.wall_ms += DAY_MS
    world.wait(15_000, r1)
    assert world.states(job_id) == ["running"]
    world.wait(5_000 + GRACE_MS_DEFAULT, r1)
    assert world.states(job_id) == ["failed/timeout"]


def test_a_day_back_holds_back_no_run_for_longer(world: World) -> None:
    job_id = world.submit_one()
    # The second loss makes its successor wait.
    for name in ("w1", "w2"):
        worker = Peer(world, name).join()
        worker.start(worker.take_one())
        world.wait(TIMEOUT_MS)
    assert world.states(job_id)[-1] == "pending"
    w3 = Peer(world, "w3").join()
    assert w3.take() == []
    world.wall_ms -= DAY_MS
    world.wait(2_000, w3)
    assert len(w3.take()) == 1


def test_a_run_that_is_adopted_and_then_not_held_is_missing(world: World) -> None:
    w1 = Peer(world).join()
    for _ in range(3):
        world.submit_one()
        w1.finish(w1.take_one())
    job_id = world.submit_one()
    run_id = w1.take_one()
    assert w1.n > 1
    w1.held = {run_id: "waiting"}
    w1.register()
    w1.held = {}
    w1.n = 0
    w1.beat(window=0)
    assert world.states(job_id) == ["pending/returned"]


def test_times_of_a_worker_without_a_clock_are_cut_to_tomorrow(world: World) -> None:
    w1 = Peer(world).join()
    world.submit_one()
    run_id = w1.take_one()
    w1.say(Started(s=w1.session, run=run_id, pid=1, at_ms=2**53))
    w1.say(Result(s=w1.session, results=(RunResult(run_id, "success", "exit", 2**53, started_ms=2**53, exit_code=0),)))
    world.sent(ResultAck)
    run = world.run(run_id)
    assert run.finished_ms == run.started_ms == world.wall_ms + CLOCK_AHEAD_MS_MAX


def test_a_result_that_contradicts_itself_is_made_to_agree(world: World) -> None:
    w1 = Peer(world).join()
    world.submit_one()
    run_id = w1.take_one()
    told = RunResult(
        run_id, "success", "exit", finished_ms=1_000, started_ms=2_000, exit_code=7, stdout=Output(b"head", b"tail", 3)
    )
    w1.say(Result(s=w1.session, results=(told,)))
    world.sent(ResultAck)
    run = world.run(run_id)
    assert (run.status, run.started_ms, run.finished_ms) == (RunStatus.FAILED, 1_000, 1_000)
    assert world.engine.execute("SELECT stdout_total FROM outputs") == [(8,)]


def test_windows_beyond_all_bounds_are_cut(world: World) -> None:
    # So many that together they want more than 2^63 runs, and fewer slots than jobs.
    workers = [Peer(world, f"w{number}") for number in range(1_025)]
    for worker in workers:
        worker.register()
        worker.say(Ready(s=worker.session, window=2**53, ahead=2**53))
    world.submit(2_100)
    assert sum(len(worker.take()) for worker in workers) == 2_100


def test_a_list_with_the_same_run_twice_is_one_run(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    run_id = w1.take_one()
    ack = w1.beat(runs=(Held(run_id, "running"), Held(run_id, "running"), Held(99, "running"), Held(99, "running")))
    assert set(ack.kill) == {99}
    assert world.states(job_id) == ["running"]
