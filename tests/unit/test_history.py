"""The checker of histories, proven first: a history with one thing wrong is red for that, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.history import (
    Cancel,
    Count,
    Event,
    Fire,
    History,
    Job,
    Parent,
    Process,
    Range,
    Run,
    Seen,
    Submit,
    check,
    lives,
)

# Run 1 was on w1, which was cut off; run 2 took its place after run 1 had ended. Run 3 was cancelled while it ran.
# Run 4 had a key, and the answer to its first submit was lost. Job 4 is recurring: it fired twice, once late.
# Job 5 is an array of two tasks, one at once. Job 6 follows it task by task; job 7 waits for the end of job 2, which
# was cancelled, and of job 5; job 8 is an array that waited for the success of job 2.
WITNESS = """\
1 1 w1 100 start 10.00
1 1 w1 100 alive 12.00
2 1 w2 200 start 12.50
2 1 w2 200 end 13.00 0
3 2 w1 101 start 20.00
4 3 w2 201 start 21.00
4 3 w2 201 end 21.01 0
5 4 w2 202 start 60.00
5 4 w2 202 end 60.00 0
6 4 w2 203 start 129.00
6 4 w2 203 end 129.00 0
17 5 w1 300 start 30.00
17 5 w1 300 end 31.00 0
18 5 w1 301 start 31.00
18 5 w1 301 end 32.00 0
19 6 w2 302 start 31.50
19 6 w2 302 end 31.50 0
20 6 w2 303 start 32.50
20 6 w2 303 end 32.50 0
21 7 w1 304 start 33.00
21 7 w1 304 end 33.00 0
"""
MINUTE_MS = 60_000


def good() -> History:
    return History(
        submits=[
            Submit("s1", None, 9_000, 9_010, "ok", 1),
            Submit("s2", None, 9_000, 9_010, "ok", 2),
            Submit("s3", "k3", 9_000, 12_000, "unknown"),
            Submit("s3", "k3", 12_000, 12_010, "ok", 3),
            Submit("s4", None, 9_000, 9_010, "ok", 4),
            Submit("s5", None, 9_000, 9_001, "fail"),
            Submit("s6", None, 9_000, 9_001, "unknown"),
            *(Submit(f"a{job}", None, 9_000, 9_010, "ok", job) for job in (5, 6, 7, 8)),
        ],
        cancels=[Cancel(2, 20_500, 20_510, "ok"), Cancel(1, 14_000, 14_010, "fail")],
        lives=lives(WITNESS.splitlines()),
        jobs=[
            Job(1, "s1", "success", stops=True),
            Job(2, "s2", "cancelled"),
            Job(3, "s3", "success"),
            Job(4, "s4", "success", recurring=True),
            Job(5, "a5", "success", stops=True, tasks=(1, 2), cap=1),
            Job(6, "a6", "success", tasks=(1, 2), after=(Parent("a5", "same"),)),
            Job(7, "a7", "success", after=(Parent("s2", "any"), Parent("a5", "ok"))),
            Job(8, "a8", "failed", tasks=(1, 2), after=(Parent("s2", "ok"),)),
        ],
        runs=[
            Run(1, 1, 0, "failed", "worker_lost", "w1"),
            Run(2, 1, 0, "success", "exit", "w2"),
            Run(3, 2, 0, "cancelled", "cancelled", "w1"),
            Run(4, 3, 0, "success", "exit", "w2"),
            Run(5, 4, 0, "success", "exit", "w2"),
            Run(6, 4, 0, "success", "exit", "w2"),
            Run(17, 5, 1, "success", "exit", "w1"),
            Run(18, 5, 2, "success", "exit", "w1"),
            Run(19, 6, 1, "success", "exit", "w2"),
            Run(20, 6, 2, "success", "exit", "w2"),
            Run(21, 7, 0, "success", "exit", "w1"),
        ],
        ranges=[Range(8, 1, 2, "failed", "dependency")],
        events=[
            Event(1, 1, None, "pending"),
            Event(1, 1, "pending", "running", "w1"),
            Event(1, 1, "running", "failed", "w1", "worker_lost"),
            Event(2, 2, None, "pending"),
            Event(2, 2, "pending", "running", "w2"),
            Event(2, 2, "running", "success", "w2"),
            Event(1, 1, "failed", "failed", "w1", "stale"),
            Event(3, 4, None, "pending"),
            Event(3, 3, "pending", "running", "w2"),
            Event(3, 3, "running", "pending", "w2", "returned"),
            Event(3, 3, "pending", "running", "w1"),
            Event(3, 3, "running", "running", "w1", "cancel"),
            Event(3, 3, "running", "cancelled", "w1"),
            Event(4, 4, "pending", "running", "w2"),
            Event(4, 4, "running", "success", "w2"),
            Event(5, 5, None, "pending", reason="fire"),
            Event(5, 5, "pending", "running", "w2"),
            Event(5, 5, "running", "success", "w2"),
            Event(6, 6, None, "pending", reason="fire"),
            Event(6, 6, "pending", "running", "w2"),
            Event(6, 6, "running", "success", "w2"),
        ],
        seen=[Seen(1, "failed", 12_300), Seen(2, "success", 13_100)],
        due_ms={4: [MINUTE_MS, 2 * MINUTE_MS]},
        fires=[Fire(4, MINUTE_MS, MINUTE_MS + 5), Fire(4, 2 * MINUTE_MS, 2 * MINUTE_MS + 9_000)],
    )


def witness(history: History, *lines: str) -> None:
    history.lives = lives([*WITNESS.splitlines(), *lines])


def lost(history: History) -> None:
    history.submits.append(Submit("s9", None, 1, 2, "ok", 9))


def unexpected(history: History) -> None:
    history.submits = [submit for submit in history.submits if submit.name != "s2"]


def refused_and_stored(history: History) -> None:
    history.submits[1] = replace(history.submits[1], outcome="fail", job=None)


def stored_twice(history: History) -> None:
    history.jobs.append(Job(9, "s1", "cancelled"))


def doubled_key(history: History) -> None:
    history.jobs.append(Job(9, "s3", "cancelled"))


def overlap(history: History) -> None:
    witness(history, "1 1 w1 100 alive 12.53")


def success_without_an_end(history: History) -> None:
    history.lives = [life for life in history.lives if life.run != 4]


def success_with_another_code(history: History) -> None:
    for life in history.lives:
        if life.run == 4:
            life.code = 1


def success_elsewhere(history: History) -> None:
    for life in history.lives:
        if life.run == 4:
            life.worker = "w1"


def two_successes(history: History) -> None:
    history.runs[0] = replace(history.runs[0], status="success", reason="exit")
    history.seen = []
    history.lives[0].code = 0


def wrong_loser(history: History) -> None:
    history.runs[0] = replace(history.runs[0], reason="signal")


def lost_without_a_successor(history: History) -> None:
    history.runs[3] = replace(history.runs[3], status="failed", reason="worker_lost")
    history.jobs[2] = replace(history.jobs[2], status="failed")


def failed_with_retries_left(history: History) -> None:
    history.jobs[2] = replace(history.jobs[2], status="failed", fails=True, tried_again=True)
    history.runs[3] = replace(history.runs[3], status="failed")


def started_again_against_its_wish(history: History) -> None:
    history.jobs[0] = replace(history.jobs[0], once=True)


def stale_after_the_end(history: History) -> None:
    history.events.append(Event(1, 1, "running", "success", "w1"))


def stale_of_another(history: History) -> None:
    history.events[14] = replace(history.events[14], worker="w1")


def stale_with_a_successor(history: History) -> None:
    history.events[2:5] = [Event(2, 2, None, "pending"), Event(1, 1, "running", "success", "w1"), history.events[4]]


def changed_after_its_end(history: History) -> None:
    history.seen.append(Seen(4, "failed", 21_000))


def gone_after_its_end(history: History) -> None:
    history.seen.append(Seen(9, "failed", 21_000))


def started_after_its_end(history: History) -> None:
    history.seen.append(Seen(3, "cancelled", 17_900))


def cancelled_and_a_success(history: History) -> None:
    history.cancels.append(Cancel(3, 20_000, 20_001, "ok"))


def cancelled_and_run_again(history: History) -> None:
    history.runs.append(Run(9, 2, 0, "cancelled", "cancelled"))


def cancelled_before_it_ran(history: History) -> None:
    history.events[9:13] = [Event(3, 3, "pending", "cancelled")]


def stuck(history: History) -> None:
    history.jobs.append(Job(9, "s6", "pending"))
    history.runs.append(Run(9, 9, 0, "pending"))


def stuck_in_execution(history: History) -> None:
    phantom(history)
    history.executing.add(9)


def phantom(history: History) -> None:
    history.jobs.append(Job(9, "s6", "running"))
    history.runs.append(Run(9, 9, 0, "running", worker="w1"))


def run_of_nobody(history: History) -> None:
    witness(history, "77 1 w1 300 start 30.00")


def run_of_another_job(history: History) -> None:
    history.lives[-1].job = 1


def started_twice(history: History) -> None:
    witness(history, "4 3 w2 299 start 22.00")


def orphan(history: History) -> None:
    history.orphans.append(Process(1, "sleep 9"))


def zombie(history: History) -> None:
    history.zombies.append(Process(1, "sh"))


def started_before_its_delay(history: History) -> None:
    # It was submitted at 9 s, and started at 21 s.
    history.jobs[2] = replace(history.jobs[2], delay_ms=14_000)


def task_is_lost(history: History) -> None:
    history.ranges[0] = replace(history.ranges[0], last=1)


def task_has_no_success(history: History) -> None:
    history.jobs[7] = replace(history.jobs[7], status="success", tasks=(1,))


def stored_without_its_parent(history: History) -> None:
    history.jobs[6] = replace(history.jobs[6], after=(Parent("s5", "ok"),))


def task_of_no_array(history: History) -> None:
    history.runs.append(Run(99, 8, 3, "cancelled", "cancelled"))


def run_after_the_success(history: History) -> None:
    history.runs.append(Run(99, 3, 0, "cancelled", "cancelled"))


def started_before_its_parent_ended(history: History) -> None:
    # The task 2 of job 5 ended at 32 s.
    history.lives[-2].started_ms = 31_600


def started_before_a_task_of_its_parent_ended(history: History) -> None:
    history.jobs[6] = replace(history.jobs[6], after=(Parent("a5", "ok", 2),))
    history.lives[-1].started_ms = 31_600


def started_without_the_success_of_its_parent(history: History) -> None:
    history.jobs[6] = replace(history.jobs[6], after=(Parent("s2", "ok"),))


def two_at_once(history: History) -> None:
    witness(history, "17 5 w1 300 alive 31.50")


def dependency_of_a_success(history: History) -> None:
    # It wrote nothing: it never started.
    history.lives = [life for life in history.lives if life.run != 21]
    history.jobs[6] = replace(history.jobs[6], status="failed")
    history.runs[10] = replace(history.runs[10], status="failed", reason="dependency")


def early(history: History) -> None:
    history.fires[0] = Fire(4, MINUTE_MS, MINUTE_MS - 1)


def late(history: History) -> None:
    history.fires[0] = Fire(4, MINUTE_MS, MINUTE_MS + 30_001)


def missed(history: History) -> None:
    del history.fires[0]


def extra(history: History) -> None:
    history.fires.append(history.fires[0])


def at_no_time(history: History) -> None:
    history.fires.append(Fire(4, 3 * MINUTE_MS, 3 * MINUTE_MS))


def artifacts_lost(history: History) -> None:
    history.jobs[2] = replace(history.jobs[2], leaves=True)


def artifacts_of_another_run(history: History) -> None:
    history.runs[3] = replace(history.runs[3], left=b"3\n")


def replay(history: History) -> None:
    history.replay.append("run 1 is a success, and its events say otherwise")


BAD: list[tuple[Callable[[History], None], Count]] = [
    (lost, Count.LOST),
    (unexpected, Count.UNEXPECTED),
    (refused_and_stored, Count.UNEXPECTED),
    (stored_twice, Count.UNEXPECTED),
    (doubled_key, Count.DOUBLED_KEY),
    (overlap, Count.OVERLAP),
    (success_without_an_end, Count.WRONG_WINNER),
    (success_with_another_code, Count.WRONG_WINNER),
    (success_elsewhere, Count.WRONG_WINNER),
    (two_successes, Count.WRONG_WINNER),
    (wrong_loser, Count.WRONG_LOSER),
    (lost_without_a_successor, Count.WRONG_LOSER),
    (failed_with_retries_left, Count.WRONG_LOSER),
    (started_again_against_its_wish, Count.SECOND_START),
    (stale_after_the_end, Count.STALE),
    (stale_of_another, Count.STALE),
    (stale_with_a_successor, Count.STALE),
    (changed_after_its_end, Count.RESURRECTED),
    (gone_after_its_end, Count.RESURRECTED),
    (started_after_its_end, Count.RESURRECTED),
    (cancelled_and_a_success, Count.RESURRECTED),
    (cancelled_and_run_again, Count.RESURRECTED),
    (cancelled_before_it_ran, Count.RESURRECTED),
    (stuck, Count.STUCK),
    (stuck_in_execution, Count.STUCK),
    (phantom, Count.PHANTOM),
    (run_of_nobody, Count.PHANTOM),
    (run_of_another_job, Count.PHANTOM),
    (started_twice, Count.PHANTOM),
    (orphan, Count.ORPHAN),
    (zombie, Count.ZOMBIE),
    (started_before_its_delay, Count.START_EARLY),
    (task_is_lost, Count.LOST),
    (task_has_no_success, Count.LOST),
    (stored_without_its_parent, Count.LOST),
    (task_of_no_array, Count.UNEXPECTED),
    (run_after_the_success, Count.SECOND_START),
    (started_before_its_parent_ended, Count.ORDER),
    (started_before_a_task_of_its_parent_ended, Count.ORDER),
    (started_without_the_success_of_its_parent, Count.ORDER),
    (two_at_once, Count.CAP),
    (dependency_of_a_success, Count.WRONG_LOSER),
    (early, Count.FIRE_EARLY),
    (late, Count.FIRE_LATE),
    (missed, Count.FIRE_MISSED),
    (extra, Count.FIRE_EXTRA),
    (at_no_time, Count.FIRE_EXTRA),
    (artifacts_lost, Count.ARTIFACT),
    (artifacts_of_another_run, Count.ARTIFACT),
    (replay, Count.REPLAY),
]


def test_a_good_history_is_clean() -> None:
    verdict = check(good())
    assert verdict.wrong == {count: [] for count in Count}
    assert verdict.clean
    assert (verdict.info["recovered"], verdict.info["rerun"]) == (1, 1)


@pytest.mark.parametrize(("spoil", "count"), [pytest.param(*case, id=case[0].__name__) for case in BAD])
def test_a_history_with_one_thing_wrong_is_red_for_that_alone(spoil: Callable[[History], None], count: Count) -> None:
    history = good()
    spoil(history)
    verdict = check(history)
    assert {one: many for one, many in verdict.counts().items() if many} == {count: 1}, verdict.wrong
    assert not verdict.clean


def test_each_count_has_a_history_that_turns_it_red() -> None:
    assert {count for _, count in BAD} == set(Count)


def test_overlaps_of_jobs_that_continue_are_reported_but_not_as_faults() -> None:
    history = good()
    overlap(history)
    history.jobs[0] = replace(history.jobs[0], stops=False)
    verdict = check(history)
    assert verdict.clean
    assert verdict.info["overlaps of jobs that continue"] == 1
