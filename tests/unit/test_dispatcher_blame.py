"""Dialogues about blame: who pays when a worker dies, so that a poison job ends and the innocent don't."""

from __future__ import annotations

import pytest

from tests.unit.world import TIMEOUT_MS, Peer, World
from zsched.dispatcher.losses import crash_delay_ms
from zsched.limits import CRASH_LIMIT_DEFAULT, PROBATION_MS
from zsched.model import JobId, RunStatus
from zsched.protocol import Return


def die(world: World, worker: Peer) -> Peer:
    """The worker is killed and started again, on the same machine: proof that the old one is dead."""
    again = worker.again(worker.peer.decode() + "'", incarnation=worker.incarnation + "'")
    again.register()
    return again


def last(world: World, job_id: JobId) -> tuple[int, int, bool]:
    """Of the job's newest run: attempt, crashes, and whether it asks for probation."""
    run = world.runs(job_id)[-1]
    ((wish,),) = world.engine.execute(
        "SELECT wish FROM runs JOIN demands USING (demand_id) WHERE run_id = ?", (run.run_id,)
    )
    return run.attempt, run.crashes, '"probation":true' in wish


def submit_two(world: World, worker: Peer) -> tuple[JobId, JobId]:
    """Two jobs, both handed to the worker."""
    first, second = world.submit(2)
    assert len(worker.take()) == 2
    return first, second


def run_of(world: World, job_id: JobId) -> int:
    return world.runs(job_id)[-1].run_id


def test_each_started_run_of_a_lost_worker_is_blamed_and_the_waiting_become_suspect(world: World) -> None:
    w1 = Peer(world).join()
    started, waiting = submit_two(world, w1)
    w1.start(run_of(world, started))
    die(world, w1)
    assert last(world, started) == (2, 1, True)
    assert last(world, waiting) == (1, 0, True)


def test_silence_is_a_loss_like_a_new_start(world: World) -> None:
    w1 = Peer(world).join()
    started, waiting = submit_two(world, w1)
    w1.start(run_of(world, started))
    world.wait(TIMEOUT_MS)
    assert last(world, started) == (2, 1, True)
    assert last(world, waiting) == (1, 0, True)


def test_a_worker_takes_one_run_on_probation_at_a_time_beside_ordinary_ones(world: World) -> None:
    w1 = Peer(world, slots=4).join()
    suspects = world.submit(3)
    w1.take()
    w1 = die(world, w1)
    ordinary = world.submit(2)
    w1.ready()
    taken = [world.run(run_id).job_id for run_id in w1.take()]
    assert sorted(taken) == sorted([suspects[0], *ordinary])
    assert [order.probation for order in w1.orders.values()].count(True) == 1


def test_suspects_spread_over_the_workers(world: World) -> None:
    w1 = Peer(world, slots=3).join()
    world.submit(3)
    w1.take()
    w2, w3 = Peer(world, "w2"), Peer(world, "w3")
    w2.register()
    w3.register()
    w1 = die(world, w1)
    for worker in (w1, w2, w3):
        worker.ready()
    assert [len(worker.take()) for worker in (w1, w2, w3)] == [1, 1, 1]


def test_a_run_on_probation_never_goes_ahead(world: World) -> None:
    w1 = Peer(world, slots=1).join()
    (suspect,) = world.submit(1)
    w1.take()
    w1 = die(world, w1)
    w1.ready(window=0)
    (plain,) = world.submit(1)
    world.by_hand("UPDATE runs SET priority = 1 WHERE job_id = ?", plain)
    w1.ready(window=10, ahead=5)
    assert world.run(w1.take_one()).job_id == plain
    assert world.states(suspect)[-1] == "pending"


def test_a_suspect_that_lived_long_enough_is_trusted_and_makes_room_for_the_next(world: World) -> None:
    w1 = Peer(world, slots=4).join()
    first, second = submit_two(world, w1)
    w1 = die(world, w1)
    w1.ready()
    suspect = w1.take_one()
    w1.start(suspect)
    world.jump(PROBATION_MS - 1)
    w1.beat()
    assert w1.take() == []
    world.jump(1)
    w1.beat()
    assert [world.run(run_id).job_id for run_id in w1.take()] == [second]
    assert world.run(suspect).job_id == first


def test_probation_is_over_when_the_run_ends(world: World) -> None:
    w1 = Peer(world, slots=4).join()
    submit_two(world, w1)
    w1 = die(world, w1)
    w1.ready()
    w1.finish(w1.take_one())
    assert len(w1.take()) == 1


def test_a_suspect_handed_back_makes_room_and_stays_suspect(world: World) -> None:
    w1 = Peer(world, slots=4).join()
    submit_two(world, w1)
    w1 = die(world, w1)
    w1.ready()
    w1.say(Return(s=w1.session, runs=(w1.take_one(),)))
    (again,) = w1.take()
    assert w1.orders[again].probation


@pytest.mark.parametrize("started", [False, True])
def test_a_run_on_probation_alone_is_blamed_started_or_not(world: World, started: bool) -> None:
    w1 = Peer(world, slots=4).join()
    (suspect,) = world.submit(1)
    w1.take()
    w1 = die(world, w1)
    beside, waiting = world.submit(2)
    w1.ready()
    w1.take()
    w1.start(run_of(world, beside))
    if started:
        w1.start(run_of(world, suspect))
    die(world, w1)
    assert last(world, suspect) == (1 + started, 1, True)
    assert last(world, beside) == (2, 0, True)
    assert last(world, waiting) == (1, 0, True)


def test_a_trusted_suspect_is_blamed_like_anybody_else(world: World) -> None:
    w1 = Peer(world, slots=4).join()
    (suspect,) = world.submit(1)
    w1.take()
    w1 = die(world, w1)
    (beside,) = world.submit(1)
    w1.ready()
    w1.take()
    w1.start(run_of(world, suspect), run_of(world, beside))
    world.jump(PROBATION_MS)
    w1.beat()
    die(world, w1)
    assert last(world, suspect) == (2, 1, True)
    assert last(world, beside) == (2, 1, True)


def test_an_agent_that_starts_again_keeps_the_probation(world: World) -> None:
    w1 = Peer(world, slots=4).join()
    first, _ = submit_two(world, w1)
    w1 = die(world, w1)
    w1.ready()
    suspect = w1.take_one()
    w1.start(suspect)
    again = w1.again("agent", incarnation=w1.incarnation)
    again.held = dict(w1.held)
    again.register()
    again.ready()
    assert again.take() == []
    world.jump(PROBATION_MS)
    again.beat()
    assert len(again.take()) == 1
    die(world, again)
    assert last(world, first)[1] == 0


def test_a_suspect_lost_by_its_living_worker_disturbs_no_later_turn(world: World) -> None:
    w1 = Peer(world, slots=4).join()
    (job_id,) = world.submit(1)
    w1.take()
    w1 = die(world, w1)
    w1.ready()
    w1.start(w1.take_one())
    w1.held.clear()
    w1.beat(window=0)
    world.jump(PROBATION_MS)
    w1.beat(window=0)
    assert world.states(job_id) == ["failed/worker_lost", "failed/worker_lost", "pending"]


def test_the_successor_of_a_first_crash_waits_for_nothing_and_later_ones_ever_longer() -> None:
    assert [crash_delay_ms(crashes) for crashes in (0, 1, 2, 3, 4, 7, 8, 9, 1_000)] == [
        *(0, 0, 1_000, 2_000, 4_000, 32_000),
        *(60_000, 60_000, 60_000),
    ]


def test_a_run_that_crashed_twice_waits_before_it_is_tried_again(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    for _ in range(2):
        w1.start(w1.take_one())
        w1 = die(world, w1)
        w1.ready()
    assert w1.take() == []
    world.wait(999)
    assert w1.take() == []
    world.wait(1)
    assert world.run(w1.take_one()).job_id == job_id


def test_a_loss_without_blame_waits_for_nothing_whatever_it_carries(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    for _ in range(2):
        w1.start(w1.take_one())
        w1 = die(world, w1)
        w1.ready()
    world.wait(1_000)
    w1.start(w1.take_one())
    w1.held.clear()
    w1.beat()
    assert world.run(w1.take_one()).crashes == 2
    assert last(world, job_id) == (4, 2, True)


def test_a_poison_job_meets_few_workers_and_the_innocent_all_succeed(world: World) -> None:
    workers = [Peer(world, name, slots=4).join() for name in ("w1", "w2", "w3")]
    poison = world.submit_one("poison")
    innocent = world.submit(24)
    deaths = 0
    # Three minutes, in which a worker that starts the poison dies, and innocent runs take half a second.
    for _ in range(180 * 4):
        world.wait(250)
        for place, worker in enumerate(workers):
            ripe = [run_id for run_id, phase in worker.held.items() if phase == "running"]
            for run_id in worker.take() + [run_id for run_id, phase in worker.held.items() if phase == "waiting"]:
                worker.start(run_id)
            if any(worker.orders[run_id].command == "poison" for run_id in worker.held):
                worker.take()
                workers[place] = die(world, worker)
                workers[place].ready()
                deaths += 1
                continue
            for run_id in ripe:
                worker.finish(run_id)
            worker.beat()
    for worker in workers:
        worker.take()
    assert world.states(poison)[-1] == "failed/crash_limit"
    assert {world.job(job_id).status for job_id in innocent} == {RunStatus.SUCCESS}
    assert deaths == CRASH_LIMIT_DEFAULT
