"""How long the guard waits for a word of its agent."""

from __future__ import annotations

from zsched.worker.agent.pace import Patience


def test_the_first_word_may_take_its_time_and_later_ones_what_was_said() -> None:
    patience = Patience(30_000, 1_000)
    assert not patience.over(30_999)
    patience.hear(5_000)
    assert not patience.over(31_000)
    assert patience.deadline_ms() == 36_000
    assert not patience.over(35_999)
    assert patience.over(36_000)


def test_any_word_counts() -> None:
    patience = Patience(5_000, 0)
    for now_ms in range(1_000, 20_000, 1_000):
        patience.hear()
        assert not patience.over(now_ms)
    assert patience.over(24_000)


def test_watchdog_that_stood_still_starts_its_wait_again() -> None:
    patience = Patience(5_000, 0)
    assert not patience.over(6_001)
    assert not patience.over(11_000)
    assert patience.over(11_001)
