"""Dialogues about blame: who pays when a worker dies, so that a poison job ends and the innocent don't."""

from __future__ import annotations

from random import Random

import pytest
from msgspec.structs import replace

from tests.unit.world import TIMEOUT_MS, Peer, World
from zsched.model.backoff import crash_delay_ms
from zsched.model.lifecycle import TERMINAL
from zsched.model.limits import CRASH_LIMIT_DEFAULT, ESTABLISHED_MS, PROBATION_MS
from zsched.model.types import JobId, Policy, RunStatus
from zsched.protocol import Ready, Result, ResultAck, Return, WorkerBye
from zsched.store import rows

pytestmark = pytest.mark.slow


def die(world: World, worker: Peer) -> Peer:
    """The worker is killed and started again, on the same machine: proof that the old one is dead."""
    again = worker.again(worker.peer.decode() + "'", incarnation=worker.incarnation + "'")
    again.register()
    return again


def last(world: World, job_id: JobId) -> tuple[int, int, bool]:
    """Of the job's newest run: attempt, crashes, and whether it asks for probation."""
    run = world.runs(job_id)[-1]
    return run.attempt, run.crashes, bound_of(world, job_id) > 0


def bound_of(world: World, job_id: JobId) -> int:
    """How many may be on probation at once with the job's newest run; 0: it is not suspect."""
    ((text,),) = world.engine.execute(
        "SELECT wish FROM runs JOIN demands USING (demand_id) WHERE run_id = ?", (run_of(world, job_id),)
    )
    return rows.demand(text).probation


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


def narrowed(world: World) -> tuple[Peer, JobId, JobId]:
    """Two jobs that were on probation together when their worker died, so that each is tried alone from now on. The
    worker is back, and not yet ready.
    """
    w1 = Peer(world, slots=4).join()
    first, second = submit_two(world, w1)
    w1 = die(world, w1)
    w1.ready()
    assert len(w1.take()) == 2
    return die(world, w1), first, second


def test_worker_takes_one_run_on_probation_in_addition_to_ordinary_ones(world: World) -> None:
    w1, first, _ = narrowed(world)
    ordinary = world.submit(2)
    w1.ready()
    taken = [world.run(run_id).job_id for run_id in w1.take()]
    assert sorted(taken) == sorted([first, *ordinary])
    assert [order.probation for order in w1.orders.values()].count(True) == 1


def test_suspects_spread_over_the_workers(world: World) -> None:
    w1 = Peer(world, slots=3).join()
    world.submit(3)
    w1.take()
    others = [Peer(world, name, slots=3).join() for name in ("w2", "w3", "w4")]
    die(world, w1)
    assert [len(worker.take()) for worker in others] == [1, 1, 1]


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
    w1, first, second = narrowed(world)
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
    w1, *_ = narrowed(world)
    w1.ready()
    w1.finish(w1.take_one())
    assert len(w1.take()) == 1


def test_a_suspect_handed_back_makes_room_and_stays_suspect(world: World) -> None:
    w1, *_ = narrowed(world)
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
    w1, first, _ = narrowed(world)
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
    assert deaths <= CRASH_LIMIT_DEFAULT + 2


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
    """A worker that has died with so many runs, and is back. After the loss of thousands it gets none for a second."""
    w1 = Peer(world, slots=count).join()
    jobs = world.submit(count)
    assert len(w1.take()) == count
    w1 = die(world, w1)
    w1.ready()
    world.wait(1_000, w1)
    return w1, jobs


def groups_of(world: World, worker: Peer) -> list[int]:
    """How many runs on probation the worker takes at once, until it has outlived all of them."""
    groups = []
    while (count := suspects_of(worker)) > 0:
        groups.append(count)
        outlive(world, worker)
    return groups


@pytest.mark.parametrize(
    ("count", "groups"),
    [
        (40, [40]),
        (200, [64, 64, 64, 8]),
        (400, [128, 128, 128, 16]),
        pytest.param(2_000, [512, 512, 512, 464], marks=pytest.mark.slow),
    ],
)
def test_first_death_is_followed_by_groups_of_half_or_of_64(world: World, count: int, groups: list[int]) -> None:
    w1, _ = crowd(world, count)
    assert groups_of(world, w1) == groups


def test_a_group_that_ends_by_itself_makes_room_at_once(world: World) -> None:
    w1, _ = crowd(world, 200)
    groups = []
    while taken := w1.take():
        groups.append(len(taken))
        w1.start(*taken)
        w1.say(Result(s=w1.session, results=tuple(w1.result(run_id) for run_id in taken)))
        w1._answer(ResultAck)
        w1.held.clear()
    assert groups == [64, 64, 64, 8]


def test_suspects_of_small_workers_are_tried_in_bulk_on_a_large_worker(world: World) -> None:
    small = [Peer(world, f"s{number}", slots=4).join() for number in range(50)]
    world.submit(200)
    assert sum(len(worker.take()) for worker in small) == 200
    # All of them are gone for good.
    world.wait(3 * TIMEOUT_MS)
    large = Peer(world, "large", slots=200).join()
    assert groups_of(world, large) == [64, 64, 64, 8]


def test_suspects_of_many_workers_are_tried_on_all_of_them_at_once(world: World) -> None:
    workers = [Peer(world, f"w{number}", slots=100).join() for number in range(4)]
    jobs = world.submit(400)
    for worker in workers:
        worker.start(*worker.take())
    # Their host boots again.
    workers = [die(world, worker) for worker in workers]
    for worker in workers:
        worker.ready()
    assert [suspects_of(worker) for worker in workers] == [64] * 4
    for worker in workers:
        outlive(world, worker)
    assert sum(suspects_of(worker) for worker in workers) == 400 - 4 * 64
    assert {world.runs(job_id)[-1].crashes for job_id in jobs} == {1}


def test_group_on_probation_is_not_blamed_and_is_tried_in_quarters(world: World) -> None:
    w1, jobs = crowd(world, 200)
    assert suspects_of(w1) == 64
    outlive(world, w1)
    group = w1.take()
    assert len(group) == 64
    tried = [world.run(run_id).job_id for run_id in group]
    trusted = [job_id for job_id in jobs[:64] if job_id not in tried]
    w1 = die(world, w1)
    assert {last(world, job_id)[1] for job_id in (*tried, *trusted)} == {0}
    assert {bound_of(world, job_id) for job_id in tried} == {16}
    # Those that had been trusted were there as well: next time they shall not be beside a suspect unnoticed.
    assert {bound_of(world, job_id) for job_id in trusted} == {64}


def test_pair_is_distinguished_run_by_run(world: World) -> None:
    w1, *pair = narrowed(world)
    assert [last(world, job_id)[1:] for job_id in pair] == [(0, True)] * 2
    world.by_hand("UPDATE runs SET priority = 1 WHERE status = 'pending' AND job_id = ?", pair[1])
    w1.ready()
    assert world.run(w1.take_one()).job_id == pair[1]
    die(world, w1)
    assert [last(world, job_id)[1] for job_id in pair] == [0, 1]


def test_no_crash_makes_a_group_larger(world: World) -> None:
    _, first, second = narrowed(world)
    assert bound_of(world, first) == 1
    # Now it is one of forty that die together.
    w1 = Peer(world, "w2", slots=40).join()
    others = world.submit(38)
    for _ in range(2):
        w1.start(*w1.take())
        outlive(world, w1)
    assert len(w1.held) == 40
    die(world, w1)
    assert bound_of(world, others[0]) == 64
    assert [bound_of(world, job_id) for job_id in (first, second)] == [1, 1]


# How long innocent runs take.
LASTS_MS = [pytest.param(1_000, id="short"), pytest.param(600_000, id="long", marks=pytest.mark.slow)]


def try_out(world: World, worker: Peer, poison: set[JobId], jobs: list[JobId], lasts_ms: int) -> int:
    """Let a worker try its suspects until each job has ended or is trusted. Innocent runs take `lasts_ms`, and a poison
    run kills its worker at once. Returns how many workers died.
    """
    deaths, began_ms = 0, dict[int, int]()
    for _ in range(100 + 50 * len(poison)):
        taken = worker.take()
        if any(world.run(run_id).job_id in poison for run_id in taken):
            deaths += 1
            worker = die(world, worker)
            worker.ready()
            # Successors wait after repeated crashes.
            world.wait(4_000, worker)
            continue
        worker.start(*taken)
        began_ms |= dict.fromkeys(taken, world.mono_ms)
        world.wait(PROBATION_MS, worker)
        for run_id in [run_id for run_id in taken if world.mono_ms - began_ms[run_id] >= lasts_ms]:
            worker.finish(run_id)
        if all(world.job(job_id).status in TERMINAL for job_id in poison) and not any(
            world.job(job_id).status is RunStatus.PENDING for job_id in jobs
        ):
            break
    worker.take()
    return deaths


@pytest.mark.parametrize("lasts_ms", LASTS_MS)
@pytest.mark.parametrize("place", [0, 1, 63, 64, 99, 137, 199, 200])
def test_poison_among_many_is_found_after_few_deaths_and_the_rest_survive(
    world: World, place: int, lasts_ms: int
) -> None:
    w1, jobs = crowd(world, 201)
    poison = jobs[place]
    deaths = 1 + try_out(world, w1, {poison}, jobs, lasts_ms)
    assert world.states(poison)[-1] == "failed/crash_limit"
    assert deaths <= CRASH_LIMIT_DEFAULT + 4
    assert [world.runs(job_id)[-1].crashes for job_id in jobs if job_id != poison] == [0] * 200


@pytest.mark.parametrize("lasts_ms", LASTS_MS)
@pytest.mark.parametrize("seed", range(4))
def test_several_poison_jobs_are_found_and_the_rest_survive(world: World, seed: int, lasts_ms: int) -> None:
    w1, jobs = crowd(world, 203)
    poison = set(Random(seed).sample(jobs, 3))
    deaths = 1 + try_out(world, w1, poison, jobs, lasts_ms)
    assert {world.states(job_id)[-1] for job_id in poison} == {"failed/crash_limit"}
    assert deaths <= 3 * (CRASH_LIMIT_DEFAULT + 3) + 1
    assert not any(world.job(job_id).status is RunStatus.FAILED for job_id in jobs if job_id not in poison)


# --- age ---


def aged(world: World) -> tuple[Peer, JobId, JobId]:
    """A worker with two jobs that run: one for a minute, the other has just begun."""
    w1 = Peer(world, slots=4).join()
    (old,) = world.submit(1)
    w1.start(*w1.take())
    world.wait(ESTABLISHED_MS, w1)
    (young,) = world.submit(1)
    w1.start(*w1.take())
    return w1, old, young


def test_an_established_run_is_spared_once_if_a_younger_one_was_there(world: World) -> None:
    w1, old, young = aged(world)
    w1 = die(world, w1)
    w1.ready()
    assert [last(world, job_id) for job_id in (old, young)] == [(2, 0, True), (2, 1, True)]
    w1.start(*w1.take())
    world.wait(ESTABLISHED_MS, w1)
    world.submit(1)
    w1.start(*w1.take())
    die(world, w1)
    assert [last(world, job_id)[1] for job_id in (old, young)] == [1, 2]


def test_established_runs_are_blamed_when_none_was_younger(world: World) -> None:
    w1, *jobs = aged(world)
    world.wait(ESTABLISHED_MS, w1)
    die(world, w1)
    assert [last(world, job_id)[1] for job_id in jobs] == [1, 1]


def test_a_run_that_had_not_started_counts_as_younger(world: World) -> None:
    w1 = Peer(world, slots=4).join()
    (old,) = world.submit(1)
    w1.start(*w1.take())
    world.wait(ESTABLISHED_MS, w1)
    world.submit(1)
    assert len(w1.take()) == 1
    die(world, w1)
    assert last(world, old)[1] == 0


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
