"""Usage: counters of ended runs by day and owner, kept with the ends that they count."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.contract.base import NOW, W1, Base
from zsched.model.backoff import Backoff
from zsched.model.limits import USAGE_DAYS_MAX
from zsched.model.names import DEFAULT_QUEUE
from zsched.model.records import Usage, UsageBy
from zsched.model.types import JobId, JobSpec, Outcome, Policy, Reason, RunStatus
from zsched.store import usage

DAY_MS = 86_400_000
SUCCESS, FAILED = RunStatus.SUCCESS, RunStatus.FAILED
ANN, BOB = "user:ann", "token:bob"


def submit(base: Base, owner: str = ANN, retries: int = 0, queue: str = DEFAULT_QUEUE) -> JobId:
    policy = Policy(retries=retries, backoff=Backoff(initial_ms=0))
    spec = JobSpec(name="job", command="true", policy=policy, queue=queue)
    return base.store.submit([spec], [None], owner, NOW, owner=owner)[0]


def end(base: Base, status: RunStatus = SUCCESS, took_ms: int | None = 1_500) -> None:
    """Claim the oldest ready run and let it end."""
    (run,) = base.claim(count=1)
    ended = Outcome(
        run_id=run.run_id,
        status=status,
        reason=Reason.EXIT,
        exit_code=int(status is FAILED),
        started_ms=None if took_ms is None else NOW,
        finished_ms=NOW + (took_ms or 0),
    )
    assert base.store.finish(ended, W1, NOW) == "stored"


def used(
    base: Base, since_ms: int = 0, by: UsageBy = UsageBy.OWNER, limit: int = 10
) -> dict[str, tuple[int, int, int, int]]:
    found = base.store.reads.usage(by, since_ms, limit)
    return {each.key: (each.success, each.failed, each.cancelled, each.run_ms) for each in found}


def test_ended_runs_count_for_their_owner(base: Base) -> None:
    for owner in (ANN, BOB, ANN, ""):
        submit(base, owner)
        end(base)
    base.turn()
    assert used(base) == {ANN: (2, 0, 0, 3_000), BOB: (1, 0, 0, 1_500), "": (1, 0, 0, 1_500)}
    submit(base)
    end(base, FAILED, took_ms=None)
    submit(base)
    base.store.cancel(submit(base, BOB), "ann", NOW)
    base.turn()
    assert used(base) == {ANN: (2, 1, 0, 3_000), BOB: (1, 0, 1, 1_500), "": (1, 0, 0, 1_500)}


def test_ended_runs_count_for_their_queue(base: Base) -> None:
    assert used(base, by=UsageBy.QUEUE) == {}
    for queue in ("nightly", DEFAULT_QUEUE, "nightly"):
        submit(base, queue=queue, retries=1)
        end(base, FAILED)
        end(base)
    submit(base, BOB, queue="builds")
    end(base, took_ms=9_000)
    base.turn()
    counted = used(base, by=UsageBy.QUEUE)
    assert counted == {"builds": (1, 0, 0, 9_000), "nightly": (2, 2, 0, 6_000), DEFAULT_QUEUE: (1, 1, 0, 3_000)}
    assert list(counted) == ["builds", "nightly", DEFAULT_QUEUE]
    assert list(used(base, by=UsageBy.QUEUE, limit=2)) == ["builds", "nightly"]
    assert used(base) == {ANN: (3, 3, 0, 9_000), BOB: (1, 0, 0, 9_000)}


def test_most_run_time_comes_first_up_to_a_number(base: Base) -> None:
    for owner, took_ms in ((ANN, 10), (BOB, 20)):
        submit(base, owner)
        end(base, took_ms=took_ms)
    base.turn()
    assert base.store.reads.usage(UsageBy.OWNER, 0, 1) == [Usage(key=BOB, success=1, failed=0, cancelled=0, run_ms=20)]


def test_each_try_of_a_task_counts(base: Base) -> None:
    submit(base, retries=2)
    end(base, FAILED)
    end(base, FAILED)
    end(base)
    base.turn()
    assert used(base) == {ANN: (1, 2, 0, 4_500)}


def test_lost_and_withdrawn_runs_count_until_then(base: Base) -> None:
    job_id = submit(base)
    (run,) = base.claim()
    base.store.start(run.run_id, W1, NOW - 700)
    base.fail_lost(run.run_id)
    base.turn()
    assert used(base) == {ANN: (0, 1, 0, 700)}
    (run,) = base.claim()
    base.store.start(run.run_id, W1, NOW - 300)
    base.store.cancel(job_id, "ann", NOW)
    base.store.end_cancelled(run.run_id, NOW)
    base.turn()
    assert used(base) == {ANN: (0, 1, 1, 1_000)}


def test_days_are_counted_apart_and_removed_when_they_are_old(base: Base) -> None:
    for day in range(3):
        submit(base)
        end(base)
        base.turn(NOW + day * DAY_MS)
    assert used(base) == {ANN: (3, 0, 0, 4_500)}
    assert used(base, NOW + DAY_MS) == {ANN: (2, 0, 0, 3_000)}
    assert used(base, NOW + 3 * DAY_MS) == {}
    base.store.retention.purge_usage(NOW + (USAGE_DAYS_MAX + 1) * DAY_MS)
    assert used(base) == {ANN: (2, 0, 0, 3_000)}


def test_old_usage_is_found_without_a_look_at_the_rest(base: Base) -> None:
    steps = base.plan(usage.DELETE_USAGE, "owner", 1)
    assert not [step for step in steps if "SCAN usage" in step or "Seq Scan" in step], steps


def test_ends_that_are_undone_do_not_count(base: Base) -> None:
    submit(base)
    with suppress(LookupError), base.store.savepoint():
        end(base)
        raise LookupError
    base.turn()
    assert used(base) == {}
    end(base)
    base.store.rollback()
    base.store.begin()
    base.turn()
    assert used(base) == {}


@pytest.mark.parametrize("count", [1, 150])
def test_turn_writes_one_row_for_an_owner_however_many_runs_end(base: Base, count: int) -> None:
    specs = [JobSpec(name="job", command="true")] * count
    base.store.submit(specs, [None] * count, ANN, NOW, owner=ANN)
    runs = base.claim(count=count)
    base.store.finish_many([base.outcome(run.run_id) for run in runs], W1, NOW)
    with base.trace() as statements:
        base.store.flush_counters(NOW)
    assert sum("INTO usage" in statement for statement in statements) == 1
    base.turn()
    assert used(base) == {ANN: (count, 0, 0, count)}
