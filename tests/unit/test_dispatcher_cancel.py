"""Dialogues about cancels: decided once, and not undone by what happens to the worker."""

from __future__ import annotations

import pytest

from tests.contract.base import traced
from tests.unit.world import TEST, TIMEOUT_MS, Peer, Poller, World
from zsched.model.arrays import read_array
from zsched.model.types import JobId, JobSpec, RunStatus
from zsched.protocol import Cancel, Return, WorkerBye
from zsched.scheduler.dispatcher.commands import ConflictError, Made, NotFoundError, Submit


def test_a_pending_job_never_runs(world: World) -> None:
    job_id = world.submit_one()
    world.cancel(job_id)
    assert Peer(world).join().take() == []
    assert world.states(job_id) == ["cancelled/cancelled"]
    assert world.job(job_id).status == RunStatus.CANCELLED


def test_running_job_is_asked_to_stop_until_its_result_comes(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    run_id = w1.take_one()
    world.cancel(job_id)
    assert world.sent(Cancel).runs == (run_id,)
    assert w1.beat().cancel == (run_id,)
    assert w1.beat().cancel == (run_id,)
    assert world.job(job_id).status == RunStatus.RUNNING
    assert w1.finish(run_id) == "stored"
    assert w1.beat().cancel == ()
    assert world.states(job_id) == ["cancelled/cancelled"]


def test_a_cancelled_runs_result_again_is_a_duplicate(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    run_id = w1.take_one()
    world.cancel(job_id)
    world.sent(Cancel)
    w1.finish(run_id)
    assert w1.finish(run_id) == "duplicate"


def test_a_cancelled_job_does_not_rise_from_its_workers_death(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    w1.start(w1.take_one())
    world.cancel(job_id)
    world.sent(Cancel)
    world.wait(TIMEOUT_MS)
    assert world.states(job_id) == ["cancelled/cancelled"]
    assert Peer(world, "w2").join().take() == []


@pytest.mark.parametrize("way", ["return", "bye", "missing", "unreachable"])
def test_a_cancelled_run_that_comes_back_unstarted_is_cancelled(world: World, way: str) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    (frame,) = world.sent_to(w1.peer)
    run_id = world.runs(job_id)[-1].run_id
    world.cancel(job_id)
    world.sent(Cancel)
    if way == "return":
        w1.say(Return(s=w1.session, runs=(run_id,)))
    elif way == "bye":
        w1.say(WorkerBye(s=w1.session, reason="stop"))
    elif way == "missing":
        w1.beat(n=9)
    else:
        world.turn(lambda: world.dispatcher.on_unreachable(w1.peer, frame, world.now))
    assert world.states(job_id) == ["cancelled/cancelled"]


def test_a_cancel_stands_through_a_restart(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    run_id = w1.take_one()
    world.cancel(job_id)
    world.sent(Cancel)
    world.restart()
    w1.register()
    assert w1.beat().cancel == (run_id,)


def test_cancel_during_an_absence_reaches_the_worker_when_it_returns(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    run_id = w1.take_one()
    world.restart()
    world.cancel(job_id)
    world.sent()
    w1.register()
    assert w1.beat().cancel == (run_id,)


def test_a_cancel_after_the_end_changes_nothing_and_says_so(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    w1.finish(w1.take_one())
    with pytest.raises(ConflictError) as refused:
        world.cancel(job_id)
    assert refused.value.code == "finished"
    assert world.job(job_id).status == RunStatus.SUCCESS


def test_a_cancel_of_an_unknown_job_says_so(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.cancel(JobId(99))


def test_a_run_of_a_rest_worker_ends_at_once(world: World) -> None:
    r1 = Poller(world).register()
    job_id = world.submit_one()
    r1.next_run()
    world.cancel(job_id)
    assert world.states(job_id) == ["cancelled/cancelled"]
    with pytest.raises(ConflictError):
        r1.report(job_id, RunStatus.SUCCESS, 0)
    assert r1.next() is None


def test_a_cancel_frees_the_slot_of_a_rest_worker(world: World) -> None:
    r1 = Poller(world).register()
    job_id = world.submit_one()
    r1.next_run()
    r1.report(job_id, RunStatus.RUNNING)
    world.cancel(job_id)
    other = world.submit_one()
    assert r1.next_run().job_id == other


def test_a_lost_run_that_waits_for_its_next_try_can_be_cancelled(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    w1.start(w1.take_one())
    world.wait(TIMEOUT_MS)
    world.cancel(job_id)
    assert world.states(job_id) == ["failed/worker_lost", "cancelled/cancelled"]
    assert world.job(job_id).status == RunStatus.CANCELLED


def test_a_cancel_of_an_ended_array_does_not_read_its_runs(world: World) -> None:
    w1 = Peer(world, slots=2).join()
    made = world.ask(Submit((JobSpec(name="array", command="true", array=read_array("0-1")),), TEST))
    assert isinstance(made, Made)
    for run_id in w1.take():
        w1.finish(run_id)
    with traced(world.engine) as statements, pytest.raises(ConflictError) as refused:
        world.cancel(made.ids[0])
    assert refused.value.code == "finished"
    assert not [text for text in statements if "UPDATE runs" in text]
