"""Retention: which jobs and events a step removes, what stays, and that a check agrees with what is left."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.contract.base import NOW, W1, Base
from zsched.model.limits import FIRES_KEPT
from zsched.model.types import JobId, JobSpec, Outcome, Reason, RunId, RunStatus, Stream
from zsched.store.check import check
from zsched.store.contract import FireStep, JobFilter, Old, Step

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


def purge_events(
    base: Base, before_ms: int = LATER, after: int = 0, count: int = 100, purged_ms: int | None = None
) -> Step:
    step = base.store.retention.purge_events(before_ms, purged_ms, after, count, LATER)
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
    assert base.rows("SELECT actor, detail FROM events WHERE became = 'purged'") == [("retention", f"1 job: {old}")]
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


def test_jobs_of_a_clock_that_was_set_back_end_no_round(base: Base) -> None:
    """A clock that was wrong for a while must not keep all later jobs for years."""
    base.register()
    future = ended(base, CANCELLED, now_ms=LATER + 1_000_000)
    old = ended(base, CANCELLED)
    assert purge(base, CANCELLED, count=1) == Step(0, future)
    assert purge(base, CANCELLED, after=future, count=1) == Step(1, old)
    assert there(base) == [future]
    (number,) = next(iter(base.rows(f"SELECT max(event_id) FROM events WHERE job_id = {future}")))
    assert purge_events(base, after=number - 1, count=1) == Step(0, number)
    assert purge_events(base, after=number).removed == 2
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


def fired(base: Base, job: JobId, status: RunStatus, now_ms: int, *, lost: int = 0) -> RunId:
    """A fire that has ended, after some losses of its worker; returns its first run."""
    store = base.store
    first = store.fire(job, now_ms + 60_000, "schedule", now_ms)
    for _ in range(lost):
        (claimed,) = base.claim(now_ms=now_ms)
        store.fail_lost(claimed.run_id, "gone", crash=False, together=0, due_ms=None, now_ms=now_ms)
    (claimed,) = base.claim(now_ms=now_ms)
    outcome = Outcome(
        run_id=claimed.run_id,
        status=status,
        reason=Reason.EXIT,
        exit_code=int(status is FAILED),
        started_ms=now_ms,
        finished_ms=now_ms,
        stdout=Stream(head=b"x", total=1),
    )
    assert store.finish(outcome, W1, now_ms) == "stored"
    base.turn(now_ms)
    return first


def purge_fires(base: Base, ended_ms: int, count: int = 100) -> list[FireStep]:
    """The steps of a round."""
    steps: list[FireStep] = []
    after: tuple[JobId, RunId] | None = (JobId(1), RunId(0))
    old = [Old(SUCCESS, ended_ms), Old(FAILED, ended_ms - 1_000)]
    while after is not None:
        step = base.store.retention.purge_fires(old, after, count, LATER)
        base.turn(LATER)
        steps.append(step)
        after = step.reached
    return steps


def runs_of(base: Base, job: JobId) -> list[int]:
    return [run for (run,) in base.rows(f"SELECT run_id FROM runs WHERE job_id = {job} ORDER BY run_id")]


def test_the_last_fires_of_a_recurring_job_stay_however_old(base: Base) -> None:
    base.register()
    job, other = base.recurring(NOW), base.recurring(NOW)
    base.turn()
    fires = [fired(base, job, SUCCESS, NOW + number, lost=number % 2) for number in range(FIRES_KEPT + 5)]
    fired(base, other, SUCCESS, NOW)
    before = runs_of(base, job)
    (step,) = purge_fires(base, LATER)
    assert step == FireStep(5, None)
    # With the runs that follow a lost one.
    assert runs_of(base, job) == [run for run in before if run >= fires[5]]
    assert len(runs_of(base, other)) == 1
    agree(base)
    with closing(base.open_door()) as reader:
        assert reader.totals()[SUCCESS] == FIRES_KEPT + 1
    assert purge_events(base).removed > 0
    agree(base)
    assert base.rows("SELECT detail FROM events WHERE became = 'purged'") == [(f"5 fires of the recurring jobs {job}",)]
    assert purge_fires(base, LATER) == [FireStep(0, None)]
    # It goes on firing, and the oldest of the last ones may be removed then.
    fired(base, job, SUCCESS, LATER)
    assert purge_fires(base, LATER) == [FireStep(1, None)]
    agree(base)


def test_fires_are_removed_by_their_status_and_age(base: Base) -> None:
    base.register()
    job = base.recurring(NOW)
    base.turn()
    for number in range(8):
        fired(base, job, FAILED if number % 2 else SUCCESS, NOW + 1_000 * number)
    for number in range(FIRES_KEPT):
        fired(base, job, SUCCESS, NOW + 10_000 + number)
    # Those that succeeded before 5 s, and those that failed before 4 s.
    assert sum(step.removed for step in purge_fires(base, NOW + 5_000)) == 3 + 2
    agree(base)
    assert sum(step.removed for step in purge_fires(base, LATER)) == 3
    agree(base)


def test_fires_are_removed_in_steps(base: Base) -> None:
    base.register()
    jobs = [base.recurring(NOW) for _ in range(3)]
    base.turn()
    for job in jobs:
        for number in range(FIRES_KEPT + 4):
            fired(base, job, SUCCESS, NOW + number)
    steps = purge_fires(base, LATER, count=3)
    assert sum(step.removed for step in steps) == 12
    assert max(step.removed for step in steps) == 3
    assert purge_fires(base, LATER) == [FireStep(0, None)]
    agree(base)


def test_old_events_of_removals_are_removed(base: Base) -> None:
    base.register()
    ended(base)
    purge(base)
    purge_events(base, LATER + 1, purged_ms=LATER)
    assert base.rows("SELECT count(*) FROM events WHERE became = 'purged'") == [(1,)]
    purge_events(base, LATER + 1, purged_ms=LATER + 1)
    assert base.rows("SELECT count(*) FROM events WHERE became = 'purged'") == [(0,)]
    agree(base)


def test_old_events_of_skipped_fires_are_removed(base: Base) -> None:
    """Their job stays, and may skip a fire every minute."""
    job = base.recurring(NOW)
    for at_ms in (NOW, LATER):
        base.store.skip_fire(job, NOW, "schedule", "its last run has not ended", at_ms)
    base.turn()
    purge_events(base, LATER + 1, purged_ms=LATER)
    assert base.rows("SELECT at_ms FROM events WHERE became = 'fire_skipped'") == [(LATER,)]
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
