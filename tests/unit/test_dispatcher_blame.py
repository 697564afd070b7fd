"""Dialogues about blame: who pays when a worker dies, so that a poison job ends and the innocent don't."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.world import TIMEOUT_MS, Peer, World
from zsched.model.backoff import crash_delay_ms
from zsched.model.demand import Demand
from zsched.model.limits import CRASH_LIMIT_DEFAULT, PROBATION_MS
from zsched.model.types import JobId, Policy, RunStatus
from zsched.protocol import Ready, Result, ResultAck, Return, WorkerBye
from zsched.store import rows


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


def test_started_runs_of_a_lost_worker_are_blamed_and_waiting_ones_suspect(world: World) -> None:
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


def test_worker_takes_one_run_on_probation_in_addition_to_ordinary_ones(world: World) -> None:
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


def test_suspect_that_lived_long_enough_is_trusted_and_makes_room(world: World) -> None:
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


def test_successor_of_a_first_crash_starts_at_once_and_later_ones_wait() -> None:
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


# --- groups on probation ---


def suspects_of(worker: Peer) -> int:
    """How many runs on probation the worker takes now, which all start."""
    taken = worker.take()
    worker.start(*taken)
    return sum(worker.orders[run_id].probation for run_id in taken)


def outlive(world: World, worker: Peer) -> None:
    world.jump(PROBATION_MS)
    worker.beat()


def crowd(world: World, count: int) -> tuple[Peer, list[JobId]]:
    """A worker that has died with so many runs, and is back."""
    w1 = Peer(world, slots=count).join()
    jobs = world.submit(count)
    assert len(w1.take()) == count
    w1 = die(world, w1)
    w1.ready()
    return w1, jobs


def test_the_number_on_probation_doubles_each_time_a_worker_outlives_it(world: World) -> None:
    w1, _ = crowd(world, 40)
    groups = []
    while (count := suspects_of(w1)) > 0:
        groups.append(count)
        outlive(world, w1)
    # At most half of the 40 that died together, as a power of two.
    assert groups == [1, 2, 4, 8, 16, 9]


def test_a_suspect_that_ends_by_itself_makes_room_for_two(world: World) -> None:
    w1, _ = crowd(world, 40)
    groups = []
    while taken := w1.take():
        groups.append(len(taken))
        w1.start(*taken)
        w1.say(Result(s=w1.session, results=tuple(w1.result(run_id) for run_id in taken)))
        w1._answer(ResultAck)
        w1.held.clear()
    assert groups == [1, 2, 4, 8, 16, 9]


def test_a_new_start_of_a_worker_begins_with_one_again(world: World) -> None:
    w1, _ = crowd(world, 40)
    for _ in range(3):
        suspects_of(w1)
        outlive(world, w1)
    w1.take()
    w1 = die(world, w1)
    w1.ready()
    assert suspects_of(w1) == 1


def test_an_agent_that_starts_again_keeps_what_the_worker_outlived(world: World) -> None:
    w1, _ = crowd(world, 40)
    for _ in range(3):
        suspects_of(w1)
        outlive(world, w1)
    suspects_of(w1)
    again = w1.again("agent", incarnation=w1.incarnation)
    again.held = dict(w1.held)
    again.register()
    outlive(world, again)
    again.ready()
    assert suspects_of(again) == 16


def test_group_on_probation_is_not_blamed_and_is_tried_in_halves(world: World) -> None:
    w1, jobs = crowd(world, 40)
    for expected in (1, 2, 4):
        assert suspects_of(w1) == expected
        outlive(world, w1)
    group = w1.take()
    assert len(group) == 8
    tried = [world.run(run_id).job_id for run_id in group]
    others = [job_id for job_id in jobs[:7] if job_id not in tried]
    w1 = die(world, w1)
    assert {last(world, job_id)[1] for job_id in (*tried, *others)} == {0}
    assert {demand_key(world, job_id).probation for job_id in tried} == {4}
    # Seven that had been trusted were there as well: next time they shall not be beside a suspect unnoticed.
    assert {demand_key(world, job_id).probation for job_id in others} == {2}


def test_pair_is_distinguished_run_by_run(world: World) -> None:
    w1, jobs = crowd(world, 4)
    suspects_of(w1)
    outlive(world, w1)
    pair = [world.run(run_id).job_id for run_id in w1.take()]
    assert len(pair) == 2
    w1 = die(world, w1)
    assert {last(world, job_id)[1:] for job_id in pair} == {(0, True)}
    world.by_hand("UPDATE runs SET priority = 1 WHERE status = 'pending' AND job_id = ?", pair[1])
    w1.ready()
    (alone,) = [run_id for run_id in w1.take() if w1.orders[run_id].probation]
    assert world.run(alone).job_id == pair[1]
    die(world, w1)
    assert [last(world, job_id)[1] for job_id in jobs] == [int(job_id == pair[1]) for job_id in jobs]


def test_no_crash_makes_a_group_larger(world: World) -> None:
    w1, jobs = crowd(world, 4)
    w1.take()
    w1 = die(world, w1)
    assert demand_key(world, jobs[0]).probation == 1
    # Now it is one of forty that die together.
    w1 = Peer(world, "w2", slots=40).join()
    others = world.submit(40 - len(w1.take()))
    w1.start(*w1.take())
    outlive(world, w1)
    die(world, w1)
    assert demand_key(world, others[0]).probation == 16
    assert demand_key(world, jobs[0]).probation == 1


def test_a_turn_that_was_given_up_counts_no_survivor(world: World) -> None:
    w1, _ = crowd(world, 40)
    suspects_of(w1)
    world.jump(PROBATION_MS)
    world.failing_turn(lambda: world.dispatcher.on_frame(w1.peer, Ready(s=w1.session, window=40, ahead=0), world.now))
    w1.beat()
    assert suspects_of(w1) == 0


def demand_key(world: World, job_id: JobId) -> Demand:
    """What the job's newest run asks for."""
    run_id = world.runs(job_id)[-1].run_id
    ((text,),) = world.engine.execute(
        "SELECT wish FROM runs JOIN demands USING (demand_id) WHERE run_id = ?", (run_id,)
    )
    return rows.demand(text)


@pytest.mark.parametrize("place", [0, 1, 99, 198, 199])
def test_poison_among_many_is_found_after_few_deaths_and_the_rest_survive(world: World, place: int) -> None:
    w1, jobs = crowd(world, 200)
    poison, deaths = jobs[place], 1
    for _ in range(600):
        taken = w1.take()
        if poison in [world.run(run_id).job_id for run_id in taken]:
            deaths += 1
            w1 = die(world, w1)
            w1.ready()
        else:
            w1.start(*taken)
            world.jump(PROBATION_MS)
            w1.beat()
        if world.states(poison)[-1] == "failed/crash_limit":
            break
    w1.take()
    assert world.states(poison)[-1] == "failed/crash_limit"
    assert deaths <= CRASH_LIMIT_DEFAULT + 7
    assert [world.runs(job_id)[-1].crashes for job_id in jobs if job_id != poison] == [0] * 199


def test_crashes_never_end_a_job_whose_limit_is_never(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=Policy(crash_limit=None))
    for _ in range(CRASH_LIMIT_DEFAULT + 2):
        w1.start(w1.take_one())
        w1 = die(world, w1)
        w1.ready()
        world.wait(60_000, w1)
    assert last(world, job_id)[1:] == (CRASH_LIMIT_DEFAULT + 2, True)
    w1.finish(w1.take_one())
    assert world.states(job_id)[-1] == "success/exit"


# --- announced ends ---


def leaving(world: World) -> tuple[Peer, JobId, JobId]:
    """A worker that has announced its end, and its jobs: one runs, one was only handed to it."""
    w1 = Peer(world).join()
    started, waiting = submit_two(world, w1)
    w1.start(run_of(world, started))
    w1.say(Ready(s=w1.session, window=0, ahead=0, leaving=True))
    return w1, started, waiting


def is_blameless(world: World, *jobs: JobId) -> bool:
    return [last(world, job_id)[1:] for job_id in jobs] == [(0, False)] * len(jobs)


def test_silence_of_a_worker_that_announced_its_end_causes_no_blame(world: World) -> None:
    _, *jobs = leaving(world)
    world.wait(TIMEOUT_MS)
    assert is_blameless(world, *jobs)


def test_new_start_after_an_announced_end_causes_no_blame(world: World) -> None:
    w1, *jobs = leaving(world)
    die(world, w1)
    assert is_blameless(world, *jobs)


def test_guard_that_is_killed_after_its_announced_end_causes_no_blame(world: World) -> None:
    w1, *jobs = leaving(world)
    w1.say(WorkerBye(s=w1.session, reason="guard_lost"))
    assert is_blameless(world, *jobs)


def test_an_announced_end_outlives_the_scheduler(world: World) -> None:
    w1, *jobs = leaving(world)
    world.restart()
    die(world, w1)
    assert is_blameless(world, *jobs)


def test_restarted_agent_announces_the_end_of_its_worker_again(world: World) -> None:
    w1, *jobs = leaving(world)
    again = w1.again("agent", incarnation=w1.incarnation)
    again.held = dict(w1.held)
    world.hear(again.peer, replace(again.introduction(), leaving=True))
    world.sent_to(again.peer)
    die(world, again)
    assert is_blameless(world, *jobs)


def test_an_announced_end_is_forgotten_by_the_next_start(world: World) -> None:
    w1, *jobs = leaving(world)
    w1 = die(world, w1)
    assert world.worker("w1").leaving_ms is None
    w1.ready()
    w1.start(*w1.take())
    die(world, w1)
    assert [last(world, job_id)[1] for job_id in jobs] == [1, 1]


def test_an_announced_end_of_a_turn_that_was_given_up_is_heard_again(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    w1.start(w1.take_one())
    told = Ready(s=w1.session, window=0, ahead=0, leaving=True)
    world.failing_turn(lambda: world.dispatcher.on_frame(w1.peer, told, world.now))
    w1.beat(leaving=True)
    world.restart()
    die(world, w1)
    assert is_blameless(world, job_id)


def test_a_worker_that_only_takes_nothing_more_has_not_announced_its_end(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    w1.start(w1.take_one())
    w1.ready(window=0)
    die(world, w1)
    assert last(world, job_id)[1] == 1


def test_an_announced_end_leaves_one_event(world: World) -> None:
    w1, *_ = leaving(world)
    w1.beat(leaving=True)
    found = world.engine.execute("SELECT actor, was, became FROM events WHERE reason = 'leaving'")
    assert found == [("worker w1", "active", "active")]
