"""Each row of the table of a run's life, reached through the verbs of the store, and each missing row refused.

What is expected is written by hand, so that a change of the table turns a test red. tests/sim/mutants.py changes each
row; EQUIVALENT there names the tests here that catch what no seed can meet.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import pytest

from tests.contract.base import NOW, W1, W2, Base
from zsched.model.after import Ends
from zsched.model.backoff import Backoff
from zsched.model.lifecycle import CAUSES, MOVES, TERMINAL, TRANSITIONS, Cause, State, state_of
from zsched.model.types import Outcome, Policy, Reason, RunId, RunStatus, WorkerId
from zsched.store.contract import Load
from zsched.store.followers import WHOLE, End

S, C = State, Cause


class Row(NamedTuple):
    """What a cause does to a run: the new state and reason, the reason of its event ("": the same; "-": no event), the
    reason of its successor's event, and what that counts: attempts, crashes, failures, returns.
    """

    became: State
    reason: str | None
    event: str = ""
    successor: str = ""
    counts: tuple[int, int, int, int] = (0, 0, 0, 0)


# Of a run that is running and, where that is possible, has started.
ENDS = {
    C.SUCCEED: Row(S.SUCCESS, "exit"),
    C.FAIL: Row(S.FAILED, "exit", "", "retry", (1, 0, 1, 0)),
    C.LAPSE: Row(S.FAILED, "lease_stop", "", "requeued", (1, 0, 0, 0)),
    C.REFUSE: Row(S.FAILED, "cwd_missing"),
}
CANCELLED = Row(S.CANCELLED, "cancelled")
CRASHED = Row(S.CANCELLED, "cancelled", "", "", (0, 1, 0, 0))
UNKILLABLE = Row(S.FAILED, "unkillable")
EXPECTED = {
    S.PENDING: {
        C.CLAIM: Row(S.RUNNING, None),
        C.CANCEL: CANCELLED,
        C.GIVE_UP: Row(S.CANCELLED, "max_fails"),
        C.QUARANTINE: Row(S.FAILED, "quarantined"),
        C.EXPIRE: Row(S.FAILED, "expired"),
        C.STRAND: Row(S.FAILED, "dependency"),
        C.RESTORE: Row(S.FAILED, "worker_lost", "", "requeued"),
    },
    S.RUNNING: {
        **ENDS,
        C.START: Row(S.RUNNING, None, "-"),
        C.OUTLIVE: Row(S.RUNNING, None, "-"),
        C.CANCEL: Row(S.CANCELLING, None, "cancel"),
        C.HANG: Row(S.STUCK, None, "stuck"),
        C.RETURN: Row(S.PENDING, "returned", counts=(0, 0, 0, 1)),
        C.BOUNCE: Row(S.PENDING, "undelivered", counts=(0, 0, 0, 1)),
        C.LOSE: Row(S.FAILED, "worker_lost", "", "requeued", (1, 0, 0, 0)),
        C.CRASH: Row(S.FAILED, "worker_lost", "", "requeued", (1, 1, 0, 0)),
        C.LAST_CRASH: Row(S.FAILED, "crash_limit", "", "", (0, 1, 0, 0)),
        C.OVERDUE: Row(S.FAILED, "timeout", "", "retry", (1, 0, 1, 0)),
        C.QUARANTINE: Row(S.FAILED, "quarantined"),
    },
    S.STUCK: {
        **ENDS,
        C.START: Row(S.STUCK, None, "-"),
        C.OUTLIVE: Row(S.STUCK, None, "-"),
        C.CANCEL: Row(S.CANCELLING, None, "cancel"),
        C.LOSE: UNKILLABLE,
        C.CRASH: UNKILLABLE._replace(counts=(0, 1, 0, 0)),
        C.LAST_CRASH: UNKILLABLE._replace(counts=(0, 1, 0, 0)),
        C.OVERDUE: Row(S.FAILED, "timeout"),
    },
    S.CANCELLING: {
        C.START: Row(S.CANCELLING, None, "-"),
        C.OUTLIVE: Row(S.CANCELLING, None, "-"),
        C.CANCEL: Row(S.CANCELLING, None, "cancel"),
        C.HANG: Row(S.CANCELLING, None, "stuck"),
        **dict.fromkeys(
            (C.RETURN, C.BOUNCE, C.SUCCEED, C.FAIL, C.LAPSE, C.REFUSE, C.LOSE, C.OVERDUE, C.WITHDRAW), CANCELLED
        ),
        **dict.fromkeys((C.CRASH, C.LAST_CRASH), CRASHED),
    },
    S.SUCCESS: {},
    S.FAILED: {},
    S.CANCELLED: {},
}
MADE = {C.SUBMIT: None, C.FIRE: "fire", C.REQUEUE: "requeued", C.RETRY: "retry", C.RERUN: "rerun"}

FINAL = (S.SUCCESS, S.FAILED, S.CANCELLED)
# Only the worker that has the run may say this.
FENCED = (C.START, C.HANG, C.RETURN, C.BOUNCE, C.SUCCEED, C.FAIL, C.LAPSE, C.REFUSE)
UNSTARTED = (C.RETURN, C.BOUNCE)
# A run on probation that has exceeded its timeout; its task has retries left.
POLICY = Policy(timeout_ms=1, grace_ms=0, retries=1, backoff=Backoff(initial_ms=0))
LATE = NOW + 10_000


Verb = Callable[[Base, RunId, WorkerId], object]


def report(status: RunStatus, reason: str = "exit") -> Verb:
    def say(base: Base, run_id: RunId, worker_id: WorkerId) -> object:
        outcome = Outcome(run_id=run_id, status=status, reason=reason, finished_ms=LATE)
        return base.store.finish(outcome, worker_id, LATE)

    return say


def give_back(reason: Reason) -> Verb:
    return lambda base, run_id, worker_id: base.store.requeue_unstarted(run_id, worker_id, reason, LATE)


def crash(crash_limit: int) -> Verb:
    def lose(base: Base, run_id: RunId, _: WorkerId) -> object:
        base.rows("UPDATE jobs SET crash_limit = ?", crash_limit)
        return base.fail_lost(run_id, crash=True)

    return lose


def quarantine(base: Base, run_id: RunId, worker_id: WorkerId) -> None:
    """A claim meets a row that can't be read, or a claimed run can't be sent."""
    if base.run(run_id).status is RunStatus.RUNNING:
        base.store.quarantine(run_id, "unreadable", LATE)
    else:
        base.rows("UPDATE jobs SET command = ''")
        base.claim(worker_id)


def give_up(base: Base, run_id: RunId, _: WorkerId) -> bool:
    """Its job is an array in which more tasks have failed than may: as if one had failed before that does not count."""
    base.rows("UPDATE jobs SET task_array = '0', max_fails = 0, forgiven = -1")
    base.rows("UPDATE runs SET of_array = 1 WHERE status IN ('pending', 'running')")
    base.store._arrays.add(base.run(run_id).job_id)
    return not base.store.make_tasks(LATE, 10)


def expire(base: Base, run_id: RunId, _: WorkerId) -> object:
    """Its deadline has come, whatever its state."""
    if base.run(run_id).status in (RunStatus.PENDING, RunStatus.RUNNING):
        base.rows("UPDATE runs SET expires_ms = ? WHERE run_id = ?", LATE, run_id)
    return base.store.expire(LATE, 10)


def strand(base: Base, run_id: RunId, _: WorkerId) -> object:
    """It waits for a job that is cancelled, whatever its own state."""
    job_id = base.run(run_id).job_id
    base.rows("UPDATE runs SET blocked = 32 WHERE run_id = ? AND status IN ('pending', 'running')", run_id)
    edge = (job_id, job_id + 1, WHOLE, Ends.OK)
    cancelled = End(RunStatus.CANCELLED, ran=False)
    base.store._judge([edge], {(job_id + 1, WHOLE): cancelled}, LATE)
    return base.run(run_id).status is RunStatus.FAILED


VERBS: dict[Cause, Verb] = {
    C.CLAIM: lambda base, run, worker: base.claim(worker),
    C.CANCEL: lambda base, run, worker: base.store.cancel(base.run(run).job_id, "ann", LATE),
    C.GIVE_UP: give_up,
    C.WITHDRAW: lambda base, run, worker: base.store.end_cancelled(run, LATE),
    C.OVERDUE: lambda base, run, worker: base.store.end_overdue(LATE),
    C.QUARANTINE: quarantine,
    C.EXPIRE: expire,
    C.STRAND: strand,
    C.RESTORE: lambda base, run, worker: base.store.replace_waiting([run], LATE),
    C.OUTLIVE: lambda base, run, worker: base.store.clear_probation(run),
    C.LOSE: lambda base, run, worker: base.fail_lost(run),
    C.CRASH: crash(9),
    C.LAST_CRASH: crash(1),
    C.START: lambda base, run, worker: base.store.start(run, worker, LATE),
    C.HANG: lambda base, run, worker: base.store.mark_stuck(run, worker, LATE),
    C.RETURN: give_back(Reason.RETURNED),
    C.BOUNCE: give_back(Reason.UNDELIVERED),
    C.SUCCEED: report(RunStatus.SUCCESS),
    C.FAIL: report(RunStatus.FAILED),
    C.LAPSE: report(RunStatus.FAILED, "lease_stop"),
    C.REFUSE: report(RunStatus.FAILED, "cwd_missing"),
}


def bring(base: Base, state: State, *, started: bool) -> RunId:
    """A run in that state, on probation; one that has been claimed is or was on w1."""
    job_id = base.submit(policy=POLICY)
    base.claim()
    base.fail_lost(base.last_run(job_id).run_id, together=4)
    run_id = base.last_run(job_id).run_id
    if state is S.PENDING:
        return run_id
    base.claim(ends=True)
    if started:
        base.store.start(run_id, W1, NOW)
    if state is S.STUCK:
        base.store.mark_stuck(run_id, W1, NOW)
    if state in (S.CANCELLING, S.CANCELLED):
        base.store.cancel(job_id, "ann", NOW)
    if state in (S.SUCCESS, S.CANCELLED):
        base.finish(run_id)
    if state is S.FAILED:
        base.rows("UPDATE jobs SET retries = 0")
        base.finish(run_id, status=RunStatus.FAILED)
    assert state_in(base, run_id) is state
    return run_id


def state_in(base: Base, run_id: RunId) -> State:
    ((status, cancelled, stuck),) = base.rows("SELECT status, cancel_ms, stuck FROM runs WHERE run_id = ?", run_id)
    return state_of(RunStatus(status), cancelled, stuck)


def events_of(base: Base, run_id: RunId) -> list[tuple[str | None, str, str | None]]:
    return [(was, became, reason) for was, became, reason, run, *_ in base.events() if run == run_id]


def everything(base: Base) -> list[object]:
    base.store.flush_counters(NOW)
    return [base.rows(f"SELECT * FROM {table}") for table in ("runs", "events", "totals")]


def refused(base: Base, cause: Cause, run_id: RunId, worker_id: WorkerId = W1) -> bool:
    """Whether a cause changes nothing. A verb that must never meet such a run raises."""
    before = everything(base)
    with suppress(AssertionError), base.store.savepoint():
        VERBS[cause](base, run_id, worker_id)
    if cause is C.EXPIRE:
        base.rows("UPDATE runs SET expires_ms = NULL WHERE expires_ms IS NOT NULL AND status = 'running'")
    if cause is C.STRAND:
        base.rows("UPDATE runs SET blocked = 0 WHERE blocked = 32 AND status = 'running'")
    if cause is C.GIVE_UP:
        base.rows("UPDATE runs SET of_array = 0 WHERE of_array = 1 AND status IN ('pending', 'running')")
    return everything(base) == before


CASES = [(state, cause) for state in EXPECTED for cause in VERBS]


@pytest.mark.parametrize(("state", "cause"), [case for case in CASES if case[1] in EXPECTED[case[0]]])
def test_each_row_of_the_table_is_what_its_verb_does(base: Base, state: State, cause: Cause) -> None:
    expected = EXPECTED[state][cause]
    run_id = bring(base, state, started=cause not in UNSTARTED)
    base.turn()
    before, known = base.run(run_id), len(events_of(base, run_id))
    answer = VERBS[cause](base, run_id, W1)
    assert answer or expected.event != "-", "a move without an event is seen by its answer alone"
    after, last = base.run(run_id), base.last_run(before.job_id)
    assert state_in(base, run_id) is expected.became
    assert after.reason == (expected.reason if expected.became.status is not before.status else before.reason)
    base.store.end_jobs(NOW)
    assert (before.job_id in base.store.changes.ended) == (expected.became in FINAL and not expected.successor)
    events = events_of(base, run_id)[known:]
    event = (before.status, after.status, expected.event or expected.reason)
    assert events == ([] if expected.event == "-" else [event])
    followed = last.run_id != run_id
    assert [reason for _, _, reason in events_of(base, last.run_id)] == [expected.successor] if followed else True
    assert followed == bool(expected.successor)
    counts = (last.attempt - before.attempt, after.crashes - before.crashes, last.failures - before.failures)
    assert (*counts, last.returns - before.returns) == expected.counts
    if followed:
        assert last.crashes == after.crashes
    assert (after.finished_ms is not None) == (expected.became in FINAL)
    base.check_loads()


@pytest.mark.slow
@pytest.mark.parametrize(("state", "cause"), [case for case in CASES if case[1] not in EXPECTED[case[0]]])
def test_each_pair_that_the_table_lacks_changes_nothing(base: Base, state: State, cause: Cause) -> None:
    run_id = bring(base, state, started=False)
    assert refused(base, cause, run_id)


@pytest.mark.slow
@pytest.mark.parametrize("cause", FENCED)
@pytest.mark.parametrize("state", [S.RUNNING, S.STUCK, S.CANCELLING])
def test_a_fenced_move_needs_the_worker_that_has_the_run(base: Base, state: State, cause: Cause) -> None:
    assert refused(base, cause, bring(base, state, started=False), W2)


@pytest.mark.parametrize("state", [S.RUNNING, S.STUCK, S.CANCELLING])
def test_only_unstarted_runs_go_back_and_only_started_ones_are_trusted(base: Base, state: State) -> None:
    run_id = bring(base, state, started=True)
    assert all(refused(base, cause, run_id) for cause in UNSTARTED)
    assert refused(base, C.OUTLIVE, bring(base, state, started=False))


def test_the_probation_of_a_run_counts_until_it_is_cleared_or_ends(base: Base) -> None:
    run_id = bring(base, S.RUNNING, started=True)
    assert base.store.load(W1) == Load(1, 1, 4)
    VERBS[C.OUTLIVE](base, run_id, W1)
    assert base.store.load(W1) == Load(1, 0)
    VERBS[C.SUCCEED](base, run_id, W1)
    assert base.store.load(W1) == Load(0, 0)


def test_new_runs_are_pending_and_say_what_made_them(base: Base) -> None:
    job_id = base.submit(policy=POLICY)
    cron = base.recurring(NOW)
    fired = base.store.fire(cron, NOW + 60_000, "test", NOW)
    (first,) = [run.run_id for run in base.claim(count=1)]
    base.finish(first, status=RunStatus.FAILED)
    retried = base.last_run(job_id).run_id
    base.stop_avoiding()
    base.claim()
    base.fail_lost(retried)
    made = {C.SUBMIT: first, C.FIRE: fired, C.RETRY: retried, C.REQUEUE: base.last_run(job_id).run_id}
    cancelled = base.submit()
    base.store.cancel(cancelled, "ann", NOW)
    again = base.store.rerun(cancelled, "ann", "", NOW)
    assert again is not None
    made[C.RERUN] = again
    assert {cause: events_of(base, run_id)[0] for cause, run_id in made.items()} == {
        cause: (None, "pending", reason) for cause, reason in MADE.items()
    }
    assert state_in(base, made[C.REQUEUE]) is S.PENDING


def test_a_schedule_that_ends_before_its_first_fire_ends_its_job(base: Base) -> None:
    job_id = base.recurring(NOW + 1)
    base.turn()
    base.store.end_schedule(job_id, "ann", NOW)
    base.store.flush_counters(NOW)
    assert base.store.changes.ended == {job_id}


def test_the_table_has_the_rows_that_are_tested_here() -> None:
    assert {state: set(rows) for state, rows in MOVES.items()} == {
        S.NEW: set(MADE),
        **{state: set(rows) for state, rows in EXPECTED.items()},
    }
    assert set(CAUSES) == set(Cause)


def test_the_trigger_is_what_the_table_says(base: Base) -> None:
    assert base.refused() == {
        (was, became)
        for was in RunStatus
        for became in RunStatus
        if was in TERMINAL or became not in {was, *TRANSITIONS[was]}
    }
