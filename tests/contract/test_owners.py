"""What a store promises about owners: jobs by owner, counts up to a bound, and the end of a revoked token's jobs."""

from __future__ import annotations

from contextlib import suppress
from itertools import product

import pytest

from tests.contract.base import NOW, W1, Base
from zsched.model.access import Scope, Token
from zsched.model.types import JobId, JobSpec, RunStatus
from zsched.store.contract import Cancelled, Ending, StoreConstraint, Target

ANN, BOB = "user:ann", "token:bob"
JOB = JobSpec(name="job", command="true")
CRON = JobSpec(name="cron", command="true", schedule="* * * * *")


def submit(base: Base, owner: str, count: int = 1, spec: JobSpec = JOB, *, metered: bool = False) -> list[JobId]:
    fires = [NOW + 60_000 if spec.schedule else None] * count
    return base.store.submit([spec] * count, fires, "test", NOW, owner=owner, metered=metered)


def ids(base: Base, owner: str | None, status: RunStatus | None = None, limit: int = 100, offset: int = 0) -> list[int]:
    reader = base.open_door()
    try:
        return [job.job_id for job in reader.jobs(status, limit, offset, None, owner)]
    finally:
        reader.close()


def token(token_id: str, name: str = "") -> Token:
    return Token(
        token_id=token_id,
        name=name,
        digest=bytes(32),
        scopes=frozenset({Scope.SUBMIT}),
        note="",
        created_ms=NOW,
        created_by="test",
    )


# --- jobs ---


@pytest.mark.parametrize("owner", [ANN, "user:Ünal", "user:DOM\\ann o'brien", ""])
def test_a_job_keeps_its_owner(base: Base, owner: str) -> None:
    (one, two) = submit(base, owner, 2)
    for job_id in (one, two):
        job = base.store.job(job_id)
        assert job is not None
        assert job.owner == owner


def test_an_owner_is_stored_once(base: Base) -> None:
    submit(base, ANN, 3)
    base.turn()
    submit(base, ANN)
    submit(base, BOB)
    assert base.rows("SELECT owner FROM owners ORDER BY owner_id") == [(ANN,), (BOB,)]


@pytest.mark.parametrize("undo", ["attempt", "rollback"])
def test_owner_is_forgotten_when_its_submit_is_undone(base: Base, undo: str) -> None:
    with suppress(LookupError), base.store.savepoint():
        submit(base, ANN)
        if undo == "attempt":
            raise LookupError
    if undo == "rollback":
        base.store.rollback()
        base.store.begin()
    (of_bob,), (of_ann,) = submit(base, BOB), submit(base, ANN)
    base.turn()
    assert (ids(base, BOB), ids(base, ANN)) == ([of_bob], [of_ann])


def test_pages_of_an_owner_are_those_of_all_jobs_without_the_others(base: Base) -> None:
    """By status and without, for each limit and offset."""
    owned: dict[int, str] = {}
    for number in range(30):
        owner = (ANN, BOB, "")[number % 3]
        owned |= dict.fromkeys(submit(base, owner), owner)
    base.turn()
    for run in base.claim(count=12):
        base.finish(run.run_id, status=RunStatus.FAILED if run.run_id % 2 else RunStatus.SUCCESS)
    base.claim(count=6)
    base.store.cancel(JobId(25), "test", NOW)
    base.store.cancel(JobId(26), "test", NOW)
    base.turn()
    for owner, status in product((ANN, BOB), (None, *RunStatus)):
        # PostgreSQL ends a turn that is idle for 5 s.
        base.turn()
        expected = [job for job in ids(base, None, status) if owned[job] == owner]
        assert ids(base, owner, status) == expected
        for limit, offset in product((1, 3, 7), (0, 1, 5, 50)):
            assert ids(base, owner, status, limit, offset) == expected[offset : offset + limit]
    assert ids(base, "user:nobody") == []
    base.claim(count=64)
    base.turn()


def test_what_is_asked_of_an_owner_comes_from_an_index(base: Base) -> None:
    """However many jobs others have, and in which state."""
    from zsched.store import sql

    plans = {
        sql.JOBS_BY_OWNER: ((ANN, 10, 10, 0), "jobs_by_owner (owner_id=? AND rowid<?)"),
        sql.JOBS_BY_OWNER_AND_STATUS: ((ANN, "pending", 10, 10, 0), "jobs_by_status (status=? AND job_id<?)"),
        sql.COUNT_METERED: ((ANN, 10), "jobs_metered (owner_id=? AND status=?)"),
        sql.LIVE_OF: ((ANN, "pending", 5, 10), "jobs_by_status (status=? AND job_id>?)"),
        sql.LIVE: (("pending", 5, 10), "jobs_by_status (status=? AND job_id>?)"),
        sql.UNFINISHED: ((), "jobs_by_status (status=?)"),
        sql.UNFINISHED_OF: ((ANN,), "jobs_by_status (status=?)"),
        sql.COUNT_LIVE_OF: ((ANN,), "jobs_by_status (status=?)"),
        sql.RECURRING_OF: ((ANN, 5, 10), "jobs_recurring (owner_id=? AND rowid>?)"),
        sql.COUNT_RECURRING_OF: ((ANN, 10), "jobs_recurring (owner_id=?)"),
    }
    for statement, (given, search) in plans.items():
        base.demand_search(statement, given, search)


# --- counts ---


def test_metered_jobs_are_counted_up_to_a_bound_while_they_are_pending(base: Base) -> None:
    submit(base, ANN, 5, metered=True)
    submit(base, ANN, 4)
    submit(base, BOB, 3, metered=True)
    assert [base.store.count_metered(ANN, most) for most in (1, 4, 5, 100)] == [1, 4, 5, 5]
    base.turn()
    base.claim(count=2)
    base.turn()
    assert base.store.count_metered(ANN, 100) == 3
    submit(base, ANN, 2, CRON, metered=True)
    assert base.store.count_metered(ANN, 100) == 5
    assert base.store.count_metered("user:nobody", 100) == 0
    assert base.store.count_metered("", 100) == 0


def test_recurring_jobs_are_counted_and_listed_until_their_schedule_ends(base: Base) -> None:
    crons = submit(base, BOB, 3, CRON)
    submit(base, BOB, 2)
    submit(base, ANN, 1, CRON)
    assert [base.store.count_recurring(BOB, most) for most in (2, 10)] == [2, 3]
    assert recurring(base, BOB, 2) == crons[:2]
    assert recurring(base, BOB, 10, after=crons[0]) == crons[1:]
    assert len(recurring(base, None, 10)) == 4
    assert base.store.end_schedule(crons[0], "eve", NOW + 5)
    assert not base.store.end_schedule(crons[0], "eve", NOW + 6)
    assert recurring(base, BOB, 10) == crons[1:]
    base.turn()
    reader = base.open_door()
    assert reader.left(BOB) == (2, 2)
    assert reader.left("user:nobody") == (0, 0)
    reader.close()
    found = base.rows("SELECT job_id, actor, at_ms FROM events WHERE became = 'schedule_ended'")
    assert found == [(crons[0], "eve", NOW + 5)]


def test_a_job_without_a_schedule_has_none_to_end(base: Base) -> None:
    (job,) = submit(base, ANN)
    assert not base.store.end_schedule(job, "eve", NOW)
    assert not base.store.end_schedule(JobId(99), "eve", NOW)


def recurring(base: Base, owner: str | None, count: int, after: int = 0) -> list[JobId]:
    return [target.job_id for target in base.store.recurring(owner, JobId(after), count)]


def test_all_recurring_jobs_are_found_without_a_look_at_all_jobs(base: Base) -> None:
    from zsched.store import sql

    assert any("jobs_recurring" in step for step in base.plan(sql.RECURRING, 5, 10))


def test_live_jobs_are_walked_in_the_order_of_their_numbers(base: Base) -> None:
    one, two, three = submit(base, ANN, 3)
    others = submit(base, BOB, 2)
    submit(base, ANN, 1, CRON)
    base.turn()
    ended, running = base.claim(W1, count=2)
    base.finish(ended.run_id)
    base.store.flush_counters(NOW)
    assert (ended.job_id, running.job_id) == (one, two)
    expected = [Target(two, ANN, RunStatus.RUNNING), Target(three, ANN, RunStatus.PENDING)]
    assert base.store.live(ANN, JobId(0), 100) == expected
    assert base.store.live(ANN, JobId(0), 1) == expected[:1]
    assert base.store.live(ANN, two, 100) == expected[1:]
    assert base.store.live(ANN, three, 100) == []
    assert [target.job_id for target in base.store.live(None, two, 100)] == [three, *others]
    assert base.store.between(one, three, 2) == [Target(one, ANN, RunStatus.SUCCESS), *expected[:1]]


def test_reader_returns_the_status_of_many_jobs_and_the_events_of_these(base: Base) -> None:
    one, two, three = submit(base, ANN, 3)
    (other,) = submit(base, BOB)
    submit(base, ANN, 1, CRON)
    base.turn()
    reader = base.open_door()
    position = reader.last_event()
    base.finish(base.claim(W1, count=1)[0].run_id)
    base.turn()
    assert list(reader.statuses_between(one, two)) == [(one, RunStatus.SUCCESS), (two, RunStatus.PENDING)]
    assert (reader.status(one), reader.status(JobId(99))) == (RunStatus.SUCCESS, None)
    assert sorted(reader.unfinished(ANN)) == [two, three]
    assert sorted(reader.unfinished(None)) == [two, three, other]
    events = reader.jobs_of_events(position, 100)
    assert [job_id for _, job_id in events if job_id is not None] == [one, one]
    assert reader.jobs_of_events(position, 1) == events[:1]
    assert reader.last_event() == events[-1][0]
    reader.close()


def test_a_cancel_of_a_job_that_has_ended_changes_nothing(base: Base) -> None:
    (job,) = submit(base, ANN)
    base.finish(base.claim(W1, count=1)[0].run_id)
    before = base.store.rows_changed
    assert base.store.cancel(job, "eve", NOW) == Cancelled(0, [])
    assert base.store.rows_changed == before


# --- tokens ---


def test_a_token_is_found_by_its_name(base: Base) -> None:
    base.store.access.add_token(token("1", "ci"))
    base.store.access.add_token(token("2"))
    base.turn()
    reader = base.open_door()
    for door in (base.store.access, reader):
        assert [one and one.token_id for one in map(door.token_named, ("ci", "2", "1", ""))] == ["1", "2", None, None]
    reader.close()


def test_two_tokens_never_share_a_name(base: Base) -> None:
    base.store.access.add_token(token("1", "ci"))
    base.store.access.revoke_token("1", "eve", NOW)
    with pytest.raises(StoreConstraint), base.store.savepoint():
        base.store.access.add_token(token("2", "ci"))
    assert base.store.access.token("2") is None


def test_all_bounds_of_a_token_are_kept(base: Base) -> None:
    from msgspec.structs import replace

    made = replace(
        token("1", "ci"),
        run_as="games",
        pending_max=3,
        schedules_max=0,
        priority_max=-10,
        workers=("gpu-*", "w1"),
        slots_max=4,
    )
    base.store.access.add_token(made)
    assert base.store.access.token("1") == made
    base.store.access.use_token("1", NOW + 7)
    assert base.store.access.token("1") == replace(made, last_used_ms=NOW + 7)


def test_the_end_of_a_tokens_jobs_is_remembered_until_it_is_done(base: Base) -> None:
    base.store.access.add_token(token("1", "ci"))
    assert base.store.access.ending() is None
    base.store.access.revoke_token("1", "eve", NOW)
    base.store.access.end_jobs("1", "eve at ::1", NOW)
    assert base.store.access.ending() == Ending("1", "token:ci", "eve at ::1", JobId(0))
    assert base.store.access.token("1").ending  # type: ignore[union-attr]
    base.store.access.note_ended("1", JobId(7))
    base.turn()
    assert base.store.access.ending() == Ending("1", "token:ci", "eve at ::1", JobId(7))
    base.store.access.end_done("1")
    assert base.store.access.ending() is None
    assert base.rows("SELECT actor, detail FROM events WHERE became = 'token_jobs_ended'") == [("eve at ::1", "1")]
    # Asked for again, it begins anew.
    base.store.access.end_jobs("1", "bob", NOW)
    assert base.store.access.ending() == Ending("1", "token:ci", "bob", JobId(0))
