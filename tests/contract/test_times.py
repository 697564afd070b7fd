"""Start times and deadlines of jobs: when a run is ready, when it expires, and what a jump of the clock does."""

from __future__ import annotations

import pytest

from tests.contract.base import NOW, W1, Base
from zsched.model.types import JobId, JobSpec, Policy, Reason, RunStatus
from zsched.store import transitions

PENDING, RUNNING, FAILED = RunStatus.PENDING, RunStatus.RUNNING, RunStatus.FAILED
LATER = NOW + 1_000


def submit(
    base: Base,
    *,
    run_at_ms: int | None = None,
    delay_ms: int | None = None,
    deadline_ms: int | None = None,
    policy: Policy | None = None,
) -> JobId:
    spec = JobSpec(
        name="job",
        command="true",
        run_at_ms=run_at_ms,
        delay_ms=delay_ms,
        deadline_ms=deadline_ms,
        policy=policy or Policy(),
    ).submitted_at(NOW)
    return base.store.submit([spec], [None], "test", NOW)[0]


@pytest.mark.parametrize("start", ["run_at_ms", "delay_ms"])
def test_run_is_ready_at_its_start_time_and_not_before(base: Base, start: str) -> None:
    job_id = submit(base, run_at_ms=LATER) if start == "run_at_ms" else submit(base, delay_ms=1_000)
    assert base.store.ready(NOW) == []
    assert base.store.next_due_ms() == LATER
    assert base.last_run(job_id).due_ms == LATER
    assert base.store.release_due(LATER - 1, 10) == 0
    assert base.store.release_due(LATER, 10) == 1
    assert base.store.next_due_ms() is None
    assert [run.job_id for run in base.claim()] == [job_id]


def test_start_time_in_the_past_means_at_once(base: Base) -> None:
    job_id = submit(base, run_at_ms=NOW)
    assert base.last_run(job_id).due_ms is None
    assert len(base.claim()) == 1


def test_start_times_in_one_submit_with_plain_jobs_keep_their_jobs(base: Base) -> None:
    specs = [
        JobSpec(name="plain", command="true"),
        JobSpec(name="later", command="true", run_at_ms=LATER),
        JobSpec(name="brief", command="true", deadline_ms=LATER),
    ]
    plain, later, brief = base.store.submit(specs, [None] * 3, "test", NOW)
    assert [base.last_run(job_id).due_ms for job_id in (plain, later, brief)] == [None, LATER, None]
    assert [run.job_id for run in base.claim()] == [plain, brief]


def test_start_times_that_are_due_together_are_released_in_pieces(base: Base) -> None:
    for _ in range(3):
        submit(base, run_at_ms=LATER)
    assert base.store.release_due(LATER, 2) == 2
    assert base.store.next_due_ms() == LATER
    assert base.store.release_due(LATER, 2) == 1


def test_jump_of_the_clock_moves_a_delay_and_not_a_date(base: Base) -> None:
    dated, delayed = submit(base, run_at_ms=LATER, deadline_ms=NOW + 5_000), submit(base, delay_ms=1_000)
    base.store.shift(60_000, NOW + 60_000)
    assert base.last_run(dated).due_ms == LATER
    assert base.last_run(delayed).due_ms == LATER + 60_000
    assert base.rows("SELECT expires_ms FROM runs WHERE job_id = ?", dated) == [(NOW + 5_000,)]


# --- deadlines ---


@pytest.mark.parametrize("blocked", [0, 64])
def test_pending_run_expires_at_its_deadline_and_not_before(base: Base, blocked: int) -> None:
    job_id = submit(base, deadline_ms=LATER, run_at_ms=LATER + 1 if blocked else None, policy=Policy(retries=3))
    assert base.store.next_due_ms() == LATER
    assert base.store.expire(LATER - 1, 10) == 0
    assert base.store.expire(LATER, 10) == 1
    run = base.last_run(job_id)
    assert (run.status, run.reason, run.due_ms, run.finished_ms) == (FAILED, Reason.EXPIRED, None, LATER)
    assert base.status(job_id) == FAILED
    assert base.store.next_due_ms() is None
    assert base.claim(now_ms=LATER) == []


def test_running_run_outlives_its_deadline(base: Base) -> None:
    job_id = submit(base, deadline_ms=LATER)
    (run,) = base.claim(now_ms=LATER - 1)
    assert base.store.expire(LATER + 10**6, 10) == 0
    assert base.store.next_due_ms() is None
    assert base.finish(run.run_id) == "stored"
    assert base.status(job_id) == RunStatus.SUCCESS


def test_returned_run_expires_like_one_that_was_never_claimed(base: Base) -> None:
    job_id = submit(base, deadline_ms=LATER)
    (run,) = base.claim()
    assert base.store.requeue_unstarted(run.run_id, W1, Reason.RETURNED, NOW)
    assert base.store.expire(LATER, 10) == 1
    assert base.last_run(job_id).reason == Reason.EXPIRED


@pytest.mark.parametrize("end", ["failed", "lost"])
def test_successor_of_a_run_has_the_deadline_of_its_task(base: Base, end: str) -> None:
    job_id = submit(base, deadline_ms=LATER, policy=Policy(retries=1))
    (run,) = base.claim()
    if end == "failed":
        base.finish(run.run_id, status=FAILED, exit_code=1)
    else:
        base.fail_lost(run.run_id)
    assert base.last_run(job_id).run_id > run.run_id
    assert base.store.expire(LATER, 10) == 1
    assert base.status(job_id) == FAILED


@pytest.mark.parametrize("ahead", [False, True])
def test_claim_fails_a_run_past_its_deadline_and_takes_the_others(base: Base, ahead: bool) -> None:
    late = [submit(base, deadline_ms=LATER) for _ in range(2)]
    plain = submit(base)
    late.append(submit(base, deadline_ms=LATER))
    if ahead:
        base.count_ready()
    assert [run.job_id for run in base.claim(count=4, now_ms=LATER)] == [plain]
    assert {base.last_run(job_id).reason for job_id in late} == {Reason.EXPIRED}
    assert base.last_run(plain).status == RUNNING


def test_deadlines_of_many_runs_are_handled_in_pieces_the_oldest_first(base: Base) -> None:
    second, first = submit(base, deadline_ms=LATER), submit(base, deadline_ms=LATER - 1)
    assert base.store.expire(LATER, 1) == 1
    assert base.last_run(first).reason == Reason.EXPIRED
    assert base.last_run(second).status == PENDING
    assert base.store.next_due_ms() == LATER


def test_cancelled_run_does_not_expire(base: Base) -> None:
    job_id = submit(base, deadline_ms=LATER)
    base.store.cancel(job_id, "ann", NOW)
    assert base.store.next_due_ms() is None
    assert base.store.expire(LATER, 10) == 0


def test_deadlines_that_have_come_are_found_by_their_own_index(base: Base) -> None:
    assert any("runs_expiring" in step for step in base.plan(transitions.EXPIRED, NOW, 10))
