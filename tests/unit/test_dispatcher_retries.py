"""What follows a failure or a loss: retries and their pauses, starting only once, leases, and what can't be ended."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from tests.unit.world import TIMEOUT_MS, Peer, Poller, World
from zsched.model.backoff import Backoff
from zsched.model.limits import LEASE_MARGIN_MS
from zsched.model.types import JobId, OnDisconnect, OnLost, Policy, RunStatus
from zsched.protocol import Heartbeat, Held, Registered, Result, ResultAck, Return, RunResult, WorkerBye
from zsched.scheduler.dispatcher import arrival

STEADY = Backoff(initial_ms=1_000, factor=2, max_ms=3_000, jitter=0)
STOP = Policy(on_disconnect=OnDisconnect.STOP)
ONCE = Policy(on_lost=OnLost.FAIL)


def retrying(retries: int, backoff: Backoff = STEADY) -> Policy:
    return Policy(retries=retries, backoff=backoff)


def stopper(world: World, name: str = "w1") -> Peer:
    """A worker that ends a run in time when it can't reach the scheduler."""
    worker = Peer(world, name)
    worker.can = ("stop",)
    return worker.join()


def fail_the_next(worker: Peer) -> int:
    run_id = worker.take_one()
    assert worker.finish(run_id, 1) == "stored"
    return run_id


# --- retries ---


def test_a_job_fails_at_once_unless_it_asks_for_retries(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    fail_the_next(w1)
    assert world.states(job_id) == ["failed/exit"]
    assert world.job(job_id).status == RunStatus.FAILED


def test_a_failed_task_is_tried_again_until_its_retries_are_used_up(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=retrying(2))
    for pause_ms in (1_000, 2_000):
        fail_the_next(w1)
        assert world.job(job_id).status == RunStatus.PENDING
        world.wait(pause_ms - 1, w1)
        assert w1.take() == []
        world.wait(1, w1)
    fail_the_next(w1)
    assert world.states(job_id) == ["failed/exit"] * 3
    assert world.job(job_id).status == RunStatus.FAILED
    assert [(run.attempt, run.failures) for run in world.runs(job_id)] == [(1, 0), (2, 1), (3, 2)]


def test_a_retry_that_succeeds_makes_the_job_a_success(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=retrying(1, Backoff(initial_ms=0)))
    fail_the_next(w1)
    assert w1.finish(w1.take_one()) == "stored"
    assert world.states(job_id) == ["failed/exit", "success/exit"]
    assert world.job(job_id).status == RunStatus.SUCCESS


def test_result_that_contradicts_itself_is_retried_like_any_failure(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=retrying(1))
    result = structs.replace(w1.result(w1.take_one()), exit_code=3)
    w1.say(Result(s=w1.session, results=(result,)))
    assert w1._answer(ResultAck).verdicts == ((result.run, "stored"),)
    w1.held.clear()
    assert world.states(job_id) == ["failed/exit", "pending"]


def test_a_pause_grows_to_its_bound_and_is_shorter_by_its_jitter_at_most(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=retrying(5))
    for pause_ms in (1_000, 2_000, 3_000, 3_000):
        fail_the_next(w1)
        world.wait(pause_ms - 1, w1)
        assert w1.take() == []
        world.wait(1, w1)
    assert len(world.runs(job_id)) == 5
    w1.take_one()


def test_a_loss_uses_no_retry_up(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=retrying(1, Backoff(initial_ms=0)))
    w1.start(w1.take_one())
    w1 = w1.again().join()
    fail_the_next(w1)
    assert w1.finish(w1.take_one()) == "stored"
    assert world.states(job_id) == ["failed/worker_lost", "failed/exit", "success/exit"]


def test_a_cancelled_job_is_not_tried_again(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=retrying(3))
    run_id = w1.take_one()
    world.cancel(job_id)
    world.sent_to(w1.peer)
    assert w1.finish(run_id, 1) == "stored"
    assert world.states(job_id) == ["cancelled/cancelled"]


def test_a_retry_that_waits_is_cancelled_with_its_job(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=retrying(3))
    fail_the_next(w1)
    world.cancel(job_id)
    world.wait(10_000, w1)
    assert w1.take() == []
    assert world.states(job_id) == ["failed/exit", "cancelled/cancelled"]


def test_result_that_is_reported_twice_makes_one_retry(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=retrying(3))
    run_id = fail_the_next(w1)
    assert w1.finish(run_id, 1) == "duplicate"
    assert len(world.runs(job_id)) == 2


def test_a_fire_of_a_recurring_job_is_tried_again_and_counts_as_one_task(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("* * * * *", run_now=True)
    world.by_hand("UPDATE jobs SET retries = 1, backoff = '[0, 2, 0, 0]' WHERE job_id = ?", job_id)
    fail_the_next(w1)
    fail_the_next(w1)
    assert world.states(job_id) == ["failed/exit"] * 2
    assert world.job(job_id).status == RunStatus.FAILED
    world.wait(60_000, w1)
    assert w1.finish(w1.take_one()) == "stored"
    assert world.job(job_id).status == RunStatus.SUCCESS


def test_what_a_worker_over_rest_says_failed_is_tried_again_too(world: World) -> None:
    r1 = Poller(world).register()
    job_id = world.submit_one(policy=retrying(1, Backoff(initial_ms=0)))
    r1.next_run()
    r1.report(job_id, RunStatus.FAILED, 1)
    assert r1.next_run().attempt == 2
    r1.report(job_id, RunStatus.SUCCESS, 0)
    assert world.states(job_id) == ["failed/exit", "success/exit"]


def test_damaged_row_is_not_tried_again_and_stops_nothing_else(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=retrying(3))
    run_id = w1.take_one()
    world.by_hand("UPDATE jobs SET backoff = 'soon' WHERE job_id = ?", job_id)
    assert w1.finish(run_id, 1) == "stored"
    assert world.states(job_id) == ["failed/exit"]


# --- at most once ---


@pytest.mark.parametrize("started", [True, False])
def test_a_job_that_may_start_only_once_fails_when_its_worker_is_lost(world: World, started: bool) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=ONCE)
    run_id = w1.take_one()
    if started:
        w1.start(run_id)
    world.wait(TIMEOUT_MS)
    assert world.states(job_id) == ["failed/worker_lost"]
    assert world.job(job_id).status == RunStatus.FAILED


def test_run_once_job_is_pending_again_when_a_heartbeat_lacks_it(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=ONCE)
    run_id = w1.take_one()
    w1.held.clear()
    w1.beat()
    assert w1.take() == [run_id]
    assert [(run.attempt, run.crashes) for run in world.runs(job_id)] == [(1, 0)]


@pytest.mark.parametrize("restarted", [True, False])
def test_run_once_job_is_pending_again_when_a_register_lacks_it(world: World, restarted: bool) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=ONCE)
    run_id = w1.take_one()
    w1.held.clear()
    if restarted:
        world.restart()
    w1.register()
    assert world.states(job_id) == ["pending/returned"]
    w1.ready()
    assert w1.take() == [run_id]


def test_run_once_job_fails_when_it_has_started_and_is_not_listed(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=ONCE)
    w1.start(w1.take_one())
    w1.held.clear()
    w1.register()
    assert world.states(job_id) == ["failed/worker_lost"]


@pytest.mark.parametrize("new", [{"incarnation": "i2"}, {"db": "another"}])
def test_register_of_a_new_guard_or_database_proves_no_unstarted_run(world: World, new: dict[str, str]) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=ONCE)
    w1.take_one()
    w1.held.clear()
    for name, value in new.items():
        setattr(w1, name, value)
    w1.register()
    assert world.states(job_id) == ["failed/worker_lost"]


@pytest.mark.parametrize("unknown", [{"sent_ms": 0}, {"boot_id": ""}])
def test_register_that_may_be_late_does_not_prove_an_unstarted_run(world: World, unknown: dict[str, Any]) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=ONCE)
    w1.take_one()
    w1.held.clear()
    w1.say(structs.replace(w1.introduction(), **unknown))
    world.sent(Registered)
    assert world.states(job_id) == ["failed/worker_lost"]


def test_a_list_that_is_full_does_not_prove_that_a_run_never_started(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "FRAME_LIST_MAX", 2)
    w1 = Peer(world).join()
    jobs = world.submit(2, policy=ONCE)
    first, _ = w1.take()
    w1.held = {first: "finished", 1_000: "finished"}
    w1.beat()
    assert [world.states(job_id) for job_id in jobs] == [["running"], ["failed/worker_lost"]]


def test_run_listed_as_finished_is_not_unstarted_in_a_later_list(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=ONCE)
    w1.held[w1.take_one()] = "finished"
    w1.register()
    w1.held.clear()
    w1.beat()
    assert world.states(job_id) == ["failed/worker_lost"]


@pytest.mark.parametrize(
    ("said", "state"),
    [(None, "failed/worker_lost"), ((), "pending/returned"), ((Held(1, "running"),), "failed/worker_lost")],
)
def test_run_once_job_is_pending_again_when_a_goodbye_lacks_it(
    world: World, said: tuple[Held, ...] | None, state: str
) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=ONCE)
    assert w1.take_one() == 1
    w1.say(WorkerBye(s=w1.session, reason="shutdown", runs=said))
    assert world.states(job_id) == [state]


def test_a_job_that_may_start_only_once_and_comes_back_unstarted_may_start(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one(policy=ONCE)
    run_id = w1.take_one()
    w1.say(Return(s=w1.session, runs=(run_id,)))
    assert w1.take() == [run_id]
    assert world.states(job_id) == ["running"]


def test_a_job_that_may_start_only_once_never_waits_on_a_worker(world: World) -> None:
    w1 = Peer(world, slots=1)
    w1.register()
    w1.ready(ahead=5)
    world.submit(3, policy=ONCE)
    assert len(w1.take()) == 1


def test_a_failure_by_itself_may_be_tried_again_all_the_same(world: World) -> None:
    w1 = Peer(world).join()
    policy = Policy(on_lost=OnLost.FAIL, retries=1, backoff=Backoff(initial_ms=0))
    job_id = world.submit_one(policy=policy)
    fail_the_next(w1)
    w1.take_one()
    world.wait(TIMEOUT_MS)
    assert world.states(job_id) == ["failed/exit", "failed/worker_lost"]


# --- leases ---


def test_leased_run_goes_only_to_a_worker_that_can_stop_with_its_length(world: World) -> None:
    plain, w1 = Peer(world, "plain").join(), stopper(world)
    job_id = world.submit_one(policy=STOP)
    assert plain.take() == []
    run_id = w1.take_one()
    assert w1.orders[run_id].lease_ms == TIMEOUT_MS
    assert world.states(job_id) == ["running"]


def test_no_run_with_a_lease_goes_to_a_worker_that_polls(world: World) -> None:
    r1 = Poller(world, can=("stop",)).register()
    world.submit_one(policy=STOP)
    assert r1.next() is None


def test_leased_worker_is_lost_only_when_the_lease_is_over_by_any_clock(world: World) -> None:
    w1 = stopper(world)
    job_id = world.submit_one(policy=STOP)
    w1.start(w1.take_one())
    margin_ms = max(LEASE_MARGIN_MS, TIMEOUT_MS // 30)
    world.wait(TIMEOUT_MS + margin_ms - 1)
    assert world.states(job_id) == ["running"]
    world.wait(1)
    assert world.states(job_id) == ["failed/worker_lost", "pending"]


def test_a_lease_is_as_long_as_it_was_when_the_run_was_handed_out(world: World) -> None:
    w1 = stopper(world)
    job_id = world.submit_one(policy=STOP)
    w1.take_one()
    world.by_hand("UPDATE runs SET lease_ms = ?", 3 * TIMEOUT_MS)
    world.restart()
    world.wait(3 * TIMEOUT_MS)
    assert world.states(job_id) == ["running"]
    world.wait(TIMEOUT_MS)
    assert world.states(job_id) == ["failed/worker_lost", "pending"]


def test_a_run_that_its_worker_ended_in_time_goes_on_elsewhere(world: World) -> None:
    w1 = stopper(world)
    job_id = world.submit_one(policy=STOP)
    run_id = w1.take_one()
    w1.start(run_id)
    tell_lease_stop(world, w1, run_id)
    assert world.states(job_id) == ["failed/lease_stop", "running"]
    assert [(run.attempt, run.failures, run.crashes) for run in world.runs(job_id)] == [(1, 0, 0), (2, 0, 0)]


def test_run_ended_by_its_lease_does_not_start_twice_where_that_is_asked(world: World) -> None:
    w1 = stopper(world)
    job_id = world.submit_one(policy=Policy(on_disconnect=OnDisconnect.STOP, on_lost=OnLost.FAIL))
    run_id = w1.take_one()
    tell_lease_stop(world, w1, run_id)
    assert world.states(job_id) == ["failed/lease_stop"]


def tell_lease_stop(world: World, worker: Peer, run_id: int) -> None:
    now_ms = world.wall_ms
    ended = RunResult(run_id, "failed", "lease_stop", signal=15, started_ms=now_ms, finished_ms=now_ms)
    worker.say(Result(s=worker.session, results=(ended,)))
    (ack,) = [frame for frame in world.sent_to(worker.peer) if isinstance(frame, ResultAck)]
    assert ack.verdicts == ((run_id, "stored"),)


# --- what can't be ended ---


def test_stuck_run_goes_to_no_other_worker_when_its_own_is_lost(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    run_id = w1.take_one()
    w1.start(run_id)
    w1.beat(stuck=(run_id,))
    w1.beat(stuck=(run_id,))
    assert [reason for _, reason, _ in world.events("running") if reason == "stuck"] == ["stuck"]
    world.wait(TIMEOUT_MS)
    assert world.states(job_id) == ["failed/unkillable"]
    assert world.job(job_id).status == RunStatus.FAILED


def test_stuck_report_about_the_run_of_another_worker_is_ignored(world: World) -> None:
    w1, w2 = Peer(world).join(), Peer(world, "w2").join()
    job_id = world.submit_one()
    run_id = w1.take_one()
    w2.say(Heartbeat(s=w2.session, seq=1, n=0, window=2, ahead=0, stuck=(run_id,)))
    world.sent_to(w2.peer)
    world.wait(TIMEOUT_MS, w2)
    w2.take_one()
    assert world.states(job_id)[0] == "failed/worker_lost"


# --- a new start with results of an old one ---


def test_what_a_new_start_says_has_ended_is_not_lost_and_its_result_counts(world: World) -> None:
    w1 = Peer(world).join()
    ended, lives = world.submit(2)
    first, second = w1.take()
    w1.start(first, second)
    again = w1.again()
    again.held[first] = "finished"
    again.register()
    assert world.states(ended) == ["running"]
    assert world.states(lives)[0] == "failed/worker_lost"
    assert again.finish(first) == "stored"
    assert world.states(ended) == ["success/exit"]


def test_what_has_ended_is_not_blamed_for_the_end_of_its_worker(world: World) -> None:
    w1 = Peer(world).join()
    jobs = world.submit(2)
    first, second = w1.take()
    w1.start(first, second)
    again = w1.again()
    again.held[first] = "finished"
    again.register()
    assert crashes(world, jobs[0]) == 0
    assert crashes(world, jobs[1]) == 1


def crashes(world: World, job_id: JobId) -> int:
    return world.runs(job_id)[-1].crashes


def test_new_start_that_names_another_database_has_none_of_our_results(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.submit_one()
    run_id = w1.take_one()
    again = w1.again()
    again.db, again.held[run_id] = "another", "finished"
    again.register()
    assert world.states(job_id)[0] == "failed/worker_lost"
