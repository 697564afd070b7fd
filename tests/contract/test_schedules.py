"""Schedules: how they are paused, resumed, edited and ended, and what the status of their jobs is then."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.contract.base import NOW, Base
from zsched.model.types import Job, JobId, JobSpec, Policy, RunStatus
from zsched.store.sqlite import migrations
from zsched.store.sqlite.engine import SqliteEngine, open_writer

PENDING, SUCCESS = RunStatus.PENDING, RunStatus.SUCCESS
FAILED, CANCELLED = RunStatus.FAILED, RunStatus.CANCELLED


def schedule(base: Base, job_id: JobId) -> tuple[int | None, int | None, int | None]:
    """When a job was paused, when its schedule ended, and when it fires next."""
    job = base.store.job(job_id)
    assert job is not None
    return job.paused_ms, job.ended_ms, job.next_fire_ms


def happened(base: Base) -> list[tuple[object, ...]]:
    """The events about schedules, without that of the submit."""
    base.store.flush_counters(NOW)
    found = base.rows("SELECT job_id, became, actor, detail FROM events WHERE run_first IS NULL ORDER BY event_id")
    return [event for event in found if event[1] != "scheduled"]


def test_a_paused_job_is_never_due_until_it_is_resumed(base: Base) -> None:
    job_id = base.recurring(NOW)
    assert base.store.pause_schedule(job_id, "ann", NOW + 1)
    assert schedule(base, job_id) == (NOW + 1, None, None)
    assert base.store.due(NOW + 10**12, 10) == []
    assert base.store.next_due_ms() is None
    assert base.store.resume_schedule(job_id, NOW + 60_000, "bob", NOW + 2)
    assert schedule(base, job_id) == (None, None, NOW + 60_000)
    assert [due.job_id for due in base.store.due(NOW + 60_000, 10)] == [job_id]
    assert happened(base) == [(job_id, "schedule_paused", "ann", None), (job_id, "schedule_resumed", "bob", None)]


def test_an_ended_job_is_never_due_and_can_not_be_resumed(base: Base) -> None:
    job_id = base.recurring(NOW)
    assert base.store.end_schedule(job_id, "ann", NOW + 1)
    assert not base.store.end_schedule(job_id, "ann", NOW + 2)
    assert not base.store.pause_schedule(job_id, "ann", NOW + 2)
    assert not base.store.resume_schedule(job_id, NOW, "ann", NOW + 2)
    assert schedule(base, job_id) == (None, NOW + 1, None)
    assert base.store.due(NOW + 10**12, 10) == []
    assert happened(base) == [(job_id, "schedule_ended", "ann", None)]


def test_what_changes_nothing_leaves_no_event(base: Base) -> None:
    job_id = base.recurring(NOW)
    assert not base.store.resume_schedule(job_id, NOW + 9, "ann", NOW)
    assert schedule(base, job_id) == (None, None, NOW)
    assert base.store.pause_schedule(job_id, "ann", NOW)
    assert not base.store.pause_schedule(job_id, "bob", NOW + 1)
    assert schedule(base, job_id) == (NOW, None, None)
    assert happened(base) == [(job_id, "schedule_paused", "ann", None)]


def test_a_job_without_a_schedule_has_none_to_change(base: Base) -> None:
    job_id = base.submit()
    assert not base.store.pause_schedule(job_id, "ann", NOW)
    assert not base.store.resume_schedule(job_id, NOW, "ann", NOW)
    assert not base.store.end_schedule(job_id, "ann", NOW)
    assert schedule(base, job_id) == (None, None, None)
    assert happened(base) == []


def test_ended_schedule_has_the_status_of_its_last_fire_or_cancelled(base: Base) -> None:
    never, failed, live = base.recurring(NOW), base.recurring(NOW), base.recurring(NOW)
    base.store.fire(failed, NOW, "schedule", NOW)
    (run,) = base.claim()
    base.finish(run.run_id, status=FAILED)
    base.store.fire(live, NOW, "schedule", NOW)
    for job_id in (never, failed, live):
        base.store.end_schedule(job_id, "ann", NOW)
    assert [base.status(job_id) for job_id in (never, failed, live)] == [CANCELLED, FAILED, PENDING]
    assert [job.job_id for job in read(base, CANCELLED)] == [never]
    (run,) = base.claim()
    base.finish(run.run_id)
    assert base.status(live) == SUCCESS
    assert base.rows("SELECT tasks FROM totals WHERE status = 'cancelled'") == [(0,)]


def read(base: Base, status: RunStatus) -> list[Job]:
    """The jobs with a status, by the index of it."""
    base.turn()
    with closing(base.open_door()) as reader:
        return list(reader.jobs(status, 10, 0))


def test_whether_the_last_fire_lives_is_known_within_the_turn(base: Base) -> None:
    job_id = base.recurring(NOW)
    assert not base.store.last_fire_lives(job_id)
    for _ in range(2):
        base.store.fire(job_id, NOW, "schedule", NOW)
        assert base.store.last_fire_lives(job_id)
        (run,) = base.claim()
        assert base.store.last_fire_lives(job_id)
        base.finish(run.run_id)
        assert not base.store.last_fire_lives(job_id)
        base.turn()
    job = base.store.job(job_id)
    assert job is not None
    assert not job.live


def test_an_edit_counts_for_runs_that_are_handed_out_after_it(base: Base) -> None:
    job_id = base.recurring(NOW)
    base.store.fire(job_id, NOW, "schedule", NOW)
    (before,) = base.claim()
    base.turn()
    job = base.store.job(job_id)
    assert job is not None
    edited = replace(
        job, name="n", command="false", schedule="0 0 * * *", policy=Policy(timeout_ms=5), next_fire_ms=NOW + 7
    )
    base.store.edit(edited, "ann", "all of it", NOW + 1)
    base.turn()
    assert base.store.job(job_id) == replace(edited, updated_ms=NOW + 1)
    assert before.command == "true"
    # A run that was lost is handed out with what the job is by then.
    base.fail_lost(before.run_id)
    (after,) = base.claim()
    assert (after.name, after.command, after.timeout_ms) == ("n", "false", 5)
    assert happened(base) == [(job_id, "job_edited", "ann", "all of it")]


def test_a_database_from_before_keeps_the_status_of_every_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "scheduler.db"
    steps = migrations.schema_steps()
    before = next(place for place, step in enumerate(steps) if "ADD COLUMN paused_ms" in step)
    monkeypatch.setattr(migrations, "schema_steps", lambda: steps[:before])
    with closing(SqliteEngine(path)) as engine:
        engine.migrate(NOW)
        engine.execute("INSERT INTO demands (wish) VALUES ('{}')")
        for counted in ("unmade", "pending", "running", "success", "failed", "cancelled", "priority"):
            engine.execute(
                f"INSERT INTO jobs (name, command, demand_id, grace_ms, crash_limit, created_ms, updated_ms, {counted})"
                " VALUES ('j', 'true', 1, 0, 5, 1, 1, 1)"
            )
        statuses = engine.execute("SELECT job_id, status FROM jobs ORDER BY job_id")
    monkeypatch.undo()
    open_writer(path, NOW).close()
    with closing(SqliteEngine(path)) as engine:
        assert engine.execute("SELECT job_id, status FROM jobs ORDER BY job_id") == statuses
        assert len({status for _, status in statuses}) == len(RunStatus)
        for status in RunStatus:
            found = engine.execute("SELECT job_id FROM jobs INDEXED BY jobs_by_status WHERE status = ?", (status,))
            assert found == [(job_id,) for job_id, named in statuses if named == status]
        assert engine.execute("PRAGMA integrity_check") == [("ok",)]


def test_a_paused_schedule_is_still_its_owners_and_an_ended_one_is_not(base: Base) -> None:
    spec = JobSpec(name="cron", command="true", schedule="* * * * *")
    fires, paused, ended = base.store.submit([spec] * 3, [NOW] * 3, "test", NOW, owner="token:ci")
    base.store.pause_schedule(paused, "ann", NOW)
    base.store.end_schedule(ended, "ann", NOW)
    assert [target.job_id for target in base.store.recurring("token:ci", JobId(0), 10)] == [fires, paused]
    assert base.store.count_recurring("token:ci", 10) == 2
