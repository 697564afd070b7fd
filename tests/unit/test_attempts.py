"""How often an address may show a bad token, and how many addresses are remembered."""

from __future__ import annotations

import pytest

from zsched.api import attempts
from zsched.api.attempts import Attempts
from zsched.model.limits import ATTEMPTS_MAX, ATTEMPTS_WINDOW_S


def test_ten_attempts_fill_a_window_and_the_next_bad_one_begins_another() -> None:
    seen = Attempts()
    for second in range(ATTEMPTS_MAX):
        assert not seen.too_many("a", 100.0 + second)
    assert seen.too_many("a", 110.0)
    assert seen.too_many("a", 100.0 + ATTEMPTS_WINDOW_S - 0.001)
    for _ in range(ATTEMPTS_MAX):
        assert not seen.too_many("a", 100.0 + ATTEMPTS_WINDOW_S)
    assert seen.too_many("a", 100.0 + ATTEMPTS_WINDOW_S)


def test_those_that_are_refused_do_not_make_the_window_longer() -> None:
    seen = Attempts()
    for step in range(int(ATTEMPTS_WINDOW_S) * 10):
        seen.too_many("a", step / 10)
    assert not seen.too_many("a", float(ATTEMPTS_WINDOW_S))


def test_each_address_has_its_own_count() -> None:
    seen = Attempts()
    for _ in range(ATTEMPTS_MAX + 1):
        seen.too_many("a", 0.0)
    assert not seen.too_many("b", 0.0)
    assert seen.too_many("a", 0.0)


def test_crowd_of_addresses_costs_bounded_memory_and_the_latest_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempts, "ATTEMPTS_ADDRESSES_MAX", 100)
    seen = Attempts()
    for number in range(1_000):
        for _ in range(ATTEMPTS_MAX + 1):
            seen.too_many(f"address {number}", 0.0)
    assert len(seen._seen) == 100
    assert seen.too_many("address 999", 0.0)
    assert seen.too_many("address 901", 0.0)
    assert not seen.too_many("address 1", 0.0)
    assert len(seen._seen) == 100


def test_address_whose_window_began_again_is_not_the_first_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "ATTEMPTS_ADDRESSES_MAX", 2)
    seen = Attempts()
    seen.too_many("a", 0.0)
    seen.too_many("b", 1.0)
    seen.too_many("a", float(ATTEMPTS_WINDOW_S))
    seen.too_many("c", float(ATTEMPTS_WINDOW_S))
    assert list(seen._seen) == ["a", "c"]
