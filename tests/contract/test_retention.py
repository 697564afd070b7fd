"""Retention: which jobs and events a step removes, what stays, and that a check agrees with what is left."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.contract.base import NOW, W1, Base
from zsched.model.types import JobId, JobSpec, RunStatus, Stream
from zsched.store.check import check
from zsched.store.contract import JobFilter, Old, Step

SUCCESS, FAILED, CANCELLED = RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.CANCELLED
LATER = NOW + 1_000_000


@pytest.fixture(autouse=True)
def removes(base: Base) -> None:
    # The replay of the suite knows no removed jobs. `agree` compares the tables with the events.
    base.by_hand = True


def findings(base: Base) -> list[str]:
    """What a check finds, outside a turn."""
    base.store.flush_counters(NOW)
    base.store.commit()
    found = check(base.engine)
    base.store.begin()
    return found.sentences


def agree(base: Base) -> None:
    assert findings(base) == []


def ended(base: Base, status: RunStatus = SUCCESS, *, tags: tuple[str, ...] = (), now_ms: int = NOW) -> JobId:
    """A job whose run has ended."""
    spec = JobSpec(name="j", command="true", tags=tags)
    (job_id,) = base.store.submit([spec], [None], "test", now_ms)
    if status is CANCELLED:
        base.store.cancel(job_id, "test", now_ms)
    else:
        (claimed,) = base.claim()
        base.finish(claimed.run_id, W1, status, int(status is FAILED), Stream(head=b"x", total=1))
    base.turn(now_ms)
    return job_id


def purge(base: Base, status: RunStatus = SUCCESS, ended_ms: int = LATER, after: int = 0, count: int = 100) -> Step:
    step = base.store.retention.purge_jobs(Old(status, ended_ms), JobId(after), count, "retention", LATER)
    base.turn(LATER)
    return step


def purge_events(base: Base, before_ms: int = LATER, after: int = 0, count: int = 100) -> Step:
    step = base.store.retention.purge_events(before_ms, after, count)
    base.turn(LATER)
    return step


def there(base: Base) -> list[int]:
    with closing(base.open_door()) as reader:
        return [job.job_id for job in reader.jobs(None, 100)]


def test_a_removed_job_leaves_nothing_but_one_event(base: Base) -> None:
    base.register()
    old = ended(base, tags=("x", "y"))
    kept = ended(base, FAILED, tags=("x",))
    assert purge(base) == Step(1, None)
    agree(base)
    assert purge_events(base).removed == 3
    agree(base)
    assert there(base) == [kept]
    for table, column in (("runs", "job_id"), ("job_tags", "tagged_id"), ("events", "job_id")):
        assert base.rows(f"SELECT count(*) FROM {table} WHERE {column} = {old}") == [(0,)]
        assert base.rows(f"SELECT count(*) FROM {table} WHERE {column} = {kept}") != [(0,)]
    assert base.rows("SELECT count(*) FROM outputs") == [(1,)]
    assert base.rows("SELECT actor, detail FROM events WHERE became = 'purged'") == [("retention", f"1 jobs: {old}")]
    with closing(base.open_door()) as reader:
        assert [job.job_id for job in reader.search_jobs(JobFilter(tag="x"), JobId(1), JobId(99), 9)] == [kept]


@pytest.mark.parametrize("status", [SUCCESS, FAILED, CANCELLED])
def test_only_jobs_of_the_status_are_removed_and_totals_follow(base: Base, status: RunStatus) -> None:
    base.register()
    jobs = {state: ended(base, state) for state in (SUCCESS, FAILED, CANCELLED)}
    purge(base, status)
    assert sorted(there(base)) == sorted(job for state, job in jobs.items() if state is not status)
    with closing(base.open_door()) as reader:
        totals = reader.totals()
    assert totals[status] == 0
    assert sum(totals.values()) == 2
    agree(base)


def test_live_recurring_and_young_jobs_stay(base: Base) -> None:
    base.register()
    live, recurring = base.submit(), base.recurring(NOW + 60_000)
    base.turn()
    base.store.cancel(live, "test", LATER)
    base.turn(LATER)
    base.store.end_schedule(recurring, "test", NOW)
    base.turn()
    young = ended(base, CANCELLED, now_ms=LATER)
    assert purge(base, CANCELLED, LATER).removed == 0
    assert sorted(there(base)) == [live, recurring, young]
    # The first one changed last at LATER, although it was submitted before.
    assert purge(base, CANCELLED, LATER + 1).removed == 2
    assert there(base) == [recurring]
    agree(base)


def test_a_job_that_the_turn_has_changed_stays(base: Base) -> None:
    base.register()
    job = ended(base)
    # As a new run of the job would.
    base.store._ledger.count([job], SUCCESS, RunStatus.PENDING)
    assert base.store.retention.purge_jobs(Old(SUCCESS, LATER), JobId(0), 100, "test", LATER).removed == 0
    base.store._ledger.count([job], RunStatus.PENDING, SUCCESS)
    base.turn(LATER)
    assert purge(base, ended_ms=LATER + 1).removed == 1


def test_steps_look_at_a_number_of_jobs_and_go_on(base: Base) -> None:
    base.register()
    ids = [ended(base) for _ in range(5)]
    assert purge(base, count=2) == Step(2, ids[1])
    agree(base)
    assert purge(base, after=ids[1], count=2) == Step(2, ids[3])
    assert purge(base, after=ids[3], count=2) == Step(1, None)
    first = purge_events(base, count=4)
    assert first == Step(3, 4)  # the first is the worker's
    agree(base)
    assert purge_events(base, after=4, count=100).removed == 12
    agree(base)


def test_ids_are_not_used_again(base: Base) -> None:
    base.register()
    last = ended(base)
    run_id = base.last_run(last).run_id
    purge(base)
    purge_events(base)
    following = base.submit()
    assert following > last
    assert base.last_run(following).run_id > run_id
    agree(base)


def test_an_event_of_several_runs_stays_while_one_of_them_is_there(base: Base) -> None:
    base.register()
    one, two = base.store.submit([JobSpec(name="j", command="true")] * 2, [None] * 2, "test", NOW)
    base.store.cancel(one, "test", NOW)
    base.turn()
    purge(base, CANCELLED)
    purge_events(base)
    assert there(base) == [two]
    agree(base)
    base.store.cancel(two, "test", NOW)
    base.turn()
    purge(base, CANCELLED)
    assert purge_events(base).removed == 2
    agree(base)


def test_young_events_stay(base: Base) -> None:
    base.register()
    ended(base)
    purge(base)
    assert purge_events(base, before_ms=NOW) == Step(0, None)
    agree(base)


def test_check_still_finds_a_run_that_was_lost(base: Base) -> None:
    base.register()
    ended(base)
    lost = base.last_run(ended(base, FAILED)).run_id
    purge(base)
    agree(base)
    base.rows(f"DELETE FROM outputs WHERE run_id = {lost}")
    base.rows(f"DELETE FROM runs WHERE run_id = {lost}")
    assert findings(base) != []


def test_check_of_a_database_without_removals_is_strict(base: Base) -> None:
    base.register()
    ended(base)
    base.rows("DELETE FROM events WHERE became = 'running'")
    assert findings(base) != []


def test_a_new_database_has_retention(base: Base) -> None:
    assert base.store.retention.default
