"""The token buckets that bound how often a peer may do something."""

from __future__ import annotations

import pytest

from zsched.model import rate
from zsched.model.rate import Rate


def test_rate_allows_a_burst_and_then_one_in_each_gap() -> None:
    limit = Rate(3, 100)
    assert [limit.take("a", 1_000) for _ in range(5)] == [True, True, True, False, False]
    assert [limit.take("a", at_ms) for at_ms in (1_099, 1_100, 1_101, 1_200)] == [False, True, False, True]


def test_rate_is_by_key() -> None:
    limit = Rate(1, 100)
    assert (limit.take("a", 0), limit.take("a", 0), limit.take("b", 0)) == (True, False, True)


def test_burst_is_allowed_again_after_a_quiet_time() -> None:
    limit = Rate(2, 100)
    assert [limit.take("a", at_ms) for at_ms in (0, 0, 0, 10_000, 10_000, 10_000)] == [True, True, False] * 2


def test_keys_of_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate, "RATE_KEYS_MAX", 10)
    limit = Rate(1, 100)
    for number in range(1_000):
        assert limit.take(str(number), number * 100)
    assert len(limit._full_ms) <= 10
