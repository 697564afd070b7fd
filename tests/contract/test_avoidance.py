"""A retry avoids the worker on which its task has failed: it is not ready, and claimed by itself for another worker."""

from __future__ import annotations

import pytest

from tests.contract.base import LOWEST, NOW, W1, W2, Base
from zsched.model.backoff import Backoff
from zsched.model.blocked import Blocked
from zsched.model.limits import AVOID_MS
from zsched.model.types import JobId, Policy, Reason, RunId, RunStatus, WorkerId
from zsched.store import sql, transitions
from zsched.store.contract import Avoiding, Claim, Claimed

PENDING, FAILED = RunStatus.PENDING, RunStatus.FAILED


def fail(base: Base, pause_ms: int = 0) -> JobId:
    """A job whose first run has failed on w1."""
    job_id = base.submit(policy=Policy(retries=3, backoff=Backoff(initial_ms=pause_ms, jitter=0)))
    (run,) = base.claim_of(base.store.ready(NOW)[0].demand_id)
    base.store.start(run.run_id, W1, NOW)
    base.finish(run.run_id, status=FAILED, exit_code=1)
    return job_id


def avoiding(base: Base) -> list[Avoiding]:
    base.store.next_due_ms()
    return base.store.avoiding(10)


def claim(base: Base, run: Avoiding, worker_id: WorkerId = W2, now_ms: int = NOW) -> list[Claimed]:
    wanted = Claim(
        worker_id=worker_id,
        demand_id=run.ready.demand_id,
        count=1,
        floor=LOWEST,
        handed_n=1,
        ends=False,
        run_id=run.ready.run_id,
    )
    return base.store.claim(wanted, now_ms)


def state(base: Base, run_id: RunId) -> tuple[int, int | None]:
    run = base.run(run_id)
    return run.blocked, run.due_ms


def test_retry_avoids_the_worker_that_has_failed_it(base: Base) -> None:
    job_id = fail(base)
    retry = base.last_run(job_id)
    assert state(base, retry.run_id) == (Blocked.AVOIDS, NOW + AVOID_MS)
    assert base.store.ready(NOW) == []
    (run,) = avoiding(base)
    assert (run.ready.run_id, run.worker_id) == (retry.run_id, W1)
    (claimed,) = claim(base, run)
    assert (claimed.run_id, claimed.attempt) == (retry.run_id, 2)
    taken = base.run(retry.run_id)
    assert (taken.status, taken.worker_id) == (RunStatus.RUNNING, W2)
    assert state(base, retry.run_id) == (0, None)
    assert avoiding(base) == []
    assert claim(base, run) == []


def test_retry_avoids_it_from_the_end_of_its_pause_on(base: Base) -> None:
    run_id = base.last_run(fail(base, 500)).run_id
    assert state(base, run_id) == (Blocked.DUE | Blocked.AVOIDS, NOW + 500)
    assert avoiding(base) == []
    assert base.store.release_due(NOW + 500, 10) == 1
    assert state(base, run_id) == (Blocked.AVOIDS, NOW + 500 + AVOID_MS)
    assert base.store.next_due_ms() == NOW + 500 + AVOID_MS
    assert base.store.ready(NOW + 500) == []
    assert base.store.release_due(NOW + 500 + AVOID_MS, 10) == 1
    assert state(base, run_id) == (0, None)
    assert [ready.run_id for ready in base.store.ready(NOW)] == [run_id]


def test_retry_that_stops_to_avoid_is_ready_for_any_worker(base: Base) -> None:
    run_id = base.last_run(fail(base)).run_id
    (run,) = avoiding(base)
    base.store.stop_avoiding([run.ready.run_id])
    assert state(base, run_id) == (0, None)
    assert [claimed.run_id for claimed in base.claim(W1)] == [run_id]


def test_claim_never_skips_a_row_for_runs_that_avoid(base: Base) -> None:
    for _ in range(3):
        fail(base)
    plain = base.submit()
    (ready,) = base.store.ready(NOW)
    assert base.store.ready_count(ready.demand_id, 10) == 1
    wanted = Claim(worker_id=W1, demand_id=ready.demand_id, count=9, floor=LOWEST, handed_n=1, ends=False)
    assert [claimed.job_id for claimed in base.store.claim(wanted, NOW)] == [plain]


def test_lost_run_is_followed_by_one_that_avoids_nothing(base: Base) -> None:
    base.submit()
    (run,) = base.claim()
    base.fail_lost(run.run_id)
    assert avoiding(base) == []
    assert len(base.store.ready(NOW)) == 1


def test_run_that_comes_back_from_the_other_worker_avoids_nothing(base: Base) -> None:
    fail(base)
    (run,) = avoiding(base)
    claim(base, run)
    assert base.store.requeue_unstarted(run.ready.run_id, W2, Reason.RETURNED, NOW)
    assert state(base, run.ready.run_id) == (0, None)


def test_held_retry_is_not_offered(base: Base) -> None:
    job_id = fail(base)
    base.store.hold(job_id, "ann", "", NOW)
    assert avoiding(base) == []
    base.store.release_due(NOW + AVOID_MS, 10)
    assert state(base, base.last_run(job_id).run_id) == (Blocked.HELD, None)


def test_retry_past_its_deadline_is_not_given_to_another_worker(base: Base) -> None:
    job_id = fail(base)
    base.rows("UPDATE runs SET expires_ms = ? WHERE status = 'pending'", NOW + 5)
    (run,) = avoiding(base)
    assert claim(base, run, now_ms=NOW + 5) == []
    assert base.last_run(job_id).reason == Reason.EXPIRED


def test_jump_of_the_clock_keeps_the_rest_of_the_time(base: Base) -> None:
    run_id = base.last_run(fail(base)).run_id
    base.store.shift(60_000, NOW + 60_000)
    assert state(base, run_id) == (Blocked.AVOIDS, NOW + 60_000 + AVOID_MS)


def test_restore_replaces_a_run_that_avoids_since_it_may_have_started(base: Base) -> None:
    run_id = base.last_run(fail(base)).run_id
    assert base.rows(transitions.WAITING, NOW) == [(run_id,)]


def test_runs_that_avoid_are_found_by_their_own_index(base: Base) -> None:
    assert any("runs_avoiding" in step for step in base.plan(sql.AVOIDING, 10))


@pytest.mark.parametrize("count", [1, 2])
def test_runs_that_avoid_are_offered_oldest_first_up_to_a_number(base: Base, count: int) -> None:
    jobs = [fail(base) for _ in range(3)]
    base.store.next_due_ms()
    offered = [run.ready.run_id for run in base.store.avoiding(count)]
    assert offered == [base.last_run(job_id).run_id for job_id in jobs][:count]
