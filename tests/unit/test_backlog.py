"""What waits in the guard for a slot."""

from __future__ import annotations

import pytest

from zsched.model.limits import BACKLOG_WAIT_MS_MAX
from zsched.protocol import RunOrder
from zsched.worker.guard.backlog import Backlog


def order(run: int, *, probation: bool = False) -> RunOrder:
    return RunOrder(
        run=run, job=1, task=0, attempt=1, command="true", grace_ms=1, output_bytes_max=1, probation=probation
    )


@pytest.fixture
def backlog() -> Backlog:
    filled = Backlog()
    for run in (1, 2, 3):
        filled.add(order(run), run)
    return filled


def test_run_that_waited_longest_is_first(backlog: Backlog) -> None:
    assert [backlog.take().run for _ in range(3)] == [1, 2, 3]
    with pytest.raises(KeyError):
        backlog.take()


def test_one_on_probation_is_before_all_others(backlog: Backlog) -> None:
    backlog.add(order(4, probation=True), 4)
    backlog.add(order(5, probation=True), 4)
    assert [backlog.take().run for _ in range(5)] == [4, 5, 1, 2, 3]


def test_what_was_withdrawn_removed_or_late_is_not_urgent_any_more(backlog: Backlog) -> None:
    backlog.add(order(4, probation=True), 4)
    assert backlog.remove(4)
    assert not backlog.remove(4)
    assert backlog.take().run == 1
    backlog.add(order(5, probation=True), 5)
    assert backlog.withdraw() == (2, 3, 5)
    backlog.add(order(6, probation=True), 6)
    assert backlog.expire(6 + BACKLOG_WAIT_MS_MAX) == (6,)
    backlog.add(order(7), 7)
    assert backlog.take().run == 7


def test_what_waits_for_a_second_goes_back(backlog: Backlog) -> None:
    assert backlog.expire(1 + BACKLOG_WAIT_MS_MAX - 1) == ()
    assert backlog.expire(2 + BACKLOG_WAIT_MS_MAX) == (1, 2)
    assert backlog.deadline_ms() == 3 + BACKLOG_WAIT_MS_MAX
    assert len(backlog) == 1
    assert 3 in backlog
