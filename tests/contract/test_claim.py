"""Claims: the order, the bounds, the fencing token, and a row that can't be handed out."""

from __future__ import annotations

import pytest

from tests.contract.base import NOW, W1, W2, Base
from zsched.model.demand import Demand
from zsched.model.types import DemandId, JobSpec, Reason, RunId, RunStatus
from zsched.store.contract import Claimed, Holding, Load


def submit_with_priorities(base: Base, *priorities: int) -> list[RunId]:
    """One run for each priority, in this order. Submits know no priority yet, so the rows are set by hand."""
    runs = []
    for priority in priorities:
        run_id = base.last_run(base.submit()).run_id
        base.rows("UPDATE runs SET priority = ? WHERE run_id = ?", priority, run_id)
        runs.append(run_id)
    return runs


def test_claim_takes_highest_priority_first_and_oldest_within_a_priority(base: Base) -> None:
    low, high_old, middle, high_young = submit_with_priorities(base, 0, 9, 5, 9)
    assert [run.run_id for run in base.claim()] == [high_old, high_young, middle, low]


def test_a_claim_takes_the_best_when_it_can_not_take_all(base: Base) -> None:
    _low, high_old, _middle, high_young = submit_with_priorities(base, 0, 9, 5, 9)
    assert [run.run_id for run in base.claim(count=2)] == [high_old, high_young]


def test_a_claim_takes_nothing_below_its_floor(base: Base) -> None:
    _low, high, middle = submit_with_priorities(base, 0, 9, 5)
    assert [run.run_id for run in base.claim(floor=5)] == [high, middle]
    assert base.claim(floor=1) == []


def test_a_claim_that_finds_nothing_is_empty_and_changes_nothing(base: Base) -> None:
    base.submit()
    demand_id = base.store.ready(NOW)[0].demand_id
    base.claim()
    before = base.store.rows_changed
    assert base.claim_of(demand_id) == []
    assert base.store.rows_changed == before


def test_a_claimed_run_carries_all_that_its_worker_needs(base: Base) -> None:
    job_id = base.submit("backup", command="tar c /", timeout_ms=5_000)
    (claimed,) = base.claim(W1, n=7, now_ms=NOW + 4)
    run_id = base.last_run(job_id).run_id
    assert claimed == Claimed(
        run_id=run_id,
        job_id=job_id,
        task=0,
        attempt=1,
        name="backup",
        command="tar c /",
        timeout_ms=5_000,
        grace_ms=10_000,
        probation=False,
        job_created_ms=NOW,
        job_updated_ms=NOW,
    )
    run = base.run(run_id)
    assert (run.status, run.worker_id, run.claimed_ms) == (RunStatus.RUNNING, W1, NOW + 4)
    assert base.store.held_by(W1) == [Holding(run_id, job_id, 7, NOW + 4, None, 0, False, 0, Demand())]


def test_a_job_that_names_a_user_is_for_workers_that_know_of_users(base: Base) -> None:
    specs = [JobSpec(name="a", command="true", user=user) for user in (None, "alice", "bob")]
    plain, alice, bob = base.store.submit(specs, [None] * 3, "test", NOW)
    ready = {one.demand.needs: one.demand_id for one in base.store.ready(NOW)}
    assert ready.keys() == {(), ("user",)}
    claims = {needs: base.claim_of(demand_id) for needs, demand_id in ready.items()}
    assert [(run.job_id, run.user) for run in claims[()]] == [(plain, None)]
    assert [(run.job_id, run.user) for run in claims["user",]] == [(alice, "alice"), (bob, "bob")]
    assert base.store.job(alice).user == "alice"  # type: ignore[union-attr]
    # So does what follows when the worker is lost.
    base.store.fail_lost(claims["user",][0].run_id, "lost", crash=True, together=1, due_ms=None, now_ms=NOW)
    assert [one.demand.needs for one in base.store.ready(NOW)] == [("user",)]


def test_a_run_is_claimed_once(base: Base) -> None:
    base.submit()
    assert len(base.claim(W1)) == 1
    assert base.claim(W2) == []


def test_claim_is_two_statements_however_many_runs(base: Base) -> None:
    for _ in range(10):
        base.submit()
    demand_id = base.store.ready(NOW)[0].demand_id
    before = base.store.rows_changed
    with base.trace() as executed:
        assert len(base.claim()) == 10
    # `claim` of the test's base asks for the ready demands as well.
    assert len(executed) == 3
    assert base.store.rows_changed - before == 10
    with base.trace() as executed:
        base.store.ready_count(demand_id, 9)
    assert len(executed) == 1


def test_results_of_one_frame_are_one_statement(base: Base) -> None:
    for _ in range(11):
        base.submit()
    first, *outcomes = (base.outcome(run.run_id) for run in base.claim())
    # The first end after a start reads for which tasks jobs wait.
    base.store.finish_many([first], W1, NOW)
    with base.trace() as executed:
        assert base.store.finish_many(outcomes, W1, NOW) == ["stored"] * 10
    assert len(executed) == 1


def test_ready_demands_stand_by_priority_then_age(base: Base) -> None:
    older, younger, best = submit_with_priorities(base, 3, 3, 4)
    second = base.store._demand_id(Demand(needs=("env",)))
    third = base.store._demand_id(Demand(needs=("cwd",)))
    base.rows("UPDATE runs SET demand_id = ? WHERE run_id = ?", second, older)
    base.rows("UPDATE runs SET demand_id = ? WHERE run_id = ?", third, best)
    ready = base.store.ready(NOW)
    assert [(one.run_id, one.priority, one.demand.needs) for one in ready] == [
        (best, 4, ("cwd",)),
        (older, 3, ("env",)),
        (younger, 3, ()),
    ]


def test_ready_runs_are_counted_no_further_than_asked(base: Base) -> None:
    for _ in range(3):
        base.submit()
    demand_id = base.store.ready(NOW)[0].demand_id
    assert base.store.ready_count(demand_id, 2) == 2
    assert base.store.ready_count(demand_id, 9) == 3
    assert base.store.ready_count(demand_id, 0) == 0
    assert base.store.ready_count(DemandId(99), 9) == 0


@pytest.mark.parametrize("bit", [1, 2, 4, 8, 16, 32])
def test_any_blocked_bit_keeps_a_run_from_being_ready(base: Base, bit: int) -> None:
    base.submit()
    base.rows("UPDATE runs SET blocked = ?", bit)
    assert base.store.ready(NOW) == []
    ready = base.last_run(base.submit()).run_id
    demand_id = base.store.ready(NOW)[0].demand_id
    assert base.store.ready_count(demand_id, 9) == 1
    assert [run.run_id for run in base.claim()] == [ready]


def test_load_counts_what_runs_on_that_worker(base: Base) -> None:
    assert base.store.load(W1) == Load(0, 0)
    base.running(W1)
    base.running(W2)
    assert base.store.load(W1) == Load(1, 0)


def test_running_run_is_read_again_as_it_was_claimed(base: Base) -> None:
    base.submit()
    (claimed,) = base.claim()
    assert base.store.find_claimed(claimed.run_id) == claimed
    assert base.store.find_claimed(RunId(99)) is None


# --- rows that can't be handed out ---


@pytest.mark.parametrize("damage", ["UPDATE jobs SET command = ''", None], ids=["no command", "unreadable"])
def test_damaged_job_fails_alone(base: Base, damage: str | None) -> None:
    bad = base.submit()
    base.rows(damage or base.DAMAGE_JOBS)
    good = base.submit()
    assert [run.job_id for run in base.claim()] == [good]
    run = base.last_run(bad)
    assert (run.status, run.reason, run.worker_id) == (RunStatus.FAILED, Reason.QUARANTINED, W1)
    assert run.detail is not None
    assert run.detail.startswith("the job's row can't be read:")
    assert base.store.load(W1) == Load(1, 0)
    base.store.flush_counters(NOW)
    assert base.rows("SELECT status, pending, running, failed FROM jobs WHERE job_id = ?", bad) == [("failed", 0, 0, 1)]


# --- runs that the scheduler ends itself ---


def test_a_claim_that_ends_sets_the_time_at_timeout_and_grace(base: Base) -> None:
    base.submit(timeout_ms=5_000)
    (run,) = base.claim(ends=True)
    end_ms = NOW + 5_000 + run.grace_ms
    assert base.store.next_due_ms() == end_ms
    assert base.store.end_overdue(end_ms - 1) == []
    assert base.store.end_overdue(end_ms) == [(W1, run.run_id)]
    ended = base.run(run.run_id)
    assert (ended.status, ended.reason, ended.finished_ms) == (RunStatus.FAILED, Reason.TIMEOUT, end_ms)
    assert base.store.next_due_ms() is None
    assert base.store.end_overdue(end_ms) == []


def test_only_a_job_with_a_timeout_is_ended_by_the_scheduler(base: Base) -> None:
    base.submit()
    base.submit(timeout_ms=5_000)
    base.claim(ends=False)
    base.submit()
    base.claim(ends=True)
    assert base.store.next_due_ms() is None


@pytest.mark.parametrize("way", ["finish", "lose", "put_back", "cancel"])
def test_a_run_that_left_its_worker_is_not_overdue(base: Base, way: str) -> None:
    base.submit(timeout_ms=5_000)
    (run,) = base.claim(ends=True)
    if way == "finish":
        base.finish(run.run_id)
    elif way == "lose":
        base.fail_lost(run.run_id)
    elif way == "put_back":
        base.store.requeue_unstarted(run.run_id, W1, Reason.RETURNED, NOW)
    else:
        base.store.cancel(run.job_id, "ann", NOW)
        base.store.end_cancelled(run.run_id, NOW)
    assert base.store.next_due_ms() is None
    assert base.store.end_overdue(NOW + 10**9) == []
