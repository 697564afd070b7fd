"""Jobs that wait for other jobs."""

from __future__ import annotations

import pytest

from tests.contract.base import NOW, W1, Base
from zsched.model.after import parse_after
from zsched.model.arrays import read_array
from zsched.model.backoff import Backoff
from zsched.model.blocked import Blocked
from zsched.model.types import JobId, JobSpec, Policy, Reason, RunId, RunStatus
from zsched.store.check import check
from zsched.store.contract import Again, Old, Restoration

PENDING, RUNNING, SUCCESS, FAILED, CANCELLED = RunStatus
ONCE_MORE = Policy(retries=1, backoff=Backoff(initial_ms=0))


def spec(*after: int | str, **fields: object) -> JobSpec:
    return JobSpec(name="job", command="true", after=parse_after(after), **fields)  # type: ignore[arg-type]


def submit(base: Base, *specs: JobSpec) -> list[JobId]:
    return base.store.submit(specs, [None] * len(specs), "ann", NOW)


def judge(base: Base, count: int = 1_000) -> None:
    """The end of a turn, with all that its ends lead to."""
    base.store.end_jobs(NOW)
    while base.store.judge(NOW, count):
        pass
    base.turn()
    assert contradictions(base) == []


def contradictions(base: Base) -> list[str]:
    """What the check of the database finds. It reads between two turns."""
    base.store.flush_counters(NOW)
    base.store.commit()
    found = check(base.engine).sentences
    base.store.begin()
    return found


def claim(base: Base) -> dict[JobId, RunId]:
    return {run.job_id: run.run_id for run in base.claim()}


def end(base: Base, job_id: JobId, how: str = "success") -> None:
    """End a job that is ready."""
    if how == "cancelled":
        base.store.cancel(job_id, "ann", NOW)
    else:
        base.finish(claim(base)[job_id], status=RunStatus(how), exit_code=int(how == "failed"))
    judge(base)


def fate(base: Base, job_id: JobId) -> tuple[str, str | None]:
    run = base.last_run(job_id)
    return run.status, run.reason


@pytest.mark.parametrize("known", [True, False], ids=["ended before", "ends later"])
@pytest.mark.parametrize(
    ("how", "starts"),
    [("success", ("ok", "any")), ("failed", ("failed", "any")), ("cancelled", ("any",))],
)
def test_job_starts_when_the_other_ends_as_it_needs(
    base: Base, how: str, starts: tuple[str, ...], *, known: bool
) -> None:
    (parent,) = submit(base, spec())
    if known:
        end(base, parent, how)
    children = {ends: submit(base, spec(f"{parent}:{ends}"))[0] for ends in ("ok", "failed", "any")}
    if not known:
        assert list(claim(base)) == [parent]
        base.store.requeue_unstarted(base.last_run(parent).run_id, W1, Reason.RETURNED, NOW)
        end(base, parent, how)
    judge(base)
    assert set(claim(base)) == {children[ends] for ends in starts}
    for ends in children.keys() - set(starts):
        assert fate(base, children[ends]) == (FAILED, "dependency")
        assert base.status(children[ends]) == FAILED
        detail = base.last_run(children[ends]).detail
        assert detail is not None
        assert f"of job {parent}" in detail


def test_job_waits_for_all_jobs_that_it_names(base: Base) -> None:
    first, second, child = submit(base, spec(), spec(), spec("#1", "#2:any"))
    runs = claim(base)
    assert list(runs) == [first, second]
    base.finish(runs[first])
    judge(base)
    assert claim(base) == {}
    assert base.last_run(child).blocked == Blocked.PARENTS
    assert base.store.reads.waits_for(child, 5).count == 1
    base.finish(runs[second], status=FAILED, exit_code=1)
    judge(base)
    assert list(claim(base)) == [child]


def test_job_that_cannot_start_ends_at_once_and_so_do_its_dependents(base: Base) -> None:
    jobs = submit(base, spec(), spec(), spec("#1", "#2"), spec("#3"), spec("#4:failed"), spec("#4:any"))
    slow, bad, child, grandchild, cleanup, always = jobs
    runs = claim(base)
    base.finish(runs[bad], status=FAILED, exit_code=1)
    judge(base)
    assert fate(base, child) == fate(base, grandchild) == fate(base, cleanup) == (FAILED, "dependency")
    assert list(claim(base)) == [always]
    assert base.run(runs[slow]).status == RUNNING
    details = [base.last_run(job).detail for job in (child, grandchild, cleanup)]
    assert details == [
        f"it needs the success of job {bad}, which failed",
        f"it needs the success of job {child}, which never started",
        f"it needs the failure of job {grandchild}, which never started",
    ]


def test_parent_has_ended_only_after_all_of_its_retries(base: Base) -> None:
    parent, child, cleanup = submit(base, spec(policy=ONCE_MORE), spec("#1"), spec("#1:failed"))
    base.finish(claim(base)[parent], status=FAILED, exit_code=1)
    judge(base)
    assert fate(base, child)[0] == fate(base, cleanup)[0] == PENDING
    end(base, parent)
    assert list(claim(base)) == [child]
    assert fate(base, cleanup) == (FAILED, "dependency")


def test_parent_whose_run_is_lost_and_starts_again_has_not_ended(base: Base) -> None:
    base.register()
    parent, child = submit(base, spec(), spec("#1"))
    base.fail_lost(claim(base)[parent])
    judge(base)
    assert fate(base, child)[0] == PENDING
    end(base, parent)
    assert list(claim(base)) == [child]


@pytest.mark.parametrize("expired", [True, False])
def test_failure_without_a_start_is_not_the_failure_of_a_run(base: Base, *, expired: bool) -> None:
    parent, child = submit(base, spec(deadline_ms=NOW + 5), spec("#1:failed"))
    if expired:
        base.store.expire(NOW + 6, 10)
    else:
        base.finish(claim(base)[parent], status=FAILED, exit_code=1)
    judge(base)
    assert fate(base, child)[0] == (FAILED if expired else PENDING)


def test_only_the_last_run_says_whether_a_parent_has_run(base: Base) -> None:
    base.register()
    parent, child = submit(base, spec(deadline_ms=NOW + 5), spec("#1:failed"))
    base.fail_lost(claim(base)[parent])
    base.store.expire(NOW + 6, 10)
    judge(base)
    assert fate(base, parent) == (FAILED, "expired")
    assert fate(base, child) == (FAILED, "dependency")


def test_job_that_waits_may_be_held_due_later_and_limited_as_well(base: Base) -> None:
    fields = {"hold": True, "run_at_ms": NOW + 1_000, "limits": {"db": 1}}
    parent, child = submit(base, spec(), spec("#1", **fields))
    assert base.last_run(child).due_ms == NOW + 1_000
    end(base, parent)
    assert claim(base) == {}
    base.store.release(child, "ann", "", NOW)
    assert claim(base) == {}
    base.store.release_due(NOW + 1_000, 10)
    assert list(claim(base)) == [child]


def test_held_job_that_can_not_start_any_more_ends_although_it_is_held(base: Base) -> None:
    parent, child = submit(base, spec(), spec("#1", hold=True))
    end(base, parent, "failed")
    assert fate(base, child) == (FAILED, "dependency")


def test_deadline_counts_while_a_job_waits(base: Base) -> None:
    _, child, last = submit(base, spec(), spec("#1", deadline_ms=NOW + 5), spec("#2:any"))
    base.store.expire(NOW + 6, 10)
    judge(base)
    assert fate(base, child) == (FAILED, "expired")
    assert last in claim(base)


def test_cancelled_job_waits_no_more_and_its_own_dependents_are_judged(base: Base) -> None:
    parent, child, last = submit(base, spec(), spec("#1"), spec("#2"))
    end(base, child, "cancelled")
    assert fate(base, last) == (FAILED, "dependency")
    assert base.rows("SELECT count(*) FROM dependencies") == [(0,)]
    end(base, parent)
    assert fate(base, child) == (CANCELLED, "cancelled")


def test_rerun_of_a_parent_starts_no_dependent(base: Base) -> None:
    parent, child = submit(base, spec(), spec("#1"))
    end(base, parent, "failed")
    base.store.rerun(parent, "ann", "", NOW)
    judge(base)
    end(base, parent)
    assert fate(base, child) == (FAILED, "dependency")
    assert claim(base) == {}


def test_rerun_waits_for_parents_that_run_again(base: Base) -> None:
    parent, child = submit(base, spec(), spec("#1"))
    end(base, parent, "failed")
    base.store.rerun(parent, "ann", "", NOW)
    base.store.rerun(child, "ann", "", NOW)
    judge(base)
    assert base.last_run(child).blocked == Blocked.PARENTS
    end(base, parent)
    assert list(claim(base)) == [child]


def test_rerun_counts_parents_that_have_ended_and_forgets_removed_ones(base: Base) -> None:
    _, removed, child = submit(base, spec(), spec(), spec("#1", "#2"))
    for run_id in claim(base).values():
        base.finish(run_id)
    judge(base)
    end(base, child)
    base.by_hand = True
    assert base.store.retention.remove(removed, "ann", "", NOW)
    base.store.rerun(child, "ann", "", NOW)
    judge(base)
    end(base, child)
    assert base.last_run(child).attempt == 2


def test_dependents_that_are_not_judged_wait_for_the_next_end_of_a_rerun(base: Base) -> None:
    parent, *children = submit(base, spec(), *[spec("#1") for _ in range(3)])
    base.finish(claim(base)[parent], status=FAILED, exit_code=1)
    base.store.end_jobs(NOW)
    assert base.store.judge(NOW, 1)
    base.store.rerun(parent, "ann", "", NOW)
    judge(base)
    waiting = [child for child in children if fate(base, child)[0] == PENDING]
    assert len(waiting) == 2
    end(base, parent)
    assert list(claim(base)) == waiting


def test_parents_stay_while_a_dependent_lives(base: Base) -> None:
    parent, child = submit(base, spec(), spec("#1"))
    end(base, parent)
    old = Old(SUCCESS, NOW + 5)
    assert base.store.retention.is_needed(parent)
    assert base.store.retention.purge_jobs(old, JobId(0), 10, "retention", NOW).removed == 0
    base.turn()
    assert base.store.reads.count_old(old, JobId(1), child) == 0
    end(base, child)
    assert not base.store.retention.is_needed(parent)
    base.by_hand = True
    assert base.store.retention.purge_jobs(old, JobId(0), 10, "retention", NOW).removed == 2


def test_job_stays_until_its_dependents_are_judged(base: Base) -> None:
    parent, child = submit(base, spec(), spec("#1:any"))
    base.store.cancel(parent, "ann", NOW)
    base.store.end_jobs(NOW)
    base.store.flush_counters(NOW)
    assert base.store.retention.is_needed(parent)
    judge(base)
    assert list(claim(base)) == [child]


def test_thousands_of_dependents_are_judged_in_steps(base: Base) -> None:
    count = 1_500
    parent, *children = submit(base, spec(), *[spec("#1") for _ in range(count)])
    base.finish(claim(base)[parent])
    base.store.end_jobs(NOW)
    turns = 0
    more = True
    while more:
        base.turn()
        more = base.store.judge(NOW, 500)
        assert base.store.rows_changed < 2_000
        turns += 1
    assert turns == count // 500 + 1
    base.turn()
    assert base.rows("SELECT count(*) FROM runs WHERE blocked = 0 AND status = 'pending'") == [(count,)]
    assert len(children) == count


def test_job_that_waited_for_thousands_forgets_them_in_steps(base: Base) -> None:
    *parents, child = submit(base, *[spec() for _ in range(800)], spec(*[f"#{place}" for place in range(1, 801)]))
    base.store.cancel(parents[7], "ann", NOW)
    base.store.end_jobs(NOW)
    while base.store.judge(NOW, 100):
        base.turn()
    base.turn()
    assert fate(base, child) == (FAILED, "dependency")
    assert base.rows("SELECT count(*) FROM dependencies") == [(0,)]
    assert contradictions(base) == []


def test_chain_falls_in_steps(base: Base) -> None:
    first, *others = submit(base, spec(), *[spec(f"#{place}") for place in range(1, 50)])
    base.store.cancel(first, "ann", NOW)
    base.store.end_jobs(NOW)
    assert base.store.judge(NOW, 200)
    fallen = sum(fate(base, job)[0] == FAILED for job in others)
    assert 0 < fallen < len(others)
    judge(base)
    assert {fate(base, job) for job in others} == {(FAILED, "dependency")}


def test_plain_job_pays_no_statement_at_its_end(base: Base) -> None:
    base.store.judge(NOW, 10)
    base.submit()
    (run,) = base.claim()
    base.finish(run.run_id)
    with base.trace() as executed:
        base.store.end_jobs(NOW)
        assert not base.store.judge(NOW, 10)
    assert not [statement for statement in executed if "dependencies" in statement or "settled" in statement]


def test_restored_job_still_waits_for_its_parents(base: Base) -> None:
    base.register()
    parent, child = submit(base, spec(), spec("#1"))
    base.turn()
    base.store.succeed("another", Restoration(now_ms=NOW, lease_ms=0))
    judge(base)
    assert base.last_run(child).blocked & Blocked.PARENTS
    base.store.release_due(NOW + 100_000, 10)
    end(base, parent)
    base.store.release_due(NOW + 100_000, 10)
    assert list(claim(base)) == [child]


def test_jobs_of_a_flow_have_the_number_of_the_first(base: Base) -> None:
    base.submit()
    first, second, third = submit(base, spec(flow=1), spec("#1", flow=1), spec("#2:any", flow=1))
    base.turn()
    jobs = [base.store.job(job_id) for job_id in (first, second, third)]
    assert [job.flow for job in jobs if job] == [first] * 3
    assert [list(map(str, job.after)) for job in jobs if job] == [[], [str(first)], [f"{second}:any"]]
    reader = base.open_door()
    assert list(reader.flow(first)) == [first, second, third]
    assert reader.count_flow(first) == {PENDING: 3}
    reader.close()


# --- arrays ---


def turn_over(base: Base) -> dict[JobId, list[int]]:
    """The end of a turn; then all that is ready runs. Returns the tasks that run, by job."""
    base.store.end_jobs(NOW)
    while base.store.judge(NOW, 1_000):
        pass
    base.store.make_tasks(NOW, 1_000)
    base.turn()
    assert contradictions(base) == []
    started: dict[JobId, list[int]] = {}
    while runs := base.claim(count=1_000):
        for run in runs:
            started.setdefault(run.job_id, []).append(run.task)
    return started


def finish_all(base: Base, job_id: JobId, failing: int | None = None) -> None:
    for run_id, task in base.rows("SELECT run_id, task FROM runs WHERE job_id = ? AND status = 'running'", job_id):
        base.finish(run_id, status=FAILED if task == failing else SUCCESS, exit_code=int(task == failing))


def test_array_waits_as_a_whole_and_its_dependent_for_all_tasks(base: Base) -> None:
    parent, array, child = submit(base, spec(), spec("#1", array=read_array("0-3%2")), spec("#2"))
    assert turn_over(base) == {parent: [0]}
    finish_all(base, parent)
    assert turn_over(base) == {array: [0, 1]}
    finish_all(base, array)
    assert turn_over(base) == {array: [2, 3]}
    finish_all(base, array)
    assert turn_over(base) == {child: [0]}


def test_array_that_cannot_start_fails_without_a_run(base: Base) -> None:
    tasks = read_array("0-999")
    parent, array, child, always = submit(base, spec(), spec("#1", array=tasks), spec("#2:failed"), spec("#2:any"))
    turn_over(base)
    finish_all(base, parent, failing=0)
    assert turn_over(base) == {always: [0]}
    assert base.status(array) == FAILED
    assert fate(base, child) == (FAILED, "dependency")
    job = base.store.job(array)
    assert job is not None
    first = next(base.store.reads.tasks(job, 0, 0))
    assert (first.status, first.reason, first.last) == (FAILED, "dependency", None)
    assert base.rows("SELECT count(*) FROM runs WHERE job_id = ?", array) == [(0,)]
    assert base.rows("SELECT detail FROM events WHERE became = 'tasks_failed'") == [
        (f"1000 tasks; it needs the success of job {parent}, which failed",)
    ]


@pytest.mark.parametrize("some", [False, True])
def test_rerun_of_an_array_waits_again(base: Base, *, some: bool) -> None:
    parent, array = submit(base, spec(), spec("#1", array=read_array("0-2")))
    turn_over(base)
    finish_all(base, parent, failing=0)
    turn_over(base)
    base.store.rerun(parent, "ann", "", NOW)
    if some:
        assert base.store.rerun_tasks(Again(array, (0, 2), failed=True), 10, "ann", "", NOW).done == 3
    else:
        assert base.store.rerun_array(array, "ann", "", NOW)
    assert turn_over(base) == {parent: [0]}
    finish_all(base, parent)
    assert turn_over(base) == {array: [0, 1, 2]}


def test_array_whose_parents_have_ended_starts_with_its_submit(base: Base) -> None:
    (parent,) = submit(base, spec())
    end(base, parent)
    (array,) = submit(base, spec(parent, array=read_array("0-1"), run_at_ms=NOW - 5))
    assert turn_over(base) == {array: [0, 1]}


def test_job_waits_for_one_task_of_an_array(base: Base) -> None:
    array, child, cleanup = submit(base, spec(array=read_array("0-4%2")), spec("#1.1"), spec("#1.3:failed", "#1.0:any"))
    assert turn_over(base) == {array: [0, 1]}
    finish_all(base, array)
    assert turn_over(base) == {child: [0], array: [2, 3]}
    finish_all(base, array, failing=3)
    assert turn_over(base) == {cleanup: [0], array: [4]}


def test_job_fails_with_the_task_that_it_waits_for(base: Base) -> None:
    array, child = submit(base, spec(array=read_array("0-1")), spec("#1.1"))
    turn_over(base)
    finish_all(base, array, failing=1)
    turn_over(base)
    assert base.last_run(child).detail == f"it needs the success of task 1 of job {array}, which failed"
    (late,) = submit(base, spec(f"{array}.0", f"{array}.1:any"))
    assert turn_over(base) == {late: [0]}


def test_cancel_of_tasks_without_runs_ends_what_waits_for_them(base: Base) -> None:
    array, child, always = submit(base, spec(array=read_array("0-9%1")), spec("#1.7"), spec("#1.8:any"))
    turn_over(base)
    base.store.cancel_tasks(array, "ann", NOW, part=(5, 9))
    assert turn_over(base) == {always: [0]}
    assert fate(base, child) == (FAILED, "dependency")


def test_each_task_waits_for_the_same_task(base: Base) -> None:
    first, second, last = submit(
        base,
        spec(array=read_array("0-6:2%2")),
        spec("#1:same", array=read_array("0-6:2")),
        spec("#2"),
    )
    assert turn_over(base) == {first: [0, 2]}
    finish_all(base, first, failing=2)
    assert turn_over(base) == {first: [4, 6], second: [0]}
    finish_all(base, first)
    finish_all(base, second)
    assert turn_over(base) == {second: [4, 6]}
    finish_all(base, second)
    turn_over(base)
    assert base.rows("SELECT first_task, last_task, state, reason FROM task_ranges WHERE job_id = ?", second) == [
        (2, 2, "failed", "dependency")
    ]
    assert fate(base, last) == (FAILED, "dependency")
    assert base.rows("SELECT count(*) FROM dependencies") == base.rows("SELECT count(*) FROM settled") == [(0,)]


def test_tasks_follow_two_arrays_and_a_job_at_once(base: Base) -> None:
    tasks = read_array("0-2")
    one, two, job, both = submit(
        base, spec(array=tasks), spec(array=tasks), spec(hold=True), spec("#1:same", "#2:same", "#3", array=tasks)
    )
    turn_over(base)
    finish_all(base, one)
    assert turn_over(base) == {}
    finish_all(base, two)
    assert turn_over(base) == {}
    base.store.release(job, "ann", "", NOW)
    assert turn_over(base) == {job: [0]}
    finish_all(base, job)
    assert turn_over(base) == {both: [0, 1, 2]}


def test_tasks_that_ended_before_the_submit_count(base: Base) -> None:
    tasks = read_array("0-5%3")
    (first,) = submit(base, spec(array=tasks))
    turn_over(base)
    finish_all(base, first, failing=1)
    turn_over(base)
    (second,) = submit(base, spec(f"{first}:same", array=read_array("0-5")))
    assert turn_over(base) == {second: [0, 2]}
    finish_all(base, first)
    assert turn_over(base) == {second: [3, 4, 5]}


def test_rerun_of_failed_tasks_is_followed_again(base: Base) -> None:
    tasks = read_array("0-3")
    first, second = submit(base, spec(array=tasks), spec("#1:same", array=tasks))
    turn_over(base)
    finish_all(base, first, failing=2)
    turn_over(base)
    finish_all(base, second)
    turn_over(base)
    for job_id in (first, second):
        base.store.rerun_tasks(Again(job_id, (0, 3), failed=True), 10, "ann", "", NOW)
    assert turn_over(base) == {first: [2]}
    finish_all(base, first)
    assert turn_over(base) == {second: [2]}


def test_thousands_of_tasks_are_followed_in_steps(base: Base) -> None:
    tasks = read_array("0-2999")
    first, second = submit(base, spec(array=tasks), spec("#1:same", array=tasks))
    base.store.cancel_tasks(first, "ann", NOW)
    base.store.end_jobs(NOW)
    turns = 0
    while base.store.judge(NOW, 500):
        base.turn()
        turns += 1
    base.turn()
    assert turns > 4
    assert base.status(second) == FAILED
    assert base.rows("SELECT count(*) FROM dependencies") == base.rows("SELECT count(*) FROM settled") == [(0,)]


DAMAGES = {
    "jobs still wait for its end": "DELETE FROM settled",
    "waits for others, but has ended": (
        "INSERT INTO dependencies (child_id, judged, parent_id, ends) VALUES (99, 1, 2, 'ok')"
    ),
    "all have ended": "UPDATE runs SET blocked = 32 WHERE run_id = 3",
    "before its own have not ended": "UPDATE runs SET blocked = 0 WHERE run_id = 4",
}


@pytest.mark.parametrize("sentence", DAMAGES)
def test_check_finds_what_does_not_fit(base: Base, sentence: str) -> None:
    parent, _, _, _ = submit(base, spec(), spec(), spec(), spec("#1"))
    base.store.cancel(parent, "ann", NOW)
    assert contradictions(base) == []
    base.by_hand = True
    base.rows(DAMAGES[sentence])
    assert [found for found in contradictions(base) if sentence in found]


def test_tasks_that_ended_before_a_rerun_of_others_still_count(base: Base) -> None:
    parent, child = submit(base, spec(array=read_array("0-1")), spec("#1.0"))
    base.store.make_tasks(NOW, 10)
    good, bad = (run.run_id for run in base.claim())
    base.finish(good)
    base.finish(bad, status=FAILED, exit_code=1)
    base.store.end_jobs(NOW)
    # In the turn in which its last task has ended, the array is live again.
    base.store.rerun_tasks(Again(parent, (0, 1), True), 10, "ann", "", NOW)
    judge(base)
    assert base.last_run(child).blocked == 0


def test_an_array_has_run_whichever_of_its_tasks_has_failed(base: Base) -> None:
    parent, child = submit(base, spec(array=read_array("0-149")), spec("#1:failed"))
    base.store.make_tasks(NOW, 1_000)
    runs = base.claim(count=150)
    base.finish(runs[0].run_id, status=FAILED, exit_code=1)
    for run in runs[1:]:
        base.finish(run.run_id)
    judge(base)
    assert base.status(parent) is FAILED
    assert base.last_run(child).blocked == 0


@pytest.mark.parametrize("later", ["expired", "cancelled"])
def test_an_earlier_failure_of_a_task_does_not_say_that_an_array_has_run(base: Base, later: str) -> None:
    (parent,) = submit(base, spec(array=read_array("0-1"), deadline_ms=NOW + 100))
    base.store.make_tasks(NOW, 1_000)
    for run in base.claim():
        base.finish(run.run_id, status=FAILED, exit_code=1)
    judge(base)
    assert base.store.parents([parent])[parent].ran
    base.store.rerun_array(parent, "ann", "", NOW)
    if later == "cancelled":
        base.store.cancel_tasks(parent, "ann", NOW, "", (0, 0))
    base.store.make_tasks(NOW, 1_000)
    base.store.expire(NOW + 100, 10)
    judge(base)
    assert base.status(parent) is FAILED
    assert not base.store.parents([parent])[parent].ran


def test_whether_many_parents_have_run_is_one_look(base: Base) -> None:
    jobs = submit(base, *(spec() for _ in range(20)))
    for run_id in claim(base).values():
        base.finish(run_id, status=FAILED, exit_code=1)
    judge(base)
    with base.trace() as statements:
        assert all(parent.ran for parent in base.store.parents(jobs).values())
    assert len(statements) == 2


def test_no_statement_reads_the_ended_runs_of_an_array_that_waited(base: Base) -> None:
    parent, bad, *children = submit(
        base, spec(), spec(), spec("#1", array=read_array("0-1")), spec("#2", array=read_array("0-1"))
    )
    runs = claim(base)
    with base.trace() as statements:
        base.finish(runs[parent])
        base.finish(runs[bad], status=FAILED, exit_code=1)
        judge(base)
        base.store.make_tasks(NOW, 10)
        base.store.hold(children[0], "ann", "", NOW)
        base.store.cancel(children[0], "ann", NOW)
        base.store.end_jobs(NOW)
        base.store.make_tasks(NOW, 10)
        base.store.release(children[0], "ann", "", NOW)
    assert [base.status(job_id) for job_id in children] == [CANCELLED, FAILED]
    # Such a statement has no other condition that an index of runs covers than the job. The check of the database is no
    # part of a turn.
    unbounded = [text for text in statements if "UPDATE runs" in text and "of_array = 1" not in text]
    assert not [text for text in unbounded if "job_id" in text.partition("WHERE")[2].partition("RETURNING")[0]]


def test_a_step_that_judges_tasks_counts_what_it_changes_of_each_follower(base: Base) -> None:
    tasks = read_array("0-39")
    parent, *followers = submit(base, spec(array=tasks), *(spec("#1:same", array=tasks) for _ in range(4)))
    base.store.make_tasks(NOW, 100)
    for run in base.claim():
        base.finish(run.run_id, status=SUCCESS if run.task % 2 else FAILED, exit_code=int(not run.task % 2))
    base.store.end_jobs(NOW)
    left = f"SELECT count(*) FROM task_ranges WHERE job_id > {parent} AND state = 'waits'"
    judged = "SELECT sum(last_task - first_task + 1) FROM task_ranges WHERE state <> 'waits'"
    assert base.store.judge(NOW, 20)
    ((changed,),) = base.rows(judged)
    assert 0 < changed <= 20
    judge(base, 20)
    assert base.rows(left) == [(0,)]
    assert {job_id: base.status(job_id) for job_id in followers} == dict.fromkeys(followers, PENDING)


def test_a_step_of_a_rerun_looks_at_its_own_tasks_of_the_other_array(base: Base) -> None:
    parent, child = submit(base, spec(array=read_array("0-9")), spec("#1:same", array=read_array("0-9")))
    base.store.make_tasks(NOW, 100)
    for run in base.claim():
        base.finish(run.run_id)
    judge(base)
    base.store.cancel(child, "ann", NOW)
    judge(base)
    step = base.store.rerun_tasks(Again(child, (2, 9), True), 3, "ann", "", NOW)
    assert (step.done, step.after) == (0, 4)
    step = base.store.rerun_tasks(Again(child, (2, 9)), 3, "ann", "", NOW)
    assert (step.done, step.after) == (3, 4)
    judge(base)
    step = base.store.rerun_tasks(Again(child, (5, 9)), 3, "ann", "", NOW)
    assert (step.done, step.after) == (3, 7)
    assert base.rows("SELECT settled_id, first_task, last_task FROM settled") == [(parent, 5, 7)]
    judge(base)
    base.store.make_tasks(NOW, 100)
    assert [run.task for run in base.claim()] == [2, 3, 4, 5, 6, 7]
