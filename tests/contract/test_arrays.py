"""Arrays: tasks become runs in bounded turns, under a cap, and callers act on some of them."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.contract.base import NOW, W1, Base
from zsched.model.after import parse_after
from zsched.model.arrays import parse_array
from zsched.model.backoff import Backoff
from zsched.model.entries import pack
from zsched.model.limits import TASKS_AHEAD_MAX
from zsched.model.types import Job, JobId, JobSpec, OnDisconnect, OnLost, Policy, Reason, RunStatus, Stream
from zsched.store import array_sql, ranges, retention
from zsched.store.check import check
from zsched.store.contract import Again, Claimed, Old, Restoration, Task
from zsched.store.lives import Change

PENDING, RUNNING, FAILED, CANCELLED = RunStatus.PENDING, RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED
SUCCESS = RunStatus.SUCCESS
AGAIN = Policy(retries=1, backoff=Backoff(initial_ms=0))
LATER = Policy(retries=1, backoff=Backoff(initial_ms=5_000, jitter=0))


def submit(base: Base, array: str, **fields: object) -> JobId:
    spec = JobSpec(name="array", command="true", array=parse_array(array), **fields)  # type: ignore[arg-type]
    return base.store.submit([spec], [None], "ann", NOW)[0]


def make(base: Base, most: int = 1_000) -> bool:
    """The part of a turn's tick before placement."""
    more = base.store.make_tasks(NOW, most)
    base.store.end_jobs(NOW)
    return more


def start(base: Base, count: int = 64) -> list[Claimed]:
    make(base)
    return base.claim(count=count)


def job(base: Base, job_id: JobId) -> Job:
    base.store.flush_counters(NOW)
    found = base.store.job(job_id)
    assert found is not None
    return found


def counts(base: Base, job_id: JobId) -> tuple[int, ...]:
    """Pending, running, success, failed, cancelled."""
    tasks = job(base, job_id).tasks
    assert tasks is not None
    return tasks.pending, tasks.running, tasks.success, tasks.failed, tasks.cancelled


def tasks(base: Base, job_id: JobId, status: RunStatus | None = None) -> list[Task]:
    return list(base.store.reads.tasks(job(base, job_id), 0, 10_000, status))


def test_tasks_are_made_in_order_with_their_indexes(base: Base) -> None:
    job_id = submit(base, "3-12:3,20")
    assert counts(base, job_id) == (5, 0, 0, 0, 0)
    assert base.store.pending_tasks() == 5
    claimed = start(base)
    assert [run.task for run in claimed] == [3, 6, 9, 12, 20]
    assert counts(base, job_id) == (0, 5, 0, 0, 0)
    for run in claimed:
        assert base.finish(run.run_id) == "stored"
    assert counts(base, job_id) == (0, 0, 5, 0, 0)
    assert job(base, job_id).status is SUCCESS
    assert not make(base)


def test_plain_run_shows_no_task(base: Base) -> None:
    run_id = base.running()
    assert base.run(run_id).task is None


def test_making_stops_at_the_bound_of_a_turn_and_goes_on(base: Base) -> None:
    job_id = submit(base, "0-9")
    assert make(base, 4)
    assert len(base.rows("SELECT run_id FROM runs")) == 4
    base.turn()
    assert make(base, 4)
    base.turn()
    assert not make(base, 4)
    assert [run.task for run in base.claim()] == list(range(10))
    assert counts(base, job_id) == (0, 10, 0, 0, 0)


def test_events_of_made_tasks_are_one_for_each_turn(base: Base) -> None:
    job_id = submit(base, "0-9")
    make(base, 6)
    base.turn()
    make(base, 6)
    base.store.flush_counters(NOW)
    made = base.rows("SELECT actor, job_id, run_first, run_last FROM events WHERE run_first IS NOT NULL")
    assert made == [("ann", job_id, 1, 6), ("scheduler", job_id, 7, 10)]


def test_ready_runs_of_an_array_are_bounded(base: Base) -> None:
    job_id = submit(base, "0-9999")
    assert not make(base, 5_000)
    assert base.rows("SELECT count(*) FROM runs") == [(TASKS_AHEAD_MAX,)]
    assert not base.store.tasks_short()
    base.turn()
    while len(base.claim()) == 64 and base.rows("SELECT count(*) FROM runs WHERE status = 'pending'") > [(900,)]:
        pass
    assert base.store.tasks_short()
    base.turn()
    assert not make(base, 5_000)
    assert base.rows("SELECT count(*) FROM runs WHERE status = 'pending'") == [(TASKS_AHEAD_MAX,)]
    assert job(base, job_id).status is RUNNING


def test_cap_holds_and_an_end_frees_a_place(base: Base) -> None:
    submit(base, "0-9%2")
    first, second = start(base)
    assert (first.task, second.task) == (0, 1)
    assert start(base) == []
    base.finish(first.run_id)
    (third,) = start(base)
    assert third.task == 2
    base.turn()
    base.finish(second.run_id)
    base.finish(third.run_id)
    assert [run.task for run in start(base)] == [3, 4]


def test_back_off_frees_a_place_and_a_due_retry_comes_before_other_tasks(base: Base) -> None:
    job_id = submit(base, "0-9%2", policy=LATER)
    first, second = start(base)
    base.finish(first.run_id, status=FAILED, exit_code=1)
    (third,) = start(base)
    assert third.task == 2
    assert base.store.release_due(NOW + 5_000, 10) == 1
    assert start(base) == []
    base.finish(second.run_id)
    base.store.next_due_ms()
    base.stop_avoiding()
    again = start(base)
    assert [run.task for run in again] == [0]
    assert counts(base, job_id)[1] == 2


def test_successor_of_a_lost_run_keeps_the_place(base: Base) -> None:
    submit(base, "0-9%1")
    (first,) = start(base)
    base.fail_lost(first.run_id)
    (again,) = start(base)
    assert again.task == 0
    assert start(base) == []


def test_returned_run_keeps_the_place_unless_it_is_held(base: Base) -> None:
    job_id = submit(base, "0-9%1")
    (first,) = start(base)
    assert base.store.requeue_unstarted(first.run_id, W1, Reason.RETURNED, NOW)
    assert [run.task for run in start(base)] == [0]
    assert base.store.hold_tasks(job_id, (0, 0), "ann", "", NOW) == 1
    assert base.store.requeue_unstarted(first.run_id, W1, Reason.RETURNED, NOW)
    assert [run.task for run in start(base)] == [1]


def test_hold_and_release_of_an_array(base: Base) -> None:
    job_id = submit(base, "0-9%2")
    make(base)
    assert base.store.hold(job_id, "ann", "", NOW)
    assert start(base) == []
    assert base.store.release(job_id, "ann", "", NOW)
    assert [run.task for run in start(base)] == [0, 1]


def test_hold_of_tasks_frees_their_places(base: Base) -> None:
    job_id = submit(base, "0-9%2")
    make(base)
    assert base.store.hold_tasks(job_id, (0, 3), "ann", "", NOW) == 4
    assert base.store.hold_tasks(job_id, (2, 4), "ann", "", NOW) == 1
    assert [run.task for run in start(base)] == [5, 6]
    assert [task.index for task in tasks(base, job_id) if task.held] == [0, 1, 2, 3, 4]
    assert base.store.release_tasks(job_id, (1, 2), "ann", "", NOW) == 2
    assert start(base) == []
    assert base.store.cancel_tasks(job_id, "ann", NOW, "", (5, 6)).running
    assert counts(base, job_id) == (8, 2, 0, 0, 0)


def test_cancel_of_an_array_ends_unmade_tasks_at_once(base: Base) -> None:
    job_id = submit(base, "0-9%2")
    start(base, 1)
    cancelled = base.store.cancel(job_id, "ann", NOW, "wrong")
    assert cancelled.pending == 9
    assert len(cancelled.running) == 1
    assert counts(base, job_id) == (0, 1, 0, 0, 9)
    assert start(base) == []
    base.finish(cancelled.running[0][1])
    found = job(base, job_id)
    assert (found.status, found.cancel_reason) == (CANCELLED, "wrong")
    assert [task.status for task in tasks(base, job_id)] == [CANCELLED] * 10
    assert base.rows("SELECT count(*) FROM runs") == [(2,)]


def test_job_ends_when_its_last_unmade_tasks_are_cancelled(base: Base) -> None:
    job_id = submit(base, "0-9")
    base.store.cancel(job_id, "ann", NOW)
    base.store.end_jobs(NOW)
    assert base.store.changes.ended == {job_id}
    assert job(base, job_id).status is CANCELLED


def test_cancel_of_tasks_leaves_the_others(base: Base) -> None:
    job_id = submit(base, "0-9%2")
    make(base)
    assert base.store.cancel_tasks(job_id, "ann", NOW, "", (1, 4)).pending == 4
    assert [run.task for run in start(base)] == [0, 5]
    assert job(base, job_id).cancel_ms is None
    assert [task.index for task in tasks(base, job_id, CANCELLED)] == [1, 2, 3, 4]
    base.turn()
    assert base.store.cancel_tasks(job_id, "ann", NOW, "", (3, 7)).pending == 2
    assert [task.index for task in tasks(base, job_id, PENDING)] == [8, 9]


def test_more_failures_than_allowed_cancel_what_has_not_started(base: Base) -> None:
    job_id = submit(base, "0-9%3", max_fails=1)
    first, second, third = start(base)
    base.finish(first.run_id, status=FAILED, exit_code=1)
    assert [run.task for run in start(base)] == [3]
    base.finish(second.run_id, status=FAILED, exit_code=1)
    assert start(base) == []
    assert counts(base, job_id) == (0, 2, 0, 2, 6)
    base.finish(third.run_id)
    make(base)
    assert job(base, job_id).status is RUNNING
    assert {task.reason for task in tasks(base, job_id, CANCELLED)} == {"max_fails"}


def test_array_gives_up_also_when_others_use_up_the_tasks_of_a_turn(base: Base) -> None:
    job_id = submit(base, "0-3%2", max_fails=0)
    first, _ = start(base)
    submit(base, "0-99", priority=5)
    base.finish(first.run_id, status=FAILED, exit_code=1)
    assert make(base, 4)
    assert counts(base, job_id) == (0, 1, 0, 1, 2)


def test_retry_does_not_count_as_a_failure_of_the_task(base: Base) -> None:
    job_id = submit(base, "0-3%1", max_fails=0, policy=AGAIN)
    (first,) = start(base)
    base.finish(first.run_id, status=FAILED, exit_code=1)
    make(base)
    base.stop_avoiding()
    (again,) = base.claim()
    assert (again.task, again.attempt) == (0, 2)
    base.finish(again.run_id, status=FAILED, exit_code=1)
    assert start(base) == []
    assert counts(base, job_id) == (0, 0, 0, 1, 3)
    assert job(base, job_id).status is FAILED


def test_rerun_of_failed_tasks_forgives_the_others(base: Base) -> None:
    job_id = submit(base, "0-5%2", max_fails=0)
    first, second = start(base)
    base.finish(first.run_id, status=FAILED, exit_code=1)
    make(base)
    base.finish(second.run_id, status=FAILED, exit_code=1)
    assert counts(base, job_id) == (0, 0, 0, 2, 4)
    base.turn()
    step = base.store.rerun_tasks(Again(job_id, (1, 3), failed=True), 100, "ann", "", NOW)
    assert (step.done, step.after) == (3, None)
    assert counts(base, job_id) == (3, 0, 0, 1, 2)
    again = start(base)
    assert [(run.task, run.attempt) for run in again] == [(1, 2), (2, 1)]
    base.finish(again[0].run_id)
    base.finish(again[1].run_id, status=FAILED, exit_code=1)
    assert start(base) == []
    assert counts(base, job_id) == (0, 0, 1, 2, 3)


def test_rerun_of_an_array_runs_all_tasks_again(base: Base) -> None:
    job_id = submit(base, "0-2")
    for run in start(base):
        base.finish(run.run_id)
        assert not base.store.rerun_array(job_id, "ann", "", NOW) or run.task == 2
    assert counts(base, job_id) == (3, 0, 0, 0, 0)
    base.turn()
    again = start(base)
    assert [(run.task, run.attempt) for run in again] == [(0, 2), (1, 2), (2, 2)]
    assert counts(base, job_id) == (0, 3, 0, 0, 0)


def test_rerun_goes_on_in_steps(base: Base) -> None:
    job_id = submit(base, "0-9")
    for run in start(base):
        base.finish(run.run_id, status=FAILED if run.task % 2 else SUCCESS, exit_code=run.task % 2)
    base.turn()
    step = base.store.rerun_tasks(Again(job_id, (0, 9), failed=True), 4, "ann", "", NOW)
    assert (step.done, step.after) == (2, 3)
    step = base.store.rerun_tasks(Again(job_id, (4, 9), failed=True), 100, "ann", "", NOW)
    assert (step.done, step.after) == (3, None)
    assert [run.task for run in start(base)] == [1, 3, 5, 7, 9]


def test_entries_go_with_their_tasks(base: Base) -> None:
    entries = pack([f"line {number}" for number in range(2_500)])
    assert [first for first, _ in entries.blocks] == [0, 1_000, 2_000]
    job_id = submit(base, "0-2499", each=entries)
    base.store.cancel_tasks(job_id, "ann", NOW, "", (2, 2_490))
    claimed = start(base)
    assert [(run.task, run.entry) for run in claimed][:3] == [(0, "line 0"), (1, "line 1"), (2_491, "line 2491")]
    assert job(base, job_id).entries == 2_500
    assert [task.entry for task in tasks(base, job_id)][-1] == "line 2499"
    assert base.store.find_claimed(claimed[2].run_id) == claimed[2]


def test_damaged_entries_fail_their_tasks(base: Base) -> None:
    job_id = submit(base, "0-1", each=pack(["a", "b"]))
    other = submit(base, "0-0", each=pack(["c"]))
    base.rows("UPDATE entries SET packed = ? WHERE job_id = ?", b"x", job_id)
    assert [run.job_id for run in start(base)] == [other]
    make(base)
    assert counts(base, job_id) == (0, 0, 0, 2, 0)


def test_priority_of_an_array_changes_its_ready_runs(base: Base) -> None:
    first, second = submit(base, "0-1"), submit(base, "0-1")
    make(base)
    base.turn()
    found = job(base, second)
    base.store.edit(replace(found, priority=5), "ann", "", NOW)
    assert [run.job_id for run in base.claim(count=4)] == [second, second, first, first]


def test_undone_submit_leaves_no_array_behind(base: Base) -> None:
    class Undo(Exception):
        pass

    def undone() -> None:
        with base.store.savepoint():
            submit(base, "0-9")
            raise Undo

    with pytest.raises(Undo):
        undone()
    plain = base.submit()
    assert plain == 1
    assert base.store.cancel(plain, "ann", NOW).pending == 1
    assert not make(base)


def ended(base: Base, array: str) -> JobId:
    """An array whose tasks have all succeeded, as of an earlier turn."""
    job_id = submit(base, array)
    while claimed := start(base):
        for run in claimed:
            base.finish(run.run_id)
    base.turn()
    return job_id


def test_large_array_is_removed_in_steps(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PURGE_RUNS_MAX", 4)
    base.by_hand = True
    job_id, small = ended(base, "0-9"), ended(base, "0-3")
    assert base.store.retention.remove(small, "ann", "", NOW)
    assert base.store.job(small) is None
    assert base.store.retention.remove(job_id, "ann", "", NOW)
    assert job(base, job_id).removing_ms == NOW
    steps = 0
    while base.store.retention.removing:
        base.store.flush_counters(NOW)
        base.store.commit()
        assert check(base.engine).sentences == []
        base.store.begin()
        assert base.store.retention.remove_more("ann", NOW)
        steps += 1
    assert steps == 2
    assert base.store.job(job_id) is None
    assert not base.store.retention.remove_more("ann", NOW)
    base.turn()


def test_tasks_of_an_array_that_is_being_removed_are_those_that_are_left(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PURGE_RUNS_MAX", 4)
    base.by_hand = True
    job_id = ended(base, "0-9")
    assert base.store.retention.remove(job_id, "ann", "", NOW)
    assert [task.index for task in tasks(base, job_id)] == [4, 5, 6, 7, 8, 9]


def test_runs_of_tasks_that_ran_several_times_are_removed_in_steps(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PURGE_RUNS_MAX", 4)
    base.by_hand = True
    job_id = ended(base, "0-2")
    base.store.rerun_array(job_id, "ann", "", NOW)
    for run in start(base):
        base.finish(run.run_id)
    base.turn()
    assert base.store.retention.remove(job_id, "ann", "", NOW)
    assert base.rows("SELECT count(*) FROM runs") == [(2,)]
    assert base.store.retention.remove_more("ann", NOW)
    assert base.store.job(job_id) is None


def test_runs_with_much_output_are_removed_in_smaller_steps(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PURGE_RUNS_MAX", 4)
    monkeypatch.setattr(retention, "PURGE_RUN_BYTES", 10)
    base.by_hand = True
    job_id = submit(base, "0-5")
    for run, size in zip(start(base), (0, 0, 19, 29, 1_000, 0), strict=True):
        base.finish(run.run_id, stdout=Stream(head=b"x" * size, total=size))
    base.store.end_jobs(NOW)
    base.turn()
    left = []
    assert base.store.retention.remove(job_id, "ann", "", NOW)
    while base.store.job(job_id) is not None:
        left.append(base.rows("SELECT count(*) FROM runs")[0][0])
        assert base.store.retention.remove_more("ann", NOW)
    assert left == [3, 2, 1]
    base.turn()


def test_ranges_of_an_array_that_is_removed_go_in_steps(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PURGE_RUNS_MAX", 4)
    base.by_hand = True
    job_id = submit(base, "0-11", hold=True)
    for task in range(0, 12, 2):
        base.store.cancel_tasks(job_id, "ann", NOW, "", (task, task))
    for task in range(1, 12, 2):
        base.store._end_unmade(job_id, parse_array("0-11"), (task, task), Reason.DEPENDENCY, Change(at_ms=NOW))
    base.store.end_jobs(NOW)
    base.turn()
    left = []
    assert base.store.retention.remove(job_id, "ann", "", NOW)
    while base.store.job(job_id) is not None:
        left.append(base.rows("SELECT count(*) FROM task_ranges")[0][0])
        assert base.store.retention.remove_more("ann", NOW)
    assert left == [8, 4, 0]
    base.turn()


def test_old_arrays_are_removed_within_the_bound_of_a_step(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PURGE_RUNS_MAX", 4)
    base.by_hand = True
    ended(base, "0-1"), ended(base, "0-2"), ended(base, "0-5")
    old = Old(SUCCESS, NOW + 1)
    after: int | None = 0
    removed = []
    while after is not None:
        step = base.store.retention.purge_jobs(old, JobId(after), 100, "retention", NOW)
        base.turn()
        removed.append(step.removed)
        after = step.reached
    assert removed == [1, 1, 0, 1, 0]
    assert base.rows("SELECT count(*) FROM runs") == [(0,)]


def test_check_finds_wrong_counts_of_an_array(base: Base) -> None:
    job_id = submit(base, "0-99%3", policy=LATER)
    (first, *_) = start(base)
    base.finish(first.run_id, status=FAILED, exit_code=1)
    base.store.hold_tasks(job_id, (50, 60), "ann", "", NOW)
    base.store.cancel_tasks(job_id, "ann", NOW, "", (90, 99))
    make(base)
    base.turn()
    base.store.rollback()
    assert check(base.engine).sentences == []
    base.store.begin()
    base.rows("UPDATE jobs SET waiting = 0, unmade = unmade - 1")
    base.rows("UPDATE task_ranges SET last_task = 98 WHERE last_task = 99")
    base.store.commit()
    said = " ".join(check(base.engine).sentences)
    assert "without a place" in said
    assert f"job {job_id} has 100 tasks" in said
    assert f"job {job_id} counts" in said
    base.by_hand = True
    base.store.begin()


@pytest.mark.parametrize("array", ["0-18:2", "0-7,10,15"])
def test_an_act_on_all_tasks_reads_none_of_many_ranges(base: Base, array: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "RANGES_MERGED_MAX", 5)
    job_id = submit(base, array, hold=True)
    base.store.cancel_tasks(job_id, "ann", NOW, "", (2, 2))
    base.store.cancel_tasks(job_id, "ann", NOW, "", (6, 6))
    with base.trace() as statements:
        assert base.store.hold_tasks(job_id, (0, 99), "ann", "", NOW) == 8
        assert base.store.release_tasks(job_id, (0, 99), "ann", "", NOW) == 8
        assert base.store.cancel(job_id, "ann", NOW).pending == 8
    assert not [text for text in statements if "INSERT INTO task_ranges" in text]
    assert counts(base, job_id) == (0, 0, 0, 0, 10)
    assert {task.reason for task in tasks(base, job_id)} == {Reason.CANCELLED}
    # What was not merged can be run again, also in parts.
    again = Again(job_id, (0, 4), failed=False)
    assert base.store.rerun_tasks(again, 10, "ann", "", NOW).done == parse_array(array).count(0, 4)
    assert base.store.hold_tasks(job_id, (0, 99), "ann", "", NOW) == parse_array(array).count(0, 4)


def test_ended_arrays_are_not_read_to_find_the_live_ones(base: Base) -> None:
    ended(base, "0-1")
    live = submit(base, "0-1")
    base.turn()
    # The index has the condition of the statement, so it has the live ones alone.
    condition = " ".join(array_sql.LIVE_ARRAYS.partition("WHERE")[2].split())
    steps = " ".join(base.plan(f"SELECT job_id FROM jobs WHERE {condition} ORDER BY job_id"))
    assert "jobs_of_arrays" in steps
    assert base.rows(array_sql.LIVE_ARRAYS) == [(live, None)]
    if not base.engine.distant:
        ((stored,),) = base.rows("SELECT sql FROM sqlite_master WHERE name = 'jobs_of_arrays'")
        assert stored.endswith(condition)


@pytest.mark.parametrize("why", ["held", "after", "cap", "date"])
def test_tasks_that_were_not_made_at_the_deadline_expire_at_once(base: Base, why: str) -> None:
    parent = base.submit()
    fields: dict[str, dict[str, object]] = {
        "held": {"hold": True},
        "after": {"after": parse_after([parent])},
        "cap": {},
        "date": {"run_at_ms": NOW + 4_999},
    }
    job_id = submit(base, "0-99999%2", deadline_ms=NOW + 5_000, **fields[why])
    make(base)
    base.turn()
    later = NOW + 5_000
    base.store.expire(later, 10_000)
    base.store.make_tasks(later, 10)
    base.store.end_jobs(later)
    assert counts(base, job_id) == (0, 0, 0, 100_000, 0)
    last = tasks(base, job_id)[-1]
    assert (last.status, last.reason) == (FAILED, Reason.EXPIRED)
    base.turn()


def test_passed_deadline_does_not_count_for_tasks_that_run_again(base: Base) -> None:
    job_id = submit(base, "0-9", deadline_ms=NOW + 5_000, hold=True)
    later = NOW + 5_000
    base.store.make_tasks(later, 10)
    base.store.end_jobs(later)
    assert counts(base, job_id) == (0, 0, 0, 10, 0)
    base.store.rerun_array(job_id, "ann", "", later)
    base.store.release(job_id, "ann", "", later)
    base.store.make_tasks(later, 10)
    assert base.store.expire(later, 10) == 0
    assert len(base.claim()) == 10


def test_a_deadline_that_is_changed_counts_for_tasks_without_runs(base: Base) -> None:
    job_id = submit(base, "0-9", hold=True)
    make(base)
    base.turn()
    base.store.edit(replace(job(base, job_id), deadline_ms=NOW), "ann", "", NOW)
    base.store.make_tasks(NOW, 10)
    assert counts(base, job_id) == (0, 0, 0, 10, 0)


def test_released_arrays_make_no_more_kinds_of_runs_than_there_may_be(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zsched.store.tasks.DEMANDS_MAX", 2)
    jobs = [submit(base, "0-1", limits={f"k{number}": 2}, hold=True) for number in range(4)]
    make(base)
    for job_id in jobs:
        base.store.release(job_id, "ann", "", NOW)
    make(base)
    base.turn()
    assert base.store.live_demands == 2
    make(base)
    base.store.rollback()
    base.store.begin()
    make(base)
    assert base.store.live_demands == 2
    ran = []
    while claimed := start(base):
        for run in claimed:
            base.finish(run.run_id)
            ran.append(run.job_id)
        assert base.store.live_demands <= 2
        base.turn()
    assert sorted(ran) == sorted(jobs * 2)


def test_restored_tasks_without_runs_that_may_start_only_once_fail(base: Base) -> None:
    base.register()
    job_id = submit(base, "0-99%2", policy=Policy(on_lost=OnLost.FAIL))
    later = submit(base, "0-9", policy=Policy(on_lost=OnLost.FAIL), run_at_ms=NOW + 1)
    usual = submit(base, "0-9", hold=True)
    make(base)
    base.turn()
    base.store.succeed("another", Restoration(now_ms=NOW, lease_ms=0))
    assert counts(base, job_id) == (0, 0, 0, 100, 0)
    assert {task.reason for task in tasks(base, job_id)} == {Reason.WORKER_LOST}
    assert [counts(base, each)[0] for each in (later, usual)] == [10, 10]
    base.turn()


def test_restored_tasks_without_runs_wait_for_the_leases_of_others(base: Base) -> None:
    base.register()
    job_id = submit(base, "0-9%2", policy=Policy(on_disconnect=OnDisconnect.STOP))
    make(base)
    assert len(base.claim()) == 2
    base.turn()
    base.store.succeed("another", Restoration(now_ms=NOW, lease_ms=30_000))
    base.turn()
    # As a scheduler that starts.
    base.store.rollback()
    base.store.begin()
    make(base)
    assert base.claim() == []
    base.store.release_due(NOW + 29_999, 100)
    base.store.make_tasks(NOW + 29_999, 100)
    assert base.claim() == []
    base.store.release_due(NOW + 30_000, 100)
    base.store.make_tasks(NOW + 30_000, 100)
    assert len(base.claim()) == 2
    assert counts(base, job_id)[1] == 2


@pytest.mark.parametrize(
    ("statement", "given", "search"),
    [
        (array_sql.PLACELESS, (1,), "runs_placeless (job_id=?)"),
        (array_sql.LIVE_RUN, (1,), "runs_live_of_array (job_id=? AND task>?)"),
        (array_sql.PENDING_DEMANDS, (1,), "runs_live_of_array (job_id=? AND task>?)"),
        (array_sql.RUNS_OF_FEW, (1, 2, 3, 9, 9), "runs_of_array (job_id=? AND task>? AND task<?)"),
        (array_sql.LOWEST_RANGE, (1, 1), "task_ranges_unmade (job_id=?)"),
    ],
    ids=["placeless", "live run", "demands", "runs of few tasks", "lowest range"],
)
def test_statements_about_an_array_read_no_other_runs(
    base: Base, statement: str, given: tuple[int, ...], search: str
) -> None:
    submit(base, "0-9%2")
    make(base)
    base.turn()
    steps = base.plan(statement, *given)
    index, _, conditions = search.rstrip(")").partition(" (")
    if base.engine.distant:
        # Whatever the planner takes for a small table, the index has the conditions of the statement.
        base.rows("SET LOCAL enable_seqscan = off")
        assert any(index in step for step in base.plan(statement, *given)), steps
    else:
        assert any(index in step and conditions in step for step in steps), steps
        assert not [step for step in steps if "runs_of_job" in step], steps
