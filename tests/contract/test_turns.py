"""Turns: what a commit keeps, what a rollback forgets, and a piece of work that is undone within a turn."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.base import NOW, W1, W2, Base, worker
from zsched.model import limits
from zsched.model.demand import Demand
from zsched.model.types import JobId, RunId, RunStatus, Worker, WorkerId, WorkerKind, WorkerStatus
from zsched.store.contract import Changes, Restoration


class Oops(Exception):
    """A bug of ours, in the middle of a piece of work."""


def botch(base: Base, *work: Callable[[], object]) -> None:
    """Do some work in one piece that raises in the end."""
    with pytest.raises(Oops), base.store.savepoint():
        _do_and_raise(work)


def _do_and_raise(work: tuple[Callable[[], object], ...]) -> None:
    for step in work:
        step()
    raise Oops


def test_nothing_of_a_turn_that_is_rolled_back_has_happened(base: Base) -> None:
    kept = base.submit()
    base.register()
    base.turn()
    undone = base.submit()
    assert len(base.claim(W1)) == 2
    base.store.deactivate(W1, "test", NOW)
    base.store.rollback()
    base.store.begin()
    assert base.store.job(undone) is None
    assert base.store.held_by(W1) == []
    assert [worker.status for worker in base.store.active_workers()] == [WorkerStatus.ACTIVE]
    assert base.status(kept) == RunStatus.PENDING
    assert len(base.events()) == 2


def test_a_rollback_without_a_turn_does_nothing(base: Base) -> None:
    base.store.rollback()
    base.store.rollback()
    base.store.begin()


def test_what_is_not_committed_is_gone_when_the_database_is_opened_again(base: Base) -> None:
    kept = base.submit()
    base.turn()
    lost = base.submit()
    door = base.open_door()
    assert door.job(kept) is not None
    assert door.job(lost) is None
    door.close()


def test_savepoint_that_raises_is_undone_with_its_events_and_counters(base: Base) -> None:
    job_id = base.submit()
    botch(base, base.claim, base.submit, lambda: base.register(W2))
    base.turn()
    assert base.status(job_id) == RunStatus.PENDING
    assert base.store.worker(W2) is None
    assert [(was, became) for was, became, *_ in base.events()] == [(None, "pending")]


def test_a_piece_of_work_that_ends_well_stays_when_a_later_one_is_undone(base: Base) -> None:
    with base.store.savepoint():
        job_id = base.submit()
    botch(base, lambda: base.store.cancel(job_id, "ann", NOW))
    assert base.status(job_id) == RunStatus.PENDING
    assert len(base.claim()) == 1


def test_demand_that_was_undone_is_stored_again(base: Base) -> None:
    base.submit()

    def demand(need: str) -> None:
        base.rows("UPDATE runs SET demand_id = ?", base.store._demand_id(Demand(needs=(need,))))
        assert base.store.ready(NOW)[0].demand.needs == (need,)

    botch(base, lambda: demand("gpu"))
    demand("env")


def test_what_was_read_ahead_is_forgotten_with_what_was_undone(base: Base) -> None:
    job_id = base.submit()
    run_id = base.last_run(job_id).run_id
    botch(base, base.claim, lambda: base.store.look_ahead([run_id]))
    assert base.finish(run_id) == "stale"
    assert base.status(job_id) == RunStatus.PENDING


def test_pending_tasks_are_known_within_the_turn_and_after_what_was_undone(base: Base) -> None:
    base.submit()
    base.recurring(NOW)
    assert base.store.pending_tasks() == 1
    botch(base, base.submit, base.claim)
    assert base.store.pending_tasks() == 1
    base.turn()
    base.claim()
    assert base.store.pending_tasks() == 0
    base.store.rollback()
    base.store.begin()
    assert base.store.pending_tasks() == 1


def test_changed_rows_are_counted_from_the_beginning_of_the_turn(base: Base) -> None:
    assert base.store.rows_changed == 0
    base.submit()
    assert base.store.rows_changed > 0
    base.turn()
    assert base.store.rows_changed == 0


# --- who we are ---


def test_the_identity_is_random_and_stays(base: Base) -> None:
    assert len(base.store.identity) == 32
    assert base.rows("SELECT db FROM identity") == [(base.store.identity,)]


def test_each_start_of_a_scheduler_has_a_larger_epoch(base: Base) -> None:
    first = base.store.begin_epoch("h", 1, "1.0", NOW)
    base.store.end_epoch(first, NOW + 5)
    second = base.store.begin_epoch("h", 2, "1.0", NOW + 6)
    assert second > first
    assert base.rows("SELECT stopped_ms FROM schedulers ORDER BY epoch") == [(NOW + 5,), (None,)]


def test_successor_has_a_new_identity_and_unused_ids(base: Base) -> None:
    old = base.store.identity
    assert base.store.predecessors() == ()
    before = base.running()
    base.finish(before)
    base.turn()
    base.store.succeed("first", Restoration(now_ms=NOW, made_ms=5))
    base.store.succeed("second", Restoration(now_ms=NOW))
    assert base.store.identity == "second"
    assert base.rows("SELECT db FROM identity") == [("second",)]
    assert base.store.predecessors() == ("first", old)
    assert base.store.run(before) is not None
    assert base.running() == before + 2 * limits.RESTORE_IDS_GAP + 1


def test_successor_of_an_empty_database_leaves_the_gap_too(base: Base) -> None:
    base.store.succeed("next", Restoration(now_ms=NOW))
    assert base.submit() == limits.RESTORE_IDS_GAP + 1


# --- workers ---


def test_a_worker_is_stored_as_it_introduced_itself(base: Base) -> None:
    base.register(now_ms=NOW)
    expected = worker()
    stored = base.store.worker(W1)
    assert stored == Worker(
        worker_id=W1,
        kind=WorkerKind.ZMQ,
        status=WorkerStatus.ACTIVE,
        slots=2,
        registered_ms=NOW,
        last_seen_ms=NOW,
        host=expected.host,
        incarnation=expected.incarnation,
        boot_id=expected.boot_id,
        lock=expected.lock,
        agent=expected.agent,
        can=expected.can,
        labels=expected.labels,
    )
    assert base.store.active_workers() == [stored]


def test_a_worker_that_registers_again_keeps_its_first_time_and_is_active(base: Base) -> None:
    base.register(now_ms=NOW)
    base.store.deactivate(W1, "silent", NOW + 1)
    assert base.store.active_workers() == []
    base.register(kind=WorkerKind.REST, now_ms=NOW + 9)
    stored = base.store.worker(W1)
    assert stored is not None
    assert (stored.kind, stored.status) == (WorkerKind.REST, WorkerStatus.ACTIVE)
    assert (stored.registered_ms, stored.last_seen_ms) == (NOW, NOW + 9)


def test_a_worker_that_is_seen_is_active_again(base: Base) -> None:
    base.register()
    base.store.deactivate(W1, "silent", NOW)
    base.store.reactivate(W1, NOW + 5)
    stored = base.store.worker(W1)
    assert stored is not None
    assert (stored.status, stored.last_seen_ms) == (WorkerStatus.ACTIVE, NOW + 5)


def test_an_announced_end_is_kept_until_the_next_registration(base: Base) -> None:
    base.register(now_ms=NOW)
    base.store.leave(W1, NOW + 1)
    base.store.leave(W1, NOW + 2)
    base.store.deactivate(W1, "silent", NOW + 3)
    found = base.store.worker(W1)
    assert found is not None
    assert (found.leaving_ms, found.status) == (NOW + 1, WorkerStatus.INACTIVE)
    base.turn()
    assert base.rows("SELECT was, became FROM events WHERE reason = 'leaving'") == [("active", "active")]
    base.register(now_ms=NOW + 4)
    assert [worker.leaving_ms for worker in base.store.active_workers()] == [None]


def test_only_a_change_of_a_workers_state_is_an_event(base: Base) -> None:
    base.register()
    base.store.reactivate(W1, NOW + 1)
    base.store.reactivate(W1, NOW + 2)
    base.store.deactivate(W1, "silent", NOW + 3)
    base.store.deactivate(W1, "silent", NOW + 4)
    base.store.reactivate(W1, NOW + 5)
    assert [(was, became, reason) for was, became, reason, *_ in base.events()] == [
        (None, "active", "registered"),
        ("active", "inactive", "silent"),
        ("inactive", "active", "seen"),
    ]


def test_unknown_worker_returns_none_and_seeing_it_creates_none(base: Base) -> None:
    base.store.reactivate(W1, NOW)
    assert base.store.worker(W1) is None
    assert base.events() == []


def test_noting_when_workers_were_heard_changes_nothing_else_of_them(base: Base) -> None:
    base.register(now_ms=NOW)
    base.store.deactivate(W1, "silent", NOW + 1)
    base.store.note_seen({W1: NOW + 7, WorkerId("nobody"): NOW})
    stored = base.store.worker(W1)
    assert stored is not None
    assert (stored.status, stored.last_seen_ms) == (WorkerStatus.INACTIVE, NOW + 7)
    before = base.store.rows_changed
    base.store.note_seen({W1: NOW + 7})
    assert base.store.rows_changed == before
    assert base.store.worker(WorkerId("nobody")) is None


# --- the read side ---


def test_a_reader_sees_committed_turns_and_never_half_of_one(base: Base) -> None:
    job_id = base.submit()
    door = base.open_door()
    assert door.job(job_id) is None
    base.store.flush_counters(NOW)
    assert list(door.jobs(None, 10, 0)) == []
    base.turn()
    run_id = base.last_run(job_id).run_id
    base.claim()
    before = door.run(run_id)
    assert before is not None
    assert before.status == RunStatus.PENDING
    base.turn()
    after, job = door.run(run_id), door.job(job_id)
    assert after is not None
    assert job is not None
    assert after.status == job.status == RunStatus.RUNNING
    door.close()


def test_a_reader_pages_jobs_newest_first_and_by_status(base: Base) -> None:
    ended = base.running()
    base.finish(ended)
    waiting = [base.submit() for _ in range(3)]
    base.turn()
    door = base.open_door()
    assert [job.job_id for job in door.jobs(None, 2, 1)] == [waiting[1], waiting[0]]
    assert [job.job_id for job in door.jobs(RunStatus.SUCCESS, 10, 0)] == [base.run(ended).job_id]
    assert [job.job_id for job in door.jobs(RunStatus.PENDING, 10, 0)] == waiting[::-1]
    assert list(door.jobs(RunStatus.CANCELLED, 10, 0)) == []
    door.close()


def test_a_reader_shows_a_jobs_runs_newest_first(base: Base) -> None:
    lost = base.running()
    job_id = base.run(lost).job_id
    base.fail_lost(lost)
    never = base.recurring(NOW)
    base.turn()
    door = base.open_door()
    newest = base.last_run(job_id)
    assert [run.run_id for run in door.runs(job_id, 10)] == [newest.run_id, lost]
    assert list(door.runs(job_id, 1)) == [newest]
    assert door.last_run(job_id) == newest
    assert door.last_run(never) is None
    door.close()


def test_a_reader_shows_workers_by_name(base: Base) -> None:
    base.register(W2)
    base.register(W1)
    base.store.deactivate(W2, "bye", NOW)
    base.turn()
    door = base.open_door()
    assert [(worker.worker_id, worker.status) for worker in door.workers()] == [("w1", "active"), ("w2", "inactive")]
    assert door.worker(W1) == base.store.worker(W1)
    door.close()


def test_reader_returns_nothing_for_unknown_ids(base: Base) -> None:
    door = base.open_door()
    assert door.job(JobId(99)) is None
    assert door.run(RunId(99)) is None
    assert door.output(RunId(99)) is None
    assert door.worker(WorkerId("nobody")) is None
    assert list(door.runs(JobId(99), 10)) == []
    door.close()


def test_changes_name_the_jobs_and_runs_of_a_turn(base: Base) -> None:
    first, second = base.submit(), base.submit()
    cron = base.recurring(NOW + 60_000)
    assert base.store.changes == Changes()
    base.turn()
    base.register()
    base.finish(base.claim(W1)[0].run_id)
    base.store.flush_counters(NOW)
    assert base.store.changes == Changes({first, second}, {RunId(1), RunId(2)}, events=True, ended={first})
    base.store.commit()
    base.store.begin()
    assert base.store.changes == Changes()
    base.store.pause_schedule(cron, "ann", NOW)
    base.store.flush_counters(NOW)
    base.store.flush_counters(NOW)
    assert base.store.changes == Changes({cron}, events=True)
    base.store.commit()
    base.store.begin()
    base.store.note_seen({W1: NOW + 1})
    base.store.flush_counters(NOW)
    assert base.store.changes == Changes()


def test_a_rolled_back_turn_has_no_changes(base: Base) -> None:
    base.submit()
    base.store.flush_counters(NOW)
    base.store.rollback()
    base.store.begin()
    assert base.store.changes == Changes()
