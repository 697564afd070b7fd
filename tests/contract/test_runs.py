"""How runs start, end, go back and are lost: each verb's guard, and what the next attempt inherits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contract.base import NOW, W1, W2, Base
from zsched.model.demand import Demand
from zsched.model.lifecycle import TERMINAL, TRANSITIONS
from zsched.model.types import JobId, Outcome, Policy, Reason, RunId, RunStatus, Stream
from zsched.scheduler.epoch import begin_epoch
from zsched.store.contract import Load, RunOutput, StoreConstraint

PENDING, RUNNING, SUCCESS = RunStatus.PENDING, RunStatus.RUNNING, RunStatus.SUCCESS
FAILED, CANCELLED = RunStatus.FAILED, RunStatus.CANCELLED


def bring_to(base: Base, status: RunStatus) -> RunId:
    """A run in that state; one that has been handed out was given to w1."""
    if status is PENDING:
        return base.last_run(base.submit()).run_id
    run_id = base.running(W1)
    if status is CANCELLED:
        base.store.cancel(base.run(run_id).job_id, "ann", NOW)
    if status is not RUNNING:
        base.finish(run_id, status=FAILED if status is FAILED else SUCCESS)
    return run_id


# --- start ---


def test_a_start_is_noted_once_with_its_first_time(base: Base) -> None:
    run_id = base.running()
    assert base.store.start(run_id, W1, NOW + 1)
    assert base.store.start(run_id, W1, NOW + 9)
    assert base.run(run_id).started_ms == NOW + 1
    assert [held.started for held in base.store.held_by(W1)] == [True]


def test_start_writes_no_event(base: Base) -> None:
    run_id = base.running()
    before = len(base.events())
    base.store.start(run_id, W1, NOW)
    assert len(base.events()) == before


@pytest.mark.parametrize("status", [PENDING, SUCCESS, FAILED, CANCELLED])
def test_only_a_running_run_can_start(base: Base, status: RunStatus) -> None:
    run_id = bring_to(base, status)
    before = base.run(run_id)
    assert not base.store.start(run_id, W1, NOW + 9)
    assert base.run(run_id) == before


def test_only_the_owner_can_start_a_run(base: Base) -> None:
    run_id = base.running(W1)
    assert not base.store.start(run_id, W2, NOW)
    assert not base.store.start(RunId(99), W1, NOW)
    assert base.run(run_id).started_ms is None


# --- finish ---


def test_a_result_is_stored_whole(base: Base) -> None:
    run_id = base.running()
    outcome = Outcome(
        run_id=run_id,
        status=FAILED,
        reason=Reason.SIGNAL,
        detail="killed",
        exit_code=None,
        signal=9,
        started_ms=NOW + 1,
        finished_ms=NOW + 2,
        stdout=Stream(head=b"\xff\x00", tail=b"z", total=10),
        stderr=Stream(head=b"e", total=1),
    )
    assert base.store.finish(outcome, W1, NOW + 5) == "stored"
    run = base.run(run_id)
    assert (run.status, run.reason, run.detail, run.exit_code, run.signal) == (FAILED, "signal", "killed", None, 9)
    assert (run.worker_id, run.started_ms, run.finished_ms) == (W1, NOW + 1, NOW + 2)
    base.turn()
    door = base.open_door()
    assert door.output(run_id) == RunOutput(False, outcome.stdout, outcome.stderr)
    door.close()


def test_a_result_without_output_keeps_none(base: Base) -> None:
    run_id = base.running()
    base.finish(run_id)
    assert base.rows("SELECT count(*) FROM outputs") == [(0,)]


def test_reported_start_stays_when_the_result_lacks_it(base: Base) -> None:
    run_id = base.running(started=True)
    outcome = Outcome(run_id=run_id, status=SUCCESS, reason=Reason.EXIT, exit_code=0, finished_ms=NOW + 2)
    assert base.store.finish(outcome, W1, NOW) == "stored"
    assert base.run(run_id).started_ms == NOW


def test_the_same_result_again_is_a_duplicate_and_changes_nothing(base: Base) -> None:
    run_id = base.running()
    base.finish(run_id, status=FAILED, exit_code=3, stdout=Stream(head=b"x", total=1))
    before, events = base.run(run_id), len(base.events())
    assert base.finish(run_id, status=FAILED, exit_code=3, stdout=Stream(head=b"x", total=1)) == "duplicate"
    assert base.finish(run_id, status=SUCCESS) == "duplicate"
    assert base.run(run_id) == before
    assert len(base.events()) == events


def test_a_cancelled_runs_own_result_again_is_a_duplicate(base: Base) -> None:
    run_id = bring_to(base, CANCELLED)
    assert base.finish(run_id) == "duplicate"


def test_a_result_from_a_worker_that_does_not_own_the_run_is_stale(base: Base) -> None:
    run_id = base.running(W1)
    before = base.run(run_id)
    assert base.finish(run_id, W2) == "stale"
    assert base.run(run_id) == before
    assert base.finish(run_id, W1) == "stored"
    assert base.finish(run_id, W2) == "stale"


def test_a_result_of_a_run_that_is_pending_is_stale(base: Base) -> None:
    run_id = base.running()
    base.store.requeue_unstarted(run_id, W1, Reason.RETURNED, NOW)
    assert base.finish(run_id) == "stale"
    assert base.run(run_id).status == PENDING


@pytest.mark.parametrize("crashes", [1, 5], ids=["requeued", "at the crash limit"])
def test_a_result_from_a_lost_run_is_stale_and_leaves_an_event(base: Base, crashes: int) -> None:
    job_id = base.submit()
    for _ in range(crashes):
        (run,) = base.claim()
        base.store.start(run.run_id, W1, NOW)
        base.fail_lost(run.run_id, crash=True)
    before = base.run(run.run_id)
    assert base.finish(run.run_id) == "stale"
    base.store.note_stale([base.outcome(run.run_id)], W1, NOW)
    assert base.run(run.run_id) == before
    assert base.events()[-1] == ("failed", "failed", "stale", run.run_id, "w1", "worker w1")
    assert base.status(job_id) == (PENDING if crashes == 1 else FAILED)


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (1, ""),
        (2, "; 2 such results came at once, for runs {0} to {1}: {0}, {1}"),
        (
            30,
            "; 30 such results came at once, for runs {0} to {29}: {0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {9}, …",
        ),
    ],
)
def test_stale_results_that_came_together_leave_one_event(base: Base, count: int, told: str) -> None:
    runs = [base.running() for _ in range(count)]
    base.events()
    base.store.note_stale([base.outcome(run_id) for run_id in runs], W2, NOW)
    base.events()
    assert base.rows("SELECT run_first, run_last, worker_id, detail FROM events WHERE reason = 'stale'") == [
        (runs[0], runs[0], "w2", "w2 says success, but the run is running" + told.format(*runs))
    ]


def test_a_result_of_a_quarantined_run_is_stale(base: Base) -> None:
    job_id = base.submit()
    base.rows("UPDATE jobs SET command = ''")
    base.claim()
    assert base.finish(base.last_run(job_id).run_id) == "stale"


def test_a_result_of_a_run_that_does_not_exist_is_unknown(base: Base) -> None:
    assert base.finish(RunId(99)) == "unknown"
    assert base.events() == []


# --- terminal is final ---


@pytest.mark.parametrize("status", sorted(TERMINAL))
@pytest.mark.parametrize("change", ["status = 'pending'", "status = status", "exit_code = 7", "worker_id = 'w9'"])
def test_the_engine_itself_refuses_any_change_of_a_run_that_ended(base: Base, status: RunStatus, change: str) -> None:
    run_id = bring_to(base, status)
    before = base.run(run_id)
    with pytest.raises(StoreConstraint, match="terminal is final"), base.store.savepoint():
        base.rows(f"UPDATE runs SET {change} WHERE run_id = ?", run_id)
    assert base.run(run_id) == before


@pytest.mark.parametrize("was", [PENDING, RUNNING])
@pytest.mark.parametrize("became", list(RunStatus))
def test_the_engine_allows_the_transitions_of_the_table_and_no_other(
    base: Base, was: RunStatus, became: RunStatus
) -> None:
    run_id = bring_to(base, was)
    base.by_hand = True
    change = "UPDATE runs SET status = ? WHERE run_id = ?"
    if became is was or became in TRANSITIONS[was]:
        base.rows(change, became, run_id)
        assert base.run(run_id).status == became
    else:
        with pytest.raises(StoreConstraint, match="terminal is final"), base.store.savepoint():
            base.rows(change, became, run_id)


VERBS: dict[str, Callable[[Base, RunId], object]] = {
    "start": lambda base, run_id: base.store.start(run_id, W1, NOW + 9),
    "finish": lambda base, run_id: base.finish(run_id),
    "put_back": lambda base, run_id: base.store.requeue_unstarted(run_id, W1, Reason.RETURNED, NOW),
    "end_overdue": lambda base, run_id: base.store.end_overdue(NOW + 10**9),
    "cancel": lambda base, run_id: base.store.cancel(base.run(run_id).job_id, "ann", NOW),
    "clear_probation": lambda base, run_id: base.store.clear_probation(run_id),
    "release_due": lambda base, run_id: base.store.release_due(NOW + 10**9, 10),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_no_verb_changes_a_run_that_ended_and_none_fails_on_it(base: Base, status: RunStatus, verb: str) -> None:
    run_id = bring_to(base, status)
    before = base.run(run_id)
    VERBS[verb](base, run_id)
    assert base.run(run_id) == before


# --- put back ---


def test_a_run_that_never_started_goes_back_without_a_trace_of_its_worker(base: Base) -> None:
    run_id = base.running()
    assert base.store.requeue_unstarted(run_id, W1, Reason.RETURNED, NOW)
    run = base.run(run_id)
    assert (run.status, run.reason, run.attempt, run.crashes) == (PENDING, "returned", 1, 0)
    assert (run.worker_id, run.claimed_ms, run.finished_ms) == (None, None, None)
    assert [claimed.run_id for claimed in base.claim(W2)] == [run_id]
    assert base.run(run_id).reason is None


def test_a_run_that_started_or_belongs_to_another_is_not_put_back(base: Base) -> None:
    started, other = base.running(W1, started=True), base.running(W2)
    pending = base.last_run(base.submit()).run_id
    for run_id in (started, other, pending, RunId(99)):
        assert not base.store.requeue_unstarted(run_id, W1, Reason.RETURNED, NOW)
    assert base.run(started).status == base.run(other).status == RUNNING


# --- loss ---


def test_a_lost_run_ends_failed_and_a_fresh_one_of_its_task_is_pending(base: Base) -> None:
    run_id = base.running(started=True)
    assert base.fail_lost(run_id) == PENDING
    lost = base.run(run_id)
    assert (lost.status, lost.reason, lost.detail, lost.worker_id) == (FAILED, "worker_lost", "gone", W1)
    successor = base.last_run(lost.job_id)
    assert successor.run_id > run_id
    assert (successor.status, successor.task, successor.worker_id) == (PENDING, None, None)


@pytest.mark.parametrize(("started", "attempt"), [(False, 1), (True, 2)])
def test_attempts_count_only_runs_that_started(base: Base, started: bool, attempt: int) -> None:
    run_id = base.running(started=started)
    base.fail_lost(run_id, crash=True)
    assert base.last_run(base.run(run_id).job_id).attempt == attempt


def test_a_successor_keeps_the_priority(base: Base) -> None:
    run_id = base.running()
    base.rows("UPDATE runs SET priority = 7 WHERE run_id = ?", run_id)
    base.fail_lost(run_id)
    assert base.store.ready(NOW)[0].priority == 7


def test_a_crash_is_counted_on_the_run_and_its_successor_is_on_probation(base: Base) -> None:
    run_id = base.running(started=True)
    base.fail_lost(run_id, crash=True)
    successor = base.last_run(base.run(run_id).job_id)
    assert (base.run(run_id).crashes, successor.crashes) == (1, 1)
    assert base.store.ready(NOW)[0].demand.probation
    (claimed,) = base.claim()
    assert claimed.probation
    assert base.store.load(W1).probation == 1
    assert [held.probation for held in base.store.held_by(W1)] == [1]
    # Nobody has lived long who has not started.
    assert not base.store.clear_probation(claimed.run_id)
    assert base.store.load(W1).probation == 1
    base.store.start(claimed.run_id, W1, NOW)
    assert base.store.clear_probation(claimed.run_id)
    assert base.store.load(W1).probation == 0
    assert not base.store.clear_probation(claimed.run_id)


def test_the_most_suspects_together_only_ever_become_fewer(base: Base) -> None:
    run_id = base.running()
    for together, most in ((8, 8), (64, 8), (2, 2), (0, 2)):
        base.fail_lost(run_id, together=together)
        assert base.store.ready(NOW)[0].demand.probation == most
        (claimed,) = base.claim()
        run_id = claimed.run_id


def test_load_has_the_smallest_group_of_its_suspects(base: Base) -> None:
    for together in (4, 0, 8):
        run_id = base.running()
        if together:
            base.fail_lost(run_id, together=together)
            base.claim()
    assert base.store.load(W1) == Load(running=3, probation=2, together=4)


def test_what_earlier_releases_wrote_of_probation_is_understood(base: Base) -> None:
    base.submit()
    for text, probation in (("true", 1), ("false", 0)):
        base.engine.execute("UPDATE demands SET wish = ?", (f'{{"needs":[],"probation":{text}}}',))
        base.turn()
        base.store.rollback()
        base.store.begin()
        assert base.store.ready(NOW)[0].demand == Demand(probation=probation)


def test_a_suspects_successor_is_on_probation_without_a_crash(base: Base) -> None:
    run_id = base.running()
    base.fail_lost(run_id, together=4)
    assert base.last_run(base.run(run_id).job_id).crashes == 0
    assert base.store.ready(NOW)[0].demand.probation


def test_an_unblamed_successor_is_as_free_as_its_run_was(base: Base) -> None:
    run_id = base.running(started=True)
    base.fail_lost(run_id)
    assert not base.store.ready(NOW)[0].demand.probation
    (claimed,) = base.claim()
    base.fail_lost(claimed.run_id, together=4)
    (claimed,) = base.claim()
    base.fail_lost(claimed.run_id)
    assert base.store.ready(NOW)[0].demand.probation


def test_a_run_fails_for_good_at_the_crash_limit(base: Base) -> None:
    job_id = base.submit()
    for _ in range(5):
        (run,) = base.claim()
        base.store.start(run.run_id, W1, NOW)
        became = base.fail_lost(run.run_id, crash=True)
    assert became == FAILED
    last = base.last_run(job_id)
    assert (last.run_id, last.reason, last.crashes, last.attempt) == (run.run_id, "crash_limit", 5, 5)
    assert base.status(job_id) == FAILED
    assert base.store.ready(NOW) == []


def test_crashes_never_fail_a_run_whose_limit_is_never(base: Base) -> None:
    job_id = base.submit(policy=Policy(crash_limit=None))
    for _ in range(7):
        (run,) = base.claim()
        assert base.fail_lost(run.run_id, crash=True) == PENDING
    assert base.last_run(job_id).crashes == 7
    job = base.store.job(job_id)
    assert job is not None
    assert job.policy.crash_limit is None


def test_a_loss_without_a_crash_never_reaches_the_limit(base: Base) -> None:
    base.submit()
    for _ in range(7):
        (run,) = base.claim()
        assert base.fail_lost(run.run_id) == PENDING


def test_a_successor_with_a_time_waits_for_it(base: Base) -> None:
    run_id = base.running(started=True)
    base.fail_lost(run_id, crash=True, due_ms=NOW + 500)
    assert base.store.ready(NOW) == []
    assert base.store.next_due_ms() == NOW + 500
    assert base.store.release_due(NOW + 499, 10) == 0
    assert base.store.ready(NOW) == []
    assert base.store.release_due(NOW + 500, 10) == 1
    assert base.store.next_due_ms() is None
    assert len(base.claim()) == 1


def test_a_released_run_that_is_blocked_by_something_else_stays_blocked(base: Base) -> None:
    run_id = base.running()
    base.fail_lost(run_id, due_ms=NOW)
    base.rows("UPDATE runs SET blocked = blocked + 1 WHERE status = 'pending'")
    assert base.store.release_due(NOW, 10) == 1
    assert base.store.ready(NOW) == []
    assert base.rows("SELECT blocked FROM runs WHERE status = 'pending'") == [(1,)]


def test_a_waiting_successor_can_be_cancelled(base: Base) -> None:
    run_id = base.running()
    base.fail_lost(run_id, due_ms=NOW + 500)
    base.store.cancel(base.run(run_id).job_id, "ann", NOW)
    assert base.store.next_due_ms() is None
    assert base.store.release_due(NOW + 500, 10) == 0


def test_live_run_and_last_run_of_a_job_at_a_worker_are_found(base: Base) -> None:
    run_id = base.running(W1)
    job_id = base.run(run_id).job_id
    assert [run.run_id for run in base.store.live_on(W1, job_id)] == [run_id]
    base.fail_lost(run_id)
    assert base.store.live_on(W1, job_id) == []
    (again,) = base.claim(W1)
    base.fail_lost(again.run_id)
    (elsewhere,) = base.claim(W2)
    last = base.store.last_on(W1, job_id)
    assert last is not None
    assert last.run_id == again.run_id
    assert [run.run_id for run in base.store.live_on(W2, job_id)] == [elsewhere.run_id]
    assert base.store.last_on(W2, JobId(job_id + 1)) is None


def test_adopted_runs_were_handed_out_before_the_session_began(base: Base) -> None:
    run_id, other = base.running(W1), base.running(W2)
    before = {held.run_id: held.handed_n for held in (*base.store.held_by(W1), *base.store.held_by(W2))}
    base.store.adopt(W1)
    assert [held.handed_n for held in base.store.held_by(W1)] == [0]
    assert [held.handed_n for held in base.store.held_by(W2)] == [before[other]]
    assert run_id in before


def test_wait_for_a_span_of_time_ignores_jumps_of_the_wall_clock(base: Base) -> None:
    base.fail_lost(base.running(), due_ms=NOW + 500)
    base.store.shift(-86_400_000, NOW - 86_400_000)
    assert base.store.next_due_ms() == NOW + 500 - 86_400_000


def test_wall_clock_set_back_while_no_scheduler_ran_delays_nothing(base: Base) -> None:
    base.fail_lost(base.running(), due_ms=NOW + 500)
    base.turn()
    base.store.rollback()
    # Once, however often it starts before anything else happens; and set forward, what waits may have waited enough.
    for now_ms in (NOW - 86_400_000, NOW - 86_395_000, NOW - 86_400_000, NOW + 100):
        begin_epoch(base.store, now_ms)
        base.store.begin()
        assert base.store.next_due_ms() == NOW + 500 - 86_400_000
        base.store.rollback()
    base.store.begin()


def test_held_runs_stand_oldest_first(base: Base) -> None:
    first, other, second = base.running(W1), base.running(W2), base.running(W1)
    assert [held.run_id for held in base.store.held_by(W1)] == [first, second]
    assert [held.run_id for held in base.store.held_by(W2)] == [other]


def test_an_id_is_never_used_again_after_its_run_and_job_are_deleted(base: Base) -> None:
    job_id = base.submit()
    run_id = base.last_run(job_id).run_id
    base.turn()
    base.by_hand = True
    base.rows("DELETE FROM runs")
    base.rows("DELETE FROM jobs")
    base.turn()
    again = base.submit()
    assert again > job_id
    assert base.last_run(again).run_id > run_id
