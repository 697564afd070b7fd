"""Dialogues about retries that prefer another worker than the one on which their task has failed."""

from __future__ import annotations

from tests.unit.world import TEST, Peer, Poller, World
from zsched.model.backoff import Backoff
from zsched.model.limits import AVOID_MS, AVOIDING_RUNS_MAX
from zsched.model.types import JobId, JobSpec, Policy
from zsched.protocol import WorkerBye
from zsched.scheduler.dispatcher.commands import Made, Submit
from zsched.scheduler.dispatcher.why import why

AGAIN = Policy(retries=9, backoff=Backoff(initial_ms=0))


def submit(world: World, count: int = 1, **fields: object) -> list[JobId]:
    spec = JobSpec(name="job", command="true", policy=AGAIN, **fields)  # type: ignore[arg-type]  # of JobSpec
    reply = world.ask(Submit((spec,) * count, TEST))
    assert isinstance(reply, Made)
    return list(reply.ids)


def fail(worker: Peer) -> None:
    assert worker.finish(worker.take_one(), 1) == "stored"


def test_retry_goes_to_another_worker_with_room(world: World) -> None:
    w1 = Peer(world, "w1", slots=1).join()
    (job_id,) = submit(world)
    w2 = Peer(world, "w2", slots=1).join()
    fail(w1)
    assert w1.take() == []
    assert world.runs(job_id)[-1].worker_id == "w2"
    fail(w2)
    assert w2.take() == []
    assert world.runs(job_id)[-1].worker_id == "w1"
    w1.take_one()


def test_lone_worker_tries_again_at_once(world: World) -> None:
    w1 = Peer(world).join()
    submit(world)
    for _ in range(3):
        fail(w1)
    w1.take_one()


def test_worker_without_the_feature_is_not_waited_for(world: World) -> None:
    w1 = Peer(world, "w1", slots=1)
    w1.can = ("cwd",)
    w1.join()
    (job_id,) = submit(world, cwd="/usr")
    w2 = Peer(world, "w2", slots=1).join()
    fail(w1)
    w1.take_one()
    assert w2.take() == []
    assert world.states(job_id) == ["failed/exit", "running"]


def test_retry_waits_for_a_busy_worker_and_then_takes_any(world: World) -> None:
    w2 = Peer(world, "w2", slots=1).join()
    submit(world)
    w2.take_one()
    w1 = Peer(world, "w1", slots=1).join()
    (job_id,) = submit(world)
    fail(w1)
    job, last = world.job(job_id), world.runs(job_id)[-1]
    cause = why(world.store.reads, job, last)
    assert cause is not None
    assert cause.code == "backoff"
    assert "after 1 failure: until" in cause.detail
    assert "another worker than w1 is preferred" in cause.detail
    world.wait(AVOID_MS - 1, w1, w2)
    assert w1.take() == []
    assert world.states(job_id) == ["failed/exit", "pending"]
    world.wait(1, w1, w2)
    w1.take_one()


def test_retry_takes_a_worker_that_becomes_free_in_time(world: World) -> None:
    w2 = Peer(world, "w2", slots=1).join()
    submit(world)
    busy = w2.take_one()
    w1 = Peer(world, "w1", slots=1).join()
    (job_id,) = submit(world)
    fail(w1)
    world.wait(3_000, w1, w2)
    assert w2.finish(busy) == "stored"
    assert world.runs(job_id)[-1].worker_id == "w2"
    w2.take_one()


def test_retry_stops_waiting_when_the_other_worker_is_gone(world: World) -> None:
    w2 = Peer(world, "w2", slots=1).join()
    submit(world)
    w2.take_one()
    w1 = Peer(world, "w1", slots=1).join()
    submit(world)
    fail(w1)
    assert w1.take() == []
    w2.say(WorkerBye(s=w2.session, reason="stop"))
    assert len(w1.take()) == 1


def test_polling_worker_takes_a_retry_that_avoids_another(world: World) -> None:
    w1 = Peer(world, "w1", slots=1).join()
    (job_id,) = submit(world)
    r1 = Poller(world, "r1").register()
    fail(w1)
    assert w1.take() == []
    claimed = r1.next()
    assert claimed is not None
    assert claimed.job_id == job_id
    assert world.runs(job_id)[-1].worker_id == "r1"


def test_ready_runs_come_before_retries_that_avoid(world: World) -> None:
    w1 = Peer(world, "w1", slots=1).join()
    (first,) = submit(world)
    (second,) = submit(world)
    fail(w1)
    assert world.states(second) == ["running"]
    assert world.states(first) == ["failed/exit", "pending"]
    w1.take_one()
    w2 = Peer(world, "w2", slots=1).join()
    assert world.runs(first)[-1].worker_id == "w2"
    w2.take_one()


def test_one_turn_offers_a_bounded_number_of_retries(world: World) -> None:
    many = AVOIDING_RUNS_MAX + 1
    w1 = Peer(world, "w1", slots=many).join()
    jobs = submit(world, many)
    runs = w1.take()
    w2 = Peer(world, "w2", slots=many).join()
    for run in runs:
        w1.finish(run, 1)
    world.wait(1_000, w1, w2)
    assert {world.runs(job_id)[-1].worker_id for job_id in jobs} == {"w2"}
    assert len(w2.take()) == many
