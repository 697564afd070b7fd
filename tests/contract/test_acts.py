"""Hold, release and rerun of jobs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.contract.base import NOW, W1, Base
from zsched.model.backoff import Backoff
from zsched.model.blocked import Blocked
from zsched.model.edits import JobEdit
from zsched.model.types import JobId, JobSpec, Policy, Reason, RunStatus
from zsched.store import acts

PENDING, RUNNING, FAILED, CANCELLED = RunStatus.PENDING, RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED
AGAIN = Policy(retries=3, backoff=Backoff(initial_ms=0))


def hold(base: Base, job_id: JobId) -> None:
    assert base.store.hold(job_id, "ann", "disk full", NOW)


def notes(base: Base, job_id: JobId) -> list[tuple[str, str | None]]:
    base.store.flush_counters(NOW)
    statement = "SELECT became, detail FROM events WHERE job_id = ? AND run_first IS NULL ORDER BY event_id"
    return [(became, detail) for became, detail in base.rows(statement, job_id)]


def test_held_job_does_not_start_until_it_is_released(base: Base) -> None:
    job_id = base.submit()
    hold(base, job_id)
    job = base.store.job(job_id)
    assert job is not None
    assert (job.held_ms, job.hold_reason) == (NOW, "disk full")
    assert base.claim() == []
    assert not base.store.hold(job_id, "bob", "", NOW)
    assert base.store.release(job_id, "ann", "mended", NOW)
    assert not base.store.release(job_id, "ann", "", NOW)
    assert [run.job_id for run in base.claim()] == [job_id]
    assert notes(base, job_id) == [("held", "disk full"), ("released", "mended")]
    job = base.store.job(job_id)
    assert job is not None
    assert (job.held_ms, job.hold_reason) == (None, None)


def test_job_is_held_from_its_submit(base: Base) -> None:
    specs = [JobSpec(name="job", command="true", hold=held) for held in (True, False, True)]
    first, second, third = base.store.submit(specs, [None] * 3, "ann", NOW)
    assert [run.job_id for run in base.claim()] == [second]
    assert notes(base, first) == notes(base, third) == [("held", None)]
    assert notes(base, second) == []


def test_hold_in_the_turn_of_a_count_is_obeyed_by_the_claim(base: Base) -> None:
    held, other = base.submit(), base.submit()
    base.count_ready()
    hold(base, held)
    assert [run.job_id for run in base.claim(count=2)] == [other]


def test_running_run_of_a_held_job_goes_on_and_what_follows_it_is_held(base: Base) -> None:
    job_id = base.submit(policy=AGAIN)
    (run,) = base.claim()
    hold(base, job_id)
    assert base.run(run.run_id).status == RUNNING
    base.finish(run.run_id, status=FAILED, exit_code=1)
    retry = base.last_run(job_id)
    assert (retry.status, retry.blocked & Blocked.HELD) == (PENDING, Blocked.HELD)
    assert base.claim() == []
    base.store.release(job_id, "ann", "", NOW)
    (run,) = base.claim()
    assert run.run_id == retry.run_id


@pytest.mark.parametrize("how", ["lost", "returned"])
def test_run_that_comes_back_to_a_held_job_is_held(base: Base, how: str) -> None:
    job_id = base.submit()
    (run,) = base.claim()
    hold(base, job_id)
    if how == "lost":
        base.fail_lost(run.run_id)
    else:
        assert base.store.requeue_unstarted(run.run_id, W1, Reason.RETURNED, NOW)
    assert base.last_run(job_id).status == PENDING
    assert base.claim() == []
    base.store.release(job_id, "ann", "", NOW)
    assert len(base.claim()) == 1


def test_held_run_waits_for_its_time_too(base: Base) -> None:
    spec = JobSpec(name="job", command="true", run_at_ms=NOW + 1_000, hold=True)
    (job_id,) = base.store.submit([spec], [None], "ann", NOW)
    base.store.release(job_id, "ann", "", NOW)
    assert base.claim() == []
    hold(base, job_id)
    assert base.store.release_due(NOW + 1_000, 10) == 1
    assert base.claim() == []
    base.store.release(job_id, "ann", "", NOW)
    assert len(base.claim()) == 1


def test_held_run_expires_at_its_deadline_and_is_cancelled(base: Base) -> None:
    spec = JobSpec(name="job", command="true", deadline_ms=NOW + 1_000, hold=True)
    late, cancelled = base.store.submit([spec, JobSpec(name="job", command="true", hold=True)], [None] * 2, "ann", NOW)
    assert base.store.expire(NOW + 1_000, 10) == 1
    base.store.cancel(cancelled, "ann", NOW, "no need")
    assert [base.last_run(job_id).status for job_id in (late, cancelled)] == [FAILED, CANCELLED]


# --- rerun ---


def fail(base: Base, job_id: JobId) -> None:
    (run,) = base.claim()
    assert run.job_id == job_id
    base.store.start(run.run_id, W1, NOW)
    base.finish(run.run_id, status=FAILED, exit_code=1)


def test_rerun_keeps_the_id_counts_attempts_on_and_forgets_failures(base: Base) -> None:
    job_id = base.submit(policy=Policy(retries=1, backoff=Backoff(initial_ms=0)))
    (run,) = base.claim()
    base.store.start(run.run_id, W1, NOW)
    base.fail_lost(run.run_id, crash=True)
    for _ in range(2):
        fail(base, job_id)
    ended = base.last_run(job_id)
    assert (ended.status, ended.attempt, ended.failures, ended.crashes) == (FAILED, 3, 1, 1)
    run_id = base.store.rerun(job_id, "ann", "fixed", NOW)
    again = base.last_run(job_id)
    assert again.run_id == run_id
    assert (again.status, again.attempt, again.failures, again.crashes, again.returns) == (PENDING, 4, 0, 0, 0)
    for _ in range(2):
        fail(base, job_id)
    assert base.last_run(job_id).status == FAILED
    base.turn()
    job = base.store.job(job_id)
    assert job is not None
    assert job.status == FAILED


def test_rerun_leaves_an_event_with_its_caller_and_reason(base: Base) -> None:
    job_id = base.submit()
    fail(base, job_id)
    run_id = base.store.rerun(job_id, "ann", "fixed", NOW)
    base.store.flush_counters(NOW)
    found = base.rows("SELECT actor, was, became, reason, detail FROM events WHERE run_first = ?", run_id)
    assert found == [("ann", None, "pending", "rerun", "fixed")]


def test_live_job_does_not_run_again(base: Base) -> None:
    job_id = base.submit()
    assert base.store.rerun(job_id, "ann", "", NOW) is None
    (run,) = base.claim()
    assert base.store.rerun(job_id, "ann", "", NOW) is None
    base.finish(run.run_id)
    assert base.store.rerun(job_id, "ann", "", NOW) is not None
    assert base.store.rerun(job_id, "ann", "", NOW) is None


def test_cancelled_job_runs_again_without_its_cancel(base: Base) -> None:
    job_id = base.submit()
    base.store.cancel(job_id, "ann", NOW, "no need")
    base.turn()
    job = base.store.job(job_id)
    assert job is not None
    assert (job.cancel_ms, job.cancel_reason) == (NOW, "no need")
    base.store.rerun(job_id, "ann", "", NOW)
    base.turn()
    job = base.store.job(job_id)
    assert job is not None
    assert (job.status, job.cancel_ms, job.cancel_reason) == (PENDING, None, None)
    (run,) = base.claim()
    base.finish(run.run_id)
    assert base.last_run(job_id).status == RunStatus.SUCCESS


def test_rerun_of_a_suspect_is_not_on_probation(base: Base) -> None:
    job_id = base.submit()
    (run,) = base.claim()
    base.fail_lost(run.run_id, crash=True)
    base.store.cancel(job_id, "ann", NOW)
    base.store.rerun(job_id, "ann", "", NOW)
    (ready,) = base.store.ready(NOW)
    assert ready.demand.probation == 0


@pytest.mark.parametrize(("deadline_ms", "expires_ms"), [(NOW + 10, None), (NOW + 5_000, NOW + 5_000)])
def test_rerun_has_a_deadline_only_before_it(base: Base, deadline_ms: int, expires_ms: int | None) -> None:
    spec = JobSpec(name="job", command="true", deadline_ms=deadline_ms)
    (job_id,) = base.store.submit([spec], [None], "ann", NOW)
    base.store.cancel(job_id, "ann", NOW)
    base.store.rerun(job_id, "ann", "", NOW + 1_000)
    run_id = base.last_run(job_id).run_id
    assert base.rows("SELECT expires_ms FROM runs WHERE run_id = ?", run_id) == [(expires_ms,)]


def test_rerun_of_a_held_job_is_held(base: Base) -> None:
    job_id = base.submit()
    hold(base, job_id)
    base.store.cancel(job_id, "ann", NOW)
    base.store.rerun(job_id, "ann", "", NOW)
    assert base.claim() == []
    base.store.release(job_id, "ann", "", NOW)
    assert len(base.claim()) == 1


# --- the jobs of a call on many ---


def test_held_and_ended_jobs_are_listed_by_owner_in_the_order_of_ids(base: Base) -> None:
    mine = [
        base.store.submit([JobSpec(name="job", command="true")], [None], "ann", NOW, owner=owner)[0]
        for owner in ("user:ann", "user:bob", "user:ann")
    ]
    first, other, last = mine
    for job_id in mine:
        hold(base, job_id)
    base.turn()
    assert [target.job_id for target in base.store.held("user:ann", JobId(0), 9)] == [first, last]
    assert [target.job_id for target in base.store.held(None, first, 1)] == [other]
    for job_id in mine:
        base.store.cancel(job_id, "ann", NOW)
    base.turn()
    assert [target.job_id for target in base.store.ended("user:ann", CANCELLED, JobId(0), 9)] == [first, last]
    assert [target.job_id for target in base.store.ended(None, CANCELLED, first, 9)] == [other, last]
    assert base.store.ended(None, FAILED, JobId(0), 9) == []


def test_job_that_runs_again_in_a_turn_is_live_for_the_next_call(base: Base) -> None:
    job_id = base.submit()
    base.store.cancel(job_id, "ann", NOW)
    base.turn()
    assert [target.status for target in base.store.between(job_id, job_id, 1)] == [CANCELLED]
    base.store.rerun(job_id, "ann", "", NOW)
    assert [target.status for target in base.store.between(job_id, job_id, 1)] == [PENDING]


def test_held_jobs_are_found_by_their_own_index(base: Base) -> None:
    base.demand_search(acts.HELD_JOBS, (0, 10), "jobs_held (job_id>?)")
    base.demand_search(acts.HELD_JOBS_OF, ("user:ann", 0, 10), "jobs_held (job_id>?)")


# --- removal and edits ---


def test_job_that_this_turn_has_changed_is_not_removed(base: Base) -> None:
    job_id = base.submit()
    base.store.cancel(job_id, "ann", NOW)
    assert not base.store.retention.remove(job_id, "ann", "", NOW)
    base.turn()
    base.store.rerun(job_id, "ann", "", NOW)
    base.store.cancel(job_id, "ann", NOW)
    assert not base.store.retention.remove(job_id, "ann", "", NOW)
    base.turn()
    assert base.store.retention.remove(job_id, "ann", "tidy", NOW)
    assert base.store.job(job_id) is None
    base.by_hand = True
    base.turn()
    assert base.rows("SELECT detail FROM events WHERE became = 'purged'") == [(f"1 job: {job_id}; tidy",)]
    assert base.rows("SELECT sum(tasks) FROM totals") == [(0,)]


def test_live_and_recurring_jobs_are_not_removed(base: Base) -> None:
    live, cron = base.submit(), base.recurring(NOW + 60_000)
    base.store.end_schedule(cron, "ann", NOW)
    base.turn()
    assert not base.store.retention.remove(live, "ann", "", NOW)
    assert not base.store.retention.remove(cron, "ann", "", NOW)


def test_edit_writes_what_differs_and_its_pending_run_follows(base: Base) -> None:
    spec = JobSpec(name="job", command="true", deadline_ms=NOW + 1_000, tags=("a", "b"))
    job_id, other = base.store.submit([spec, spec], [None] * 2, "ann", NOW)
    job = base.store.job(job_id)
    assert job is not None
    edited = JobEdit(deadline_ms=NOW + 9_000, tags=("b", "c"), retries=2, retry_on=("75",)).applied_to(job)
    base.store.edit(edited, "ann", "changes", NOW + 1)
    assert base.store.job(job_id) == replace(edited, updated_ms=NOW + 1)
    assert base.rows("SELECT job_id, expires_ms FROM runs ORDER BY job_id") == [
        (job_id, NOW + 9_000),
        (other, NOW + 1_000),
    ]
    assert base.rows("SELECT tag FROM job_tags WHERE tagged_id = ? ORDER BY tag", job_id) == [("b",), ("c",)]
    assert notes(base, job_id) == [("job_edited", "changes")]


def test_edit_after_a_count_is_what_the_claim_hands_out(base: Base) -> None:
    job_id = base.submit()
    base.count_ready()
    job = base.store.job(job_id)
    assert job is not None
    base.store.edit(JobEdit(command="false").applied_to(job), "ann", "command", NOW)
    assert [run.command for run in base.claim()] == ["false"]
