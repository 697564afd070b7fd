"""What waits in the guard for a slot."""

from __future__ import annotations

import pytest

from zsched.model.limits import BACKLOG_WAIT_MS_MAX
from zsched.protocol import RunOrder
from zsched.worker.guard.backlog import Backlog
from zsched.worker.guard.life import Run


def waiting(run: int, since_ms: int, *, probation: bool = False) -> Run:
    order = RunOrder(
        run=run, job=1, task=0, attempt=1, command="true", grace_ms=1, output_bytes_max=1, probation=probation
    )
    return Run("d1", run, order, since_ms)


def numbers(runs: list[Run]) -> list[int]:
    return [run.number for run in runs]


@pytest.fixture
def backlog() -> Backlog:
    filled = Backlog()
    for run in (1, 2, 3):
        filled.add(waiting(run, run))
    return filled


def test_run_that_waited_longest_is_first(backlog: Backlog) -> None:
    assert [backlog.take().number for _ in range(3)] == [1, 2, 3]
    with pytest.raises(KeyError):
        backlog.take()


def test_one_on_probation_is_before_all_others(backlog: Backlog) -> None:
    backlog.add(waiting(4, 4, probation=True))
    backlog.add(waiting(5, 4, probation=True))
    assert [backlog.take().number for _ in range(5)] == [4, 5, 1, 2, 3]


def test_what_was_withdrawn_removed_or_late_is_not_urgent_any_more(backlog: Backlog) -> None:
    backlog.add(waiting(4, 4, probation=True))
    assert backlog.remove(4).number == 4
    assert backlog.take().number == 1
    backlog.add(waiting(5, 5, probation=True))
    assert numbers(backlog.take_all()) == [2, 3, 5]
    backlog.add(waiting(6, 6, probation=True))
    assert numbers(backlog.take_expired(6 + BACKLOG_WAIT_MS_MAX)) == [6]
    backlog.add(waiting(7, 7))
    assert backlog.take().number == 7


def test_what_waits_for_a_second_goes_back(backlog: Backlog) -> None:
    assert backlog.take_expired(1 + BACKLOG_WAIT_MS_MAX - 1) == []
    assert numbers(backlog.take_expired(2 + BACKLOG_WAIT_MS_MAX)) == [1, 2]
    assert backlog.deadline_ms() == 3 + BACKLOG_WAIT_MS_MAX
    assert numbers(backlog.take_all()) == [3]
