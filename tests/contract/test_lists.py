"""Filtered lists of jobs and events: what each filter finds, that an index serves it, and the start of a time."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict

import pytest

from tests.contract.base import NOW, W1, W2, Base
from zsched.model.types import JobId, JobSpec, RunId, RunStatus
from zsched.store import filters
from zsched.store.contract import EventFilter, JobFilter

FAILED = RunStatus.FAILED


def submit(base: Base, name: str, *tags: str, owner: str = "user:a", now_ms: int = NOW) -> JobId:
    spec = JobSpec(name=name, command="true", tags=tags)
    return base.store.submit([spec], [None], "test", now_ms, owner=owner)[0]


def found(base: Base, wanted: JobFilter, first: int = 1, last: int = 1_000, limit: int = 100) -> list[int]:
    with closing(base.open_door()) as reader:
        return [job.job_id for job in reader.search_jobs(wanted, JobId(first), JobId(last), limit)]


def test_tags_are_stored_and_shown(base: Base) -> None:
    job_id = submit(base, "a", "nightly", "team=data")
    base.turn()
    job = base.store.job(job_id)
    assert job is not None
    assert job.tags == ("nightly", "team=data")


def test_each_filter_finds_its_jobs_newest_first(base: Base) -> None:
    for worker_id in (W1, W2):
        base.register(worker_id)
    first = submit(base, "Nightly_build", "x")
    (claimed,) = base.claim(W1)
    base.finish(claimed.run_id, W1, FAILED, 1)
    second = submit(base, "nightly-build", "x", "y", owner="user:b")
    third = submit(base, "nightly", "y")
    base.turn()
    assert found(base, JobFilter()) == [third, second, first]
    assert found(base, JobFilter(status=FAILED)) == [first]
    assert found(base, JobFilter(owner="user:b")) == [second]
    assert found(base, JobFilter(name="nightly")) == [third]
    assert found(base, JobFilter(tag="x")) == [second, first]
    assert found(base, JobFilter(tag="y")) == [third, second]
    assert found(base, JobFilter(tag="z")) == []
    assert found(base, JobFilter(worker=W1)) == [first]
    assert found(base, JobFilter(worker=W2)) == []
    assert found(base, JobFilter(search="NIGHT")) == [third, second, first]
    # Characters that LIKE has a meaning for stand for themselves.
    assert found(base, JobFilter(search="y_b")) == [first]
    assert found(base, JobFilter(search="%")) == []
    assert found(base, JobFilter(search="\\")) == []


def test_all_filters_must_match(base: Base) -> None:
    base.register(W1)
    wanted = JobFilter(status=FAILED, owner="user:a", name="a", tag="x", worker=W1, search="A")
    job_id = submit(base, "a", "x")
    (claimed,) = base.claim(W1)
    base.finish(claimed.run_id, W1, FAILED, 1)
    base.turn()
    assert found(base, wanted) == [job_id]
    others = {"status": RunStatus.SUCCESS, "owner": "user:b", "name": "b", "tag": "y", "worker": W2, "search": "b"}
    for name, value in others.items():
        assert found(base, JobFilter(**{**asdict(wanted), name: value})) == [], name


@pytest.mark.parametrize("wanted", [JobFilter(), JobFilter(tag="x"), JobFilter(name="a"), JobFilter(search="a")])
def test_a_list_has_the_ids_of_its_range_up_to_its_limit(base: Base, wanted: JobFilter) -> None:
    ids = [submit(base, "a", "x") for _ in range(5)]
    base.turn()
    assert found(base, wanted, ids[1], ids[3]) == [ids[3], ids[2], ids[1]]
    assert found(base, wanted, ids[1], ids[3], 2) == [ids[3], ids[2]]


@pytest.mark.parametrize(
    ("wanted", "search"),
    [
        (JobFilter(status=FAILED), "jobs_by_status (status=? AND job_id>? AND job_id<?)"),
        (JobFilter(status=FAILED, owner="user:a"), "jobs_by_status (status=? AND job_id>? AND job_id<?)"),
        (JobFilter(owner="user:a"), "jobs_by_owner (owner_id=? AND rowid>? AND rowid<?)"),
        (JobFilter(name="a", status=FAILED), "jobs_by_status (status=? AND job_id>? AND job_id<?)"),
    ],
)
def test_one_index_chooses_and_orders_the_jobs(base: Base, wanted: JobFilter, search: str) -> None:
    statement, given = filters.jobs(wanted, JobId(1), JobId(9), 10)
    base.demand_search(statement, given, search)


def test_jobs_by_tag_are_found_by_their_tags(base: Base) -> None:
    statement, given = filters.jobs(JobFilter(tag="x", name="a", status=FAILED), JobId(1), JobId(9), 10)
    steps = " ".join(base.plan(statement, *given))
    assert "job_tags" in steps
    assert "TEMP B-TREE" not in steps
    assert "SCAN jobs" not in steps
    assert "Seq Scan on jobs" not in steps


@pytest.mark.parametrize("gap", [False, True])
def test_the_first_job_since_a_time(base: Base, gap: bool) -> None:
    ids = [submit(base, "a", now_ms=NOW + 1_000 * number) for number in range(9)]
    base.turn()
    if gap:
        base.by_hand = True
        for table in ("runs", "jobs"):
            base.rows(f"DELETE FROM {table} WHERE job_id BETWEEN {ids[3]} AND {ids[5]}")
        base.turn()
    with closing(base.open_door()) as reader:
        assert reader.last_job() == ids[8]
        assert reader.job_since(NOW - 1) == ids[0]
        assert reader.job_since(NOW + 1_001) == ids[2]
        assert reader.job_since(NOW + 7_000) == ids[7]
        assert reader.job_since(NOW + 8_001) == ids[8] + 1
        assert found(base, JobFilter(), reader.job_since(NOW + 2_500)) == [*reversed(ids[6:] if gap else ids[3:])]


def test_a_database_without_jobs_has_none_since_any_time(base: Base) -> None:
    with closing(base.open_door()) as reader:
        assert reader.last_job() == 0
        assert reader.job_since(0) == 1
        assert reader.event_since(0) == 1


def test_each_filter_finds_its_events_in_order(base: Base) -> None:
    base.register(W1)
    # Made together: one event without a job stands for both runs.
    one, two = base.store.submit([JobSpec(name=name, command="true") for name in "ab"], [None] * 2, "test", NOW)
    claims = base.claim(W1)
    base.finish(claims[1].run_id, W1, FAILED, 1)
    base.turn()

    def seen(wanted: EventFilter, first: int = 1, last: int = 1_000, limit: int = 100) -> list[str]:
        with closing(base.open_door()) as reader:
            return [event.became for event in reader.search_events(wanted, first, last, limit)]

    assert claims[0].job_id == one
    assert seen(EventFilter()) == ["active", "pending", "running", "running", "failed"]
    assert seen(EventFilter(job=one)) == ["pending", "running"]
    assert seen(EventFilter(job=two)) == ["pending", "running", "failed"]
    assert seen(EventFilter(job=JobId(99))) == []
    assert seen(EventFilter(run=claims[1].run_id)) == ["pending", "running", "failed"]
    assert seen(EventFilter(run=RunId(99))) == []
    assert seen(EventFilter(worker=W1)) == ["active", "running", "running", "failed"]
    assert seen(EventFilter(worker=W2)) == []
    assert seen(EventFilter(kind="running")) == ["running", "running"]
    assert seen(EventFilter(job=two, kind="failed", worker=W1)) == ["failed"]
    assert seen(EventFilter(), 2, 3) == ["pending", "running"]
    assert seen(EventFilter(), 2, 4, 1) == ["pending"]


def test_the_first_event_since_a_time(base: Base) -> None:
    for number in range(4):
        submit(base, "a", now_ms=NOW + 1_000 * number)
        base.turn()
    with closing(base.open_door()) as reader:
        times = [(event.event_id, event.at_ms) for event in reader.events(0, 100)]
        for event_id, at_ms in times:
            assert reader.event_since(at_ms) == event_id
        assert reader.event_since(NOW + 99_000) == times[-1][0] + 1
