"""Dialogues with workers that ask over REST and may know nothing but the four documented calls."""

from __future__ import annotations

import pytest

from tests.unit.world import TIMEOUT_MS, Peer, Poller, World
from zsched.model.limits import GRACE_MS_DEFAULT, PROBATION_MS
from zsched.model.types import JobId, RunStatus, WorkerId, WorkerStatus
from zsched.scheduler.dispatcher import polling
from zsched.scheduler.dispatcher.commands import BusyError, ConflictError, NotFoundError

RUNNING, SUCCESS, FAILED = RunStatus.RUNNING, RunStatus.SUCCESS, RunStatus.FAILED


@pytest.fixture
def r1(world: World) -> Poller:
    return Poller(world).register()


def refuse(code: str, worker: Poller, job_id: JobId, status: RunStatus, run_id: int | None = None) -> None:
    """The report is refused with that code and changes nothing."""
    before = worker.world.states(job_id)
    with pytest.raises(ConflictError) as refused:
        worker.report(job_id, status, 0, run_id)
    assert refused.value.code == code
    assert worker.world.states(job_id) == before


def test_a_report_that_comes_too_late_changes_nothing_and_leaves_an_event(world: World, r1: Poller) -> None:
    job_id = world.submit_one()
    r1.next_run()
    world.wait(TIMEOUT_MS)
    refuse("not_running", r1, job_id, SUCCESS)
    events = world.engine.execute("SELECT run_first, worker_id FROM events WHERE reason = 'stale'")
    assert events == [(1, "r1")]


# --- the plain way ---


def test_a_worker_asks_runs_and_reports(world: World, r1: Poller) -> None:
    job_id = world.submit_one("echo hello")
    order = r1.next_run()
    assert (order.job_id, order.command) == (job_id, "echo hello")
    assert r1.report(job_id, RUNNING) == order.run_id
    assert r1.report(job_id, SUCCESS, 0, logs=b"hello\n") == order.run_id
    assert world.states(job_id) == ["success/exit"]
    assert world.engine.execute("SELECT form, stdout_head FROM outputs") == [("text", b"hello\n")]
    assert r1.next() is None


def test_a_worker_may_report_the_end_without_the_beginning(world: World, r1: Poller) -> None:
    job_id = world.submit_one()
    order = r1.next_run()
    r1.report(job_id, FAILED)
    assert world.states(job_id) == ["failed/reported"]
    assert world.run(order.run_id).started_ms == world.run(order.run_id).claimed_ms


def test_a_job_is_handed_out_once(world: World, r1: Poller) -> None:
    world.submit_one()
    assert r1.next() is not None
    assert Poller(world, "r2").register().next() is None


def test_a_worker_that_polls_gets_nothing_unasked(world: World, r1: Poller) -> None:
    job_id = world.submit_one()
    world.wait(5_000, r1)
    assert world.states(job_id) == ["pending"]


def test_workers_of_both_kinds_share_one_queue(world: World, r1: Poller) -> None:
    w1 = Peer(world, slots=1).join()
    first, second = world.submit(2)
    assert world.run(w1.take_one()).job_id == first
    assert r1.next_run().job_id == second


def test_a_worker_with_more_slots_gets_more_runs(world: World) -> None:
    r1 = Poller(world, slots=2).register()
    jobs = world.submit(3)
    assert [r1.next_run().job_id, r1.next_run().job_id] == jobs[:2]


# --- an answer that was lost ---


def test_run_whose_answer_was_lost_is_dispatched_again_with_the_same_id(world: World, r1: Poller) -> None:
    job_id = world.submit_one()
    first = r1.next_run()
    assert r1.next_run() == first
    assert world.states(job_id) == ["running"]


def test_with_free_slots_a_lost_answer_comes_again_only_after_the_timeout(world: World) -> None:
    r1 = Poller(world, slots=2).register()
    world.submit_one()
    first = r1.next_run()
    assert r1.next() is None
    world.wait(TIMEOUT_MS, r1)
    assert r1.next() is None
    world.wait(1, r1)
    assert r1.next_run() == first


def test_a_run_that_was_said_to_run_is_not_given_again(world: World) -> None:
    r1 = Poller(world, slots=2).register()
    job_id = world.submit_one()
    r1.next_run()
    r1.report(job_id, RUNNING)
    world.wait(TIMEOUT_MS + 1, r1)
    assert r1.next() is None


def test_a_worker_that_asks_with_all_slots_busy_has_lost_its_oldest_run(world: World, r1: Poller) -> None:
    job_id = world.submit_one()
    first = r1.next_run()
    r1.report(job_id, RUNNING)
    # It is idle, or it would not ask. The run is tried again, and may well come to the same worker.
    again = r1.next_run()
    assert again.run_id > first.run_id
    assert world.states(job_id) == ["failed/worker_lost", "running"]
    assert world.run(again.run_id).attempt == 2
    refuse("not_running", r1, job_id, SUCCESS, first.run_id)


def test_of_several_busy_slots_the_oldest_is_lost(world: World) -> None:
    r1 = Poller(world, slots=2).register()
    jobs = world.submit(3)
    for job_id in jobs[:2]:
        r1.next_run()
        r1.report(job_id, RUNNING)
    assert r1.next_run().job_id == jobs[2]
    assert [world.states(job_id) for job_id in jobs] == [["failed/worker_lost", "pending"], ["running"], ["running"]]


def test_a_run_lost_in_this_way_disturbs_no_later_call(world: World, r1: Poller) -> None:
    job_id = world.submit_one()
    for _ in range(2):
        r1.next_run()
        r1.report(job_id, RUNNING)
        world.wait(2_000, r1)
    r1.next()
    world.wait(2_000, r1)
    assert world.states(job_id)[:2] == ["failed/worker_lost"] * 2


# --- reports ---


def test_the_same_end_reported_twice_is_well(world: World, r1: Poller) -> None:
    job_id = world.submit_one()
    run_id = r1.next_run().run_id
    assert r1.report(job_id, SUCCESS, 0) == r1.report(job_id, SUCCESS, 0) == run_id
    refuse("not_running", r1, job_id, FAILED)
    refuse("not_running", r1, job_id, RUNNING)


def test_a_worker_that_does_not_own_the_run_is_refused(world: World, r1: Poller) -> None:
    job_id = world.submit_one()
    run_id = r1.next_run().run_id
    r2 = Poller(world, "r2").register()
    for status in (RUNNING, SUCCESS, FAILED):
        refuse("not_owner", r2, job_id, status)
        refuse("not_owner", r2, job_id, status, run_id)
    assert r1.report(job_id, SUCCESS, 0) == run_id


def test_a_connected_workers_run_is_not_reported_over_rest(world: World) -> None:
    w1 = Peer(world, "w1").join()
    job_id = world.submit_one()
    run_id = w1.take_one()
    refuse("connected", Poller(world, "w1"), job_id, SUCCESS)
    refuse("not_owner", Poller(world, "r1").register(), job_id, SUCCESS)
    assert w1.finish(run_id) == "stored"


def test_a_report_on_an_unknown_job_is_not_found(world: World, r1: Poller) -> None:
    with pytest.raises(NotFoundError):
        r1.report(JobId(99), RUNNING)


def test_a_report_must_name_the_run_when_two_of_the_job_are_live(world: World) -> None:
    r1 = Poller(world, slots=2).register()
    job_id = world.submit_one()
    first = r1.next_run().run_id
    world.by_hand(
        "INSERT INTO runs (job_id, task, attempt, demand_id, priority, status, created_ms)"
        " SELECT job_id, 1, 1, demand_id, 0, 'pending', 0 FROM runs"
    )
    world.by_hand("UPDATE jobs SET pending = 1")
    second = r1.next_run().run_id
    refuse("run_id_required", r1, job_id, SUCCESS)
    assert r1.report(job_id, SUCCESS, 0, second) == second
    assert r1.report(job_id, SUCCESS, 0) == first


def test_a_report_that_names_a_run_of_another_job_is_refused(world: World, r1: Poller) -> None:
    job_id, other = world.submit(2)
    run_id = r1.next_run().run_id
    refuse("not_owner", r1, other, SUCCESS, run_id)
    refuse("not_owner", r1, job_id, SUCCESS, 99)


def test_a_worker_without_a_session_can_still_report_what_it_ran(world: World, r1: Poller) -> None:
    """Its run was lost with it: so the word comes too late, and it is told so."""
    job_id = world.submit_one()
    r1.next_run()
    r1.report(job_id, RUNNING)
    world.wait(TIMEOUT_MS)
    refuse("not_running", r1, job_id, SUCCESS)


def test_a_report_is_a_sign_of_life(world: World, r1: Poller) -> None:
    job_id = world.submit_one()
    r1.next_run()
    world.wait(TIMEOUT_MS - 1)
    r1.report(job_id, RUNNING)
    world.wait(TIMEOUT_MS - 1)
    assert world.worker("r1").status == WorkerStatus.ACTIVE


# --- life and death ---


def test_an_unknown_worker_is_sent_to_register_first(world: World) -> None:
    stranger = Poller(world, "stranger")
    with pytest.raises(NotFoundError):
        stranger.beat()
    with pytest.raises(NotFoundError):
        stranger.next()
    assert world.store.worker(WorkerId("stranger")) is None


def test_silent_worker_is_inactive_at_the_timeout_and_its_run_tried_again(world: World, r1: Poller) -> None:
    job_id = world.submit_one()
    r1.next_run()
    r1.report(job_id, RUNNING)
    world.wait(TIMEOUT_MS - 1)
    assert world.worker("r1").status == WorkerStatus.ACTIVE
    world.wait(1)
    assert world.worker("r1").status == WorkerStatus.INACTIVE
    assert world.states(job_id) == ["failed/worker_lost", "pending"]


@pytest.mark.parametrize("way", ["beat", "next"])
def test_a_worker_that_was_inactive_simply_goes_on(world: World, r1: Poller, way: str) -> None:
    world.wait(TIMEOUT_MS)
    assert world.worker("r1").status == WorkerStatus.INACTIVE
    if way == "beat":
        r1.beat()
    else:
        r1.next()
    assert world.worker("r1").status == WorkerStatus.ACTIVE
    world.wait(TIMEOUT_MS)
    assert world.worker("r1").status == WorkerStatus.INACTIVE


def test_a_worker_goes_on_after_a_restart_without_registering(world: World, r1: Poller) -> None:
    job_id = world.submit_one()
    run_id = r1.next_run().run_id
    r1.report(job_id, RUNNING)
    world.restart()
    r1.beat()
    assert r1.report(job_id, SUCCESS, 0) == run_id
    world.submit_one()
    assert r1.next() is not None


def test_a_worker_that_stays_away_after_a_restart_is_judged(world: World, r1: Poller) -> None:
    job_id = world.submit_one()
    r1.next_run()
    world.restart()
    world.wait(TIMEOUT_MS)
    assert world.worker("r1").status == WorkerStatus.INACTIVE
    assert world.states(job_id) == ["failed/worker_lost", "pending"]


def test_register_again_ends_what_the_name_still_held(world: World, r1: Poller) -> None:
    job_id = world.submit_one()
    r1.next_run()
    r1.report(job_id, RUNNING)
    r1.register()
    assert world.states(job_id) == ["failed/worker_lost", "pending"]
    assert world.runs(job_id)[-1].crashes == 1


def test_a_name_that_is_connected_is_taken(world: World) -> None:
    w1 = Peer(world, "w1").join()
    double = Poller(world, "w1")
    for call in (double.register, double.beat, double.next):
        with pytest.raises(ConflictError) as refused:
            call()
        assert refused.value.code == "connected"
    assert w1.beat().kill == ()


def test_a_name_that_was_connected_once_must_register_over_rest(world: World) -> None:
    Peer(world, "w1").join()
    world.wait(TIMEOUT_MS)
    now_polls = Poller(world, "w1")
    with pytest.raises(NotFoundError):
        now_polls.beat()
    now_polls.register()
    now_polls.beat()
    assert world.worker("w1").kind == "rest"


def test_worker_beyond_the_bound_is_asked_to_come_later(
    world: World, r1: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polling, "SESSIONS_MAX", 1)
    with pytest.raises(BusyError):
        Poller(world, "r2").register()
    assert world.store.worker(WorkerId("r2")) is None
    r1.register()


# --- what the scheduler ends itself ---


def test_a_run_ends_at_timeout_and_grace_whatever_its_worker_does(world: World, r1: Poller) -> None:
    job_id = world.submit_one(timeout_ms=5_000)
    run_id = r1.next_run().run_id
    r1.report(job_id, RUNNING)
    world.wait(5_000 + GRACE_MS_DEFAULT - 1, r1)
    assert world.states(job_id) == ["running"]
    world.wait(1, r1)
    assert world.states(job_id) == ["failed/timeout"]
    refuse("not_running", r1, job_id, SUCCESS)
    refuse("not_running", r1, job_id, FAILED, run_id)
    world.wait(5_000, r1)
    assert world.worker("r1").status == WorkerStatus.ACTIVE
    world.submit_one()
    assert r1.next() is not None


def test_a_connected_workers_run_is_not_ended_by_the_scheduler(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(timeout_ms=5_000)
    w1.start(w1.take_one())
    world.wait(60_000, w1)
    assert world.states(job_id) == ["running"]


def test_a_worker_gets_nothing_that_needs_what_it_can_not_do(world: World) -> None:
    job_id = world.submit_one()
    world.by_hand("UPDATE demands SET wish = ?", '{"needs":["env"],"probation":false}')
    world.restart()
    assert Poller(world, "plain").register().next() is None
    able = Poller(world, "able", can=("env",)).register()
    assert able.next_run().job_id == job_id


def test_a_suspect_is_on_probation_here_too(world: World) -> None:
    r1 = Poller(world, slots=3).register()
    jobs = world.submit(2)
    # After the second death they are on probation one by one.
    for _ in range(2):
        for _ in jobs:
            r1.report(r1.next_run().job_id, RUNNING)
        r1.register()
    first = r1.next_run()
    assert r1.next() is None
    r1.report(first.job_id, RUNNING)
    world.wait(999, r1)
    assert r1.next() is None
    world.wait(1, r1)
    assert r1.next() is not None


def test_probation_ends_after_a_restart_of_the_scheduler(world: World, r1: Poller) -> None:
    job_id = suspect_again(world, r1)
    world.restart()
    world.wait(PROBATION_MS + TIMEOUT_MS // 10, r1)
    assert [run.probation for run in world.runs(job_id)][-1] == 0


def test_probation_ends_although_the_turn_that_ended_it_fails(world: World, r1: Poller) -> None:
    job_id = suspect_again(world, r1)
    world.jump(2 * PROBATION_MS)
    world.ask_in_failing_turn(r1.beat_command())
    world.wait(PROBATION_MS + TIMEOUT_MS // 10, r1)
    assert [run.probation for run in world.runs(job_id)][-1] == 0


def suspect_again(world: World, r1: Poller) -> JobId:
    """A job that lost its worker once and runs again on probation."""
    job_id = world.submit_one()
    for _ in range(2):
        r1.register()
        r1.report(r1.next_run().job_id, RUNNING)
    assert [run.probation for run in world.runs(job_id)][-1] > 0
    return job_id
