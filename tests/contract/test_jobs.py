"""Jobs: what a submit makes, what a cancel ends, when a recurring job fires, and what the counters say."""

from __future__ import annotations

import pytest

from tests.contract.base import NOW, W1, W2, Base
from zsched.model.types import Job, JobId, JobSpec, Policy, Reason, RunStatus
from zsched.store.contract import Cancelled, Due

PENDING, RUNNING, SUCCESS = RunStatus.PENDING, RunStatus.RUNNING, RunStatus.SUCCESS
FAILED, CANCELLED = RunStatus.FAILED, RunStatus.CANCELLED


def test_submitted_job_is_stored_as_requested_with_one_pending_run(base: Base) -> None:
    job_id = base.submit("backup", command="tar c /", timeout_ms=5_000)
    base.turn()
    assert base.store.job(job_id) == Job(
        job_id=job_id,
        name="backup",
        command="tar c /",
        status=PENDING,
        created_ms=NOW,
        updated_ms=NOW,
        policy=Policy(timeout_ms=5_000),
        live=True,
    )
    run = base.last_run(job_id)
    assert (run.status, run.attempt, run.task, run.worker_id) == (PENDING, 1, None, None)


def test_jobs_of_one_submit_get_growing_ids_in_order_and_one_event(base: Base) -> None:
    specs = [JobSpec(name=name, command="true") for name in "abc"]
    job_ids = base.store.submit(specs, [None] * 3, "test", NOW)
    base.turn()
    assert job_ids == sorted(job_ids)
    assert [base.store.job(job_id).name for job_id in job_ids] == ["a", "b", "c"]  # type: ignore[union-attr]
    assert [(was, became) for was, became, *_ in base.events()] == [(None, "pending")]


def test_a_submit_writes_each_job_once(base: Base) -> None:
    base.store.submit([JobSpec(name="job", command="true")] * 10, [None] * 10, "test", NOW)
    base.store.flush_counters(NOW)
    # And 10 runs, their demand, an event, and the total of pending tasks.
    assert base.store.rows_changed == 10 + 10 + 1 + 1 + 1


def test_nothing_submitted_is_nothing_made(base: Base) -> None:
    assert base.store.submit([], [], "test", NOW) == []
    assert base.events() == []


def test_a_recurring_job_makes_no_run_at_submit_unless_asked(base: Base) -> None:
    quiet = base.recurring(NOW + 60_000)
    eager = base.recurring(NOW + 60_000, run_now=True)
    assert [ready.run_id for ready in base.store.ready(NOW)] == [base.last_run(eager).run_id]
    assert base.status(quiet) == PENDING


def test_a_mixed_submit_makes_runs_for_those_that_start_now_only(base: Base) -> None:
    plain = JobSpec(name="plain", command="true")
    cron = JobSpec(name="cron", command="true", schedule="* * * * *")
    base.store.submit([plain, cron, plain], [None, NOW, None], "test", NOW)
    base.turn()
    assert [job_id for (job_id,) in base.rows("SELECT job_id FROM runs ORDER BY run_id")] == [1, 3]


def test_unknown_job_returns_none(base: Base) -> None:
    assert base.store.job(JobId(99)) is None


# --- the job's status ---


@pytest.mark.parametrize(
    ("counters", "status"),
    [
        ({}, PENDING),
        ({"unmade": 1}, PENDING),
        ({"pending": 1}, PENDING),
        ({"running": 1}, RUNNING),
        ({"running": 1, "pending": 9, "failed": 1, "cancelled": 1, "success": 1}, RUNNING),
        ({"pending": 1, "failed": 1, "cancelled": 1, "success": 1}, PENDING),
        ({"unmade": 1, "failed": 1, "success": 1}, PENDING),
        ({"failed": 1, "cancelled": 1, "success": 1}, FAILED),
        ({"cancelled": 1, "success": 1}, CANCELLED),
        ({"success": 1}, SUCCESS),
    ],
)
def test_the_status_of_a_job_follows_from_its_counters(base: Base, counters: dict[str, int], status: RunStatus) -> None:
    job_id = base.submit()
    base.by_hand = True
    base.store.flush_counters(NOW)
    values = [counters.get(name, 0) for name in ("unmade", "pending", "running", "success", "failed", "cancelled")]
    base.rows(
        "UPDATE jobs SET unmade = ?, pending = ?, running = ?, success = ?, failed = ?, cancelled = ? WHERE job_id = ?",
        *values,
        job_id,
    )
    job = base.store.job(job_id)
    assert job is not None
    assert job.status == status


def test_a_job_goes_through_the_states_of_its_run(base: Base) -> None:
    job_id = base.submit()
    assert base.status(job_id) == PENDING
    (run,) = base.claim()
    assert base.status(job_id) == RUNNING
    base.fail_lost(run.run_id)
    assert base.status(job_id) == PENDING
    (run,) = base.claim()
    base.finish(run.run_id, status=FAILED)
    assert base.status(job_id) == FAILED


def test_a_job_row_is_written_once_a_turn_with_the_turns_time(base: Base) -> None:
    job_id = base.submit()
    base.turn(NOW)
    (run,) = base.claim()
    base.finish(run.run_id)
    before = base.store.rows_changed
    base.store.flush_counters(NOW + 7)
    job = base.store.job(job_id)
    assert job is not None
    assert job.updated_ms == NOW + 7
    # One job row, two totals, one row of usage and two events.
    assert base.store.rows_changed - before == 6


# --- cancel ---


def test_a_cancel_ends_a_pending_run_at_once(base: Base) -> None:
    job_id = base.submit()
    assert base.store.cancel(job_id, "ann", NOW + 5) == Cancelled(1, [])
    run = base.last_run(job_id)
    assert (run.status, run.reason, run.cancel_ms, run.finished_ms) == (CANCELLED, "cancelled", NOW + 5, NOW + 5)
    assert base.claim() == []
    assert base.status(job_id) == CANCELLED


def test_a_cancel_marks_a_running_run_and_names_its_worker(base: Base) -> None:
    run_id = base.running(W2)
    job_id = base.run(run_id).job_id
    assert base.store.cancel(job_id, "ann", NOW) == Cancelled(0, [(W2, run_id)])
    assert base.run(run_id).status == RUNNING
    assert [held.cancelled for held in base.store.held_by(W2)] == [True]
    assert base.status(job_id) == RUNNING


def test_repeated_cancel_keeps_the_first_time_and_names_the_worker_again(base: Base) -> None:
    run_id = base.running()
    job_id = base.run(run_id).job_id
    base.store.cancel(job_id, "ann", NOW)
    assert base.store.cancel(job_id, "bob", NOW + 9) == Cancelled(0, [(W1, run_id)])
    assert base.run(run_id).cancel_ms == NOW
    assert base.rows("SELECT cancel_by FROM runs WHERE run_id = ?", run_id) == [("ann",)]


def test_cancel_of_an_ended_job_changes_nothing(base: Base) -> None:
    run_id = base.running()
    base.finish(run_id)
    job_id = base.run(run_id).job_id
    assert base.store.cancel(job_id, "ann", NOW) == Cancelled(0, [])
    assert base.run(run_id).status == SUCCESS


def test_a_cancelled_run_ends_cancelled_whatever_its_result_says(base: Base) -> None:
    run_id = base.running()
    base.store.cancel(base.run(run_id).job_id, "ann", NOW)
    assert base.finish(run_id, exit_code=0) == "stored"
    run = base.run(run_id)
    assert (run.status, run.reason, run.exit_code) == (CANCELLED, "cancelled", 0)


def test_a_cancelled_run_that_is_lost_has_no_successor(base: Base) -> None:
    run_id = base.running(started=True)
    job_id = base.run(run_id).job_id
    base.store.cancel(job_id, "ann", NOW)
    assert base.fail_lost(run_id, crash=True) == CANCELLED
    assert base.last_run(job_id).run_id == run_id
    assert base.status(job_id) == CANCELLED


def test_a_cancelled_run_that_is_put_back_ends_cancelled(base: Base) -> None:
    run_id = base.running()
    job_id = base.run(run_id).job_id
    base.store.cancel(job_id, "ann", NOW)
    assert base.store.requeue_unstarted(run_id, W1, Reason.RETURNED, NOW)
    run = base.run(run_id)
    assert (run.status, run.reason, run.worker_id) == (CANCELLED, "cancelled", W1)
    assert base.store.ready(NOW) == []


def test_running_run_with_a_stored_cancel_can_be_ended_by_the_scheduler(base: Base) -> None:
    run_id = base.running()
    base.store.cancel(base.run(run_id).job_id, "ann", NOW)
    base.store.end_cancelled(run_id, NOW + 3)
    run = base.run(run_id)
    assert (run.status, run.reason, run.finished_ms) == (CANCELLED, "cancelled", NOW + 3)


# --- recurring jobs ---


def test_due_jobs_exclude_the_future_and_come_most_overdue_first(base: Base) -> None:
    late, early, later = base.recurring(NOW), base.recurring(NOW - 1), base.recurring(NOW + 1)
    assert [due.job_id for due in base.store.due(NOW, 10)] == [early, late]
    assert [due.job_id for due in base.store.due(NOW, 1)] == [early]
    assert base.store.due(NOW + 1, 10)[-1] == Due(later, "* * * * *", NOW + 1, live=False)
    assert base.store.next_due_ms() == NOW - 1


def test_a_fire_makes_a_run_and_sets_the_next_time(base: Base) -> None:
    job_id = base.recurring(NOW)
    run_id = base.store.fire(job_id, NOW + 60_000, "schedule", NOW)
    assert base.run(run_id).status == PENDING
    assert base.store.due(NOW, 10) == []
    assert base.store.next_due_ms() == NOW + 60_000


def test_due_job_is_live_until_its_last_fire_ended(base: Base) -> None:
    def lives() -> list[bool]:
        base.store.flush_counters(NOW)
        return [due.live for due in base.store.due(NOW, 10)]

    job_id = base.recurring(NOW)
    base.store.fire(job_id, NOW, "schedule", NOW)
    assert lives() == [True]
    (run,) = base.claim()
    assert lives() == [True]
    base.finish(run.run_id)
    assert lives() == [False]


def test_query_of_due_jobs_writes_nothing(base: Base) -> None:
    base.store.fire(base.recurring(NOW), NOW, "schedule", NOW)
    before = base.store.rows_changed
    with base.trace() as executed:
        base.store.due(NOW, 10)
    assert len(executed) == 1
    assert base.store.rows_changed == before


def test_a_recurring_job_has_the_status_of_its_last_fire(base: Base) -> None:
    job_id = base.recurring(NOW)
    for status in (FAILED, SUCCESS):
        base.store.fire(job_id, NOW, "schedule", NOW)
        assert base.status(job_id) == PENDING
        (run,) = base.claim()
        base.finish(run.run_id, status=status)
        assert base.status(job_id) == status


def test_a_skipped_fire_leaves_an_event_and_no_run(base: Base) -> None:
    job_id = base.recurring(NOW)
    base.store.skip_fire(job_id, NOW + 60_000, "schedule", "too late", NOW)
    base.store.flush_counters(NOW)
    assert base.store.due(NOW, 10) == []
    assert base.rows("SELECT count(*) FROM runs") == [(0,)]
    assert base.rows("SELECT job_id, became, detail FROM events")[-1] == (job_id, "fire_skipped", "too late")


def test_a_job_that_fires_no_more_is_never_due(base: Base) -> None:
    job_id = base.recurring(NOW)
    base.store.skip_fire(job_id, None, "schedule", "unreadable", NOW)
    assert base.store.due(NOW + 10**12, 10) == []
    assert base.store.next_due_ms() is None


def test_a_cancel_of_a_recurring_job_ends_its_live_fire_alone(base: Base) -> None:
    job_id = base.recurring(NOW)
    base.store.fire(job_id, NOW, "schedule", NOW)
    base.store.cancel(job_id, "ann", NOW)
    job = base.store.job(job_id)
    assert job is not None
    assert job.cancel_ms is None
    base.store.flush_counters(NOW)
    assert [due.live for due in base.store.due(NOW, 10)] == [False]
    base.store.fire(job_id, NOW + 1, "schedule", NOW)
    assert len(base.claim()) == 1
