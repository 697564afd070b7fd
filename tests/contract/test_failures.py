"""Which failures are tried again, and what a task counts: failures, crashes and returns, each apart."""

from __future__ import annotations

import pytest

from tests.contract.base import NOW, W1, Base
from zsched.model.backoff import Backoff
from zsched.model.types import Outcome, Policy, Reason, RunStatus

AT_ONCE = Backoff(initial_ms=0)


def end(base: Base, retry_on: tuple[str, ...], reason: str, exit_code: int | None, signal: int | None) -> int:
    """Let a run fail whose job has three retries; returns how many runs its task has then."""
    job_id = base.submit(policy=Policy(retries=3, retry_on=retry_on, backoff=AT_ONCE))
    (run,) = base.claim()
    failed = Outcome(
        run_id=run.run_id,
        status=RunStatus.FAILED,
        reason=reason,
        exit_code=exit_code,
        signal=signal,
        started_ms=NOW + 1,
        finished_ms=NOW + 2,
    )
    assert base.store.finish(failed, W1, NOW) == "stored"
    return int(base.rows("SELECT count(*) FROM runs WHERE job_id = ?", job_id)[0][0])


@pytest.mark.parametrize(
    ("retry_on", "reason", "exit_code", "signal", "retried"),
    [
        ((), "exit", 3, None, True),
        (("75",), "exit", 75, None, True),
        (("75",), "exit", 76, None, False),
        (("100-120",), "exit", 100, None, True),
        (("100-120",), "exit", 120, None, True),
        (("100-120",), "exit", 121, None, False),
        (("exit",), "exit", 1, None, True),
        (("exit",), "signal", None, 9, False),
        (("TERM",), "signal", None, 15, True),
        (("TERM",), "signal", None, 9, False),
        (("signal",), "signal", None, 9, True),
        (("TERM",), "timeout", None, 15, False),
        (("timeout",), "timeout", None, 15, True),
        (("timeout",), "timeout", 0, None, True),
        (("15",), "signal", None, 15, False),
        (("timeout", "75"), "spawn_error", None, None, False),
        (("spawn_error",), "spawn_error", None, None, True),
        (("reported",), "reported", None, None, True),
    ],
)
def test_only_the_failures_that_a_job_names_are_tried_again(
    base: Base, retry_on: tuple[str, ...], reason: str, exit_code: int | None, signal: int | None, retried: bool
) -> None:
    assert end(base, retry_on, reason, exit_code, signal) == (2 if retried else 1)


def test_a_failure_that_is_not_named_ends_its_job(base: Base) -> None:
    end(base, ("75",), "exit", 1, None)
    base.store.end_jobs(NOW)
    assert len(base.store.changes.ended) == 1


def test_a_timeout_that_the_scheduler_decides_is_named_timeout(base: Base) -> None:
    ids = [
        base.submit(policy=Policy(timeout_ms=1, grace_ms=0, retries=1, retry_on=retry_on, backoff=AT_ONCE))
        for retry_on in (("timeout",), ("75",))
    ]
    base.claim(ends=True)
    base.store.end_overdue(NOW + 10)
    assert [base.last_run(job_id).status for job_id in ids] == [RunStatus.PENDING, RunStatus.FAILED]


def test_the_failures_of_a_job_are_stored(base: Base) -> None:
    job_id = base.submit(policy=Policy(retries=1, retry_on=("75", "100-120", "TERM")))
    job = base.store.job(job_id)
    assert job is not None
    assert job.policy.retry_on == ("75", "100-120", "TERM")


def test_failures_crashes_and_returns_are_counted_apart(base: Base) -> None:
    job_id = base.submit(policy=Policy(retries=3, backoff=AT_ONCE))
    for reason in (Reason.RETURNED, Reason.UNDELIVERED):
        (run,) = base.claim()
        assert base.store.requeue_unstarted(run.run_id, W1, reason, NOW)
    (run,) = base.claim()
    base.finish(run.run_id, status=RunStatus.FAILED, exit_code=1)
    (run,) = base.claim()
    base.store.start(run.run_id, W1, NOW)
    base.fail_lost(run.run_id, crash=True)
    last = base.last_run(job_id)
    assert (last.attempt, last.failures, last.crashes, last.returns) == (3, 1, 1, 2)
