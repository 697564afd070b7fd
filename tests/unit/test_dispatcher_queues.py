"""Dialogues about priorities, queues, limits and unique keys: which run a worker gets, and which waits for what."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.world import TEST, Peer, Poller, World
from zsched.model.access import Caller
from zsched.model.demand import Demand, Lack, lacks
from zsched.model.edits import JobEdit
from zsched.model.limits import DEMANDS_MAX, QUEUES_MAX
from zsched.model.types import JobId, JobSpec, OnDisconnect, Policy, RunStatus, Worker
from zsched.protocol import Return
from zsched.scheduler.dispatcher import openings, placement
from zsched.scheduler.dispatcher.acts import Rerun
from zsched.scheduler.dispatcher.commands import ConflictError, EditJob, Made, Submit
from zsched.scheduler.dispatcher.placement import fair_count
from zsched.scheduler.dispatcher.queues import (
    PauseQueue,
    ResumeQueue,
    ShareQueue,
    TooManyDemandsError,
    UniqueError,
)
from zsched.scheduler.dispatcher.why import why


def token(name: str) -> Caller:
    """A caller that may act on its own jobs alone."""
    return Caller(owner=f"token:{name}", actor=name, all_jobs=False)


def submit(world: World, count: int = 1, by: Caller = TEST, **fields: Any) -> list[JobId]:
    reply = world.ask(Submit((JobSpec(name="job", command="true", **fields),) * count, by))
    assert isinstance(reply, Made)
    return list(reply.ids)


def jobs(worker: Peer) -> list[int]:
    """The jobs of the runs that a worker was sent, in order."""
    return [worker.world.run(run_id).job_id for run_id in worker.take()]


def cause(world: World, job_id: JobId) -> str:
    last = world.store.reads.last_run(job_id)
    found = why(world.store.reads, world.job(job_id), last)
    assert found is not None
    return f"{found.code}: {found.detail}"


def worker(world: World, *queues: str, slots: int = 2, name: str = "w1", ahead: int = 0) -> Peer:
    peer = Peer(world, name, slots=slots)
    peer.queues, peer.ahead, peer.can = queues, ahead, ("env", "stop")
    return peer.join()


# --- priority ---


def test_free_slots_go_to_the_highest_priority_across_demands(world: World) -> None:
    (plain,) = submit(world)
    low = submit(world, priority=-5)
    quick = submit(world, 2, priority=5, env={"A": "1"})
    w1 = worker(world, slots=4)
    assert jobs(w1) == [*quick, plain, *low]


def test_lower_priority_waits_while_a_higher_one_fills_the_slots(world: World) -> None:
    (low,), high = submit(world), submit(world, 3, priority=1, env={"A": "1"})
    w1 = worker(world, slots=2)
    assert jobs(w1) == high[:2]
    w1.finish(next(iter(w1.held)))
    assert jobs(w1) == [high[2]]
    w1.finish(next(iter(w1.held)))
    assert jobs(w1) == [low]


def test_demand_that_no_worker_fits_lets_lower_ones_pass(world: World) -> None:
    submit(world, priority=9, queue="gpu")
    (plain,) = submit(world)
    assert jobs(worker(world)) == [plain]


# --- queues ---


def test_worker_without_queues_serves_the_default_queue_alone(world: World) -> None:
    (nightly,), (plain,) = submit(world, queue="nightly"), submit(world)
    w1 = worker(world)
    assert jobs(w1) == [plain]
    assert (
        cause(world, nightly) == "no_match: no active worker serves the queue nightly: start one with -queues nightly"
    )
    w2 = worker(world, "nightly", "weekly", name="w2")
    assert jobs(w2) == [nightly]
    (other,) = submit(world)
    w1.finish(next(iter(w1.held)))
    assert w2.take() == []
    assert jobs(w1) == [other]


def test_star_serves_all_queues(world: World) -> None:
    made = [*submit(world, queue="nightly"), *submit(world)]
    assert jobs(worker(world, "*")) == made


def test_demands_without_a_taker_cost_a_look_for_each_kind_of_worker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    def look(demand: Demand, worker: Worker) -> list[Lack]:
        looks.append(demand.queue)
        return lacks(demand, worker)

    peers = [worker(world, name=f"w{number}") for number in range(10)]
    submit(world, queue="q0")
    for number in range(1, 50):
        submit(world, queue=f"q{number}")
    for module in (openings, placement):
        monkeypatch.setattr(module, "lacks", look)
    world.turn()
    assert len(looks) <= 3 * 50
    (plain,) = submit(world)
    assert [job for peer in peers for job in jobs(peer)] == [plain]


def test_polling_worker_serves_its_queues(world: World) -> None:
    (nightly,) = submit(world, queue="nightly")
    r1 = Poller(world).register()
    assert r1.next() is None
    r2 = Poller(world, "r2")
    r2.queues = ("nightly",)
    assert r2.register().next_run().job_id == nightly


def test_nothing_starts_from_a_paused_queue_until_it_is_resumed(world: World) -> None:
    first, second, third = submit(world, 3)
    world.ask(PauseQueue("default", "disk full", "ann"))
    w1, r1 = worker(world), Poller(world).register()
    assert w1.take() == []
    assert r1.next() is None
    assert cause(world, first) == "paused: the queue default is paused: disk full"
    state = world.ask(ResumeQueue("default", "", "ann"))
    assert (state.queue.paused_ms, state.pending, state.running) == (None, 1, 2)
    assert jobs(w1) == [first, second]
    assert r1.next_run().job_id == third


def test_runs_that_workers_have_go_on_in_a_paused_queue(world: World) -> None:
    first, second, third = submit(world, 3)
    w1 = worker(world)
    running, waiting = w1.take()
    world.ask(PauseQueue("default", "", "ann"))
    w1.start(running)
    assert w1.finish(running) == "stored"
    w1.held.pop(waiting)
    w1.say(Return(s=w1.session, runs=(waiting,)))
    assert w1.take() == []
    assert [world.states(job) for job in (first, second, third)] == [
        ["success/exit"],
        ["pending/returned"],
        ["pending"],
    ]


def test_pause_survives_a_restart(world: World) -> None:
    submit(world)
    world.ask(PauseQueue("default", "", "ann"))
    world.restart()
    assert worker(world).take() == []


def test_number_of_paused_queues_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zsched.scheduler.dispatcher.queues.QUEUES_MAX", 2)
    assert QUEUES_MAX > 2
    for name in ("a", "b"):
        world.ask(PauseQueue(name, "", "ann"))
    with pytest.raises(ConflictError):
        world.ask(PauseQueue("c", "", "ann"))
    world.ask(PauseQueue("a", "again", "ann"))
    world.ask(ResumeQueue("a", "", "ann"))
    world.ask(PauseQueue("c", "", "ann"))


# --- fair queues ---


def test_small_owner_gets_slots_as_well_as_a_large_one(world: World) -> None:
    world.ask(ShareQueue("default", "owner", "ann"))
    large = submit(world, 100, token("large"))
    small = submit(world, 3, token("small"))
    w1 = worker(world, slots=8)
    given = jobs(w1)
    assert sorted(given) == [*large[:5], *small]
    w1.finish(next(iter(w1.held)))
    assert jobs(w1) == [large[5]]


@pytest.mark.parametrize(
    ("shares", "room", "count"),
    [
        ([0], 7, 7),
        ([0, 0], 7, 4),
        ([0, 5], 3, 3),
        ([0, 1, 9], 5, 3),
        ([2, 2, 2, 2], 1, 1),
        ([0, 3], 3, 3),
        ([1, 4], 5, 4),
    ],
)
def test_first_owner_gets_what_makes_the_owners_equal(shares: list[int], room: int, count: int) -> None:
    assert fair_count(shares, room) == count


def test_share_of_an_owner_does_not_grow_with_its_kinds_of_jobs(world: World) -> None:
    world.ask(ShareQueue("default", "owner", "ann"))
    many = [job for number in range(3) for job in submit(world, 20, token("many"), limits={f"k{number}": 20})]
    many += submit(world, 20, token("many"))
    one = submit(world, 20, token("one"))
    given = jobs(worker(world, slots=8))
    assert (len(set(given) & set(many)), len(set(given) & set(one))) == (4, 4)


def test_lower_priorities_of_an_owner_do_not_follow_its_high_ones(world: World) -> None:
    world.ask(ShareQueue("default", "owner", "ann"))
    low = submit(world, 10, token("large"))
    small = submit(world, 10, token("small"))
    high = submit(world, 1, token("large"), priority=5)
    assert sorted(jobs(worker(world, slots=6))) == [*low[:2], *small[:3], *high]


def test_queue_is_shared_fairly_from_the_change_on(world: World) -> None:
    before = submit(world, 4, token("large"))
    world.ask(ShareQueue("default", "owner", "ann"))
    after, small = submit(world, 4, token("large")), submit(world, 2, token("small"))
    w1 = worker(world, slots=8)
    assert sorted(jobs(w1)) == [*before, *after[:2], *small]


# --- limits ---


def test_runs_with_a_key_are_bounded_over_all_workers(world: World) -> None:
    made = submit(world, 6, limits={"db": 3})
    w1, w2 = worker(world), worker(world, name="w2")
    taken = jobs(w1) + jobs(w2)
    assert taken == made[:3]
    assert cause(world, made[3]) == "limit: as many runs as may be are running: 3 of 3 with the limit db"
    w1.finish(next(iter(w1.held)))
    assert jobs(w1) + jobs(w2) == [made[3]]


def test_run_with_limits_never_waits_ahead_of_a_free_slot(world: World) -> None:
    made = submit(world, 3, limits={"db": 3})
    assert jobs(worker(world, slots=1, ahead=5)) == made[:1]


def test_place_is_not_taken_by_a_run_that_no_worker_can_take(world: World) -> None:
    submit(world, 5, queue="gpu", limits={"db": 1})
    (plain,) = submit(world, limits={"db": 1})
    assert jobs(worker(world)) == [plain]


def test_lost_run_with_a_lease_keeps_its_place_until_the_lease_is_over(world: World) -> None:
    first, second = submit(world, 2, limits={"db": 1}, policy=Policy(on_disconnect=OnDisconnect.STOP))
    w1, w2 = worker(world), worker(world, name="w2")
    assert jobs(w1) == [first]
    world.wait(30_000, w2)
    assert w2.take() == []
    assert world.states(first) == ["running"]
    world.wait(3_000, w2)
    # A run that follows a lost one is younger than those that wait already.
    assert jobs(w2) == [second]
    assert world.states(first) == ["failed/worker_lost", "pending"]


def test_polling_workers_keep_to_the_limits(world: World) -> None:
    first, second = submit(world, 2, limits={"db": 1})
    r1, r2 = Poller(world).register(), Poller(world, "r2").register()
    assert r1.next_run().job_id == first
    assert r2.next() is None
    r1.report(first, RunStatus.SUCCESS)
    assert r2.next_run().job_id == second


def test_keys_of_an_owner_are_not_those_of_others(world: World) -> None:
    mine, yours = submit(world, 2, token("a"), limits={"db": 1}), submit(world, 2, token("b"), limits={"db": 1})
    (shared,) = submit(world, limits={"db": 1})
    (also,) = submit(world, 1, Caller(owner="user:bob", actor="bob", all_jobs=True), limits={"db": 1})
    w1 = worker(world, slots=9)
    assert jobs(w1) == [mine[0], yours[0], shared]
    assert cause(world, also) == "limit: as many runs as may be are running: 1 of 1 with the limit db"


# --- unique keys ---


def test_second_job_with_a_unique_key_is_refused_with_the_first(world: World) -> None:
    (first,) = submit(world, unique="index")
    for _ in range(2):
        with pytest.raises(UniqueError) as refused:
            submit(world, unique="index")
        assert (refused.value.code, refused.value.existing) == ("unique", first)
        assert str(refused.value) == f"Job {first} has not ended, and has the unique key index"
    w1 = worker(world)
    w1.finish(w1.take_one())
    (second,) = submit(world, unique="index")
    assert jobs(w1) == [second]


def test_two_jobs_of_a_request_may_not_have_the_same_unique_key(world: World) -> None:
    with pytest.raises(UniqueError) as refused:
        submit(world, 2, unique="index")
    assert refused.value.existing is None
    assert submit(world, unique="index")


def test_unique_keys_are_those_of_the_owner(world: World) -> None:
    made = [submit(world, by=by, unique="k")[0] for by in (token("a"), token("b"), TEST)]
    assert len(made) == 3
    with pytest.raises(UniqueError) as refused:
        submit(world, by=token("b"), unique="k")
    assert refused.value.existing == made[1]
    assert world.job(made[1]).unique == "token:b k"


# --- many kinds of jobs ---


def test_number_of_live_demands_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zsched.scheduler.dispatcher.queues.DEMANDS_MAX", 3)
    assert DEMANDS_MAX == 10_000
    for queue in ("a", "b", "c", "c"):
        submit(world, queue=queue)
    with pytest.raises(TooManyDemandsError):
        submit(world, queue="d")
    submit(world)
    w1 = worker(world, "a")
    w1.finish(w1.take_one())
    submit(world, queue="d")


def test_an_owner_leaves_kinds_of_jobs_for_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zsched.scheduler.dispatcher.queues.OWNER_DEMANDS_MAX", 2)
    ann, bob = token("ann"), token("bob")
    (first, *_) = [submit(world, 1, ann, limits={key: 1})[0] for key in ("a", "b", "b")]
    with pytest.raises(TooManyDemandsError, match="2 kinds of jobs of token:ann that differ"):
        submit(world, 1, ann, limits={"c": 1})
    submit(world, 1, bob, limits={"c": 1})
    for key in ("d", "e", "f"):
        submit(world, limits={key: 1})
    world.cancel(first)
    submit(world, 1, ann, limits={"c": 1})
    world.restart()
    with pytest.raises(TooManyDemandsError):
        submit(world, 1, ann, limits={"d": 1})


def test_rerun_and_edit_obey_the_number_of_live_demands(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zsched.scheduler.dispatcher.queues.DEMANDS_MAX", 2)
    (ended,), (plain,) = submit(world, limits={"a": 1}), submit(world)
    world.cancel(ended)
    submit(world, queue="b")
    submit(world, queue="c")
    with pytest.raises(TooManyDemandsError):
        world.ask(Rerun(ended, TEST))
    with pytest.raises(TooManyDemandsError):
        world.ask(EditJob(plain, JobEdit(queue="d"), TEST))
    # A kind that is live already adds none.
    world.ask(EditJob(plain, JobEdit(queue="b"), TEST))
    assert world.job(plain).queue == "b"
    world.cancel(plain)
    world.ask(Rerun(plain, TEST))
    assert world.states(plain)[-1] == "pending"
