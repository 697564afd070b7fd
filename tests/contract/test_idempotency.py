"""Submits that are done once: what is kept of them, for whom, and for how long."""

from __future__ import annotations

import pytest

from tests.contract.base import NOW, Base
from zsched.model.types import JobId
from zsched.store.contract import Submitted

K1, K2 = b"1" * 32, b"2" * 32


class OopsError(Exception):
    """A bug of ours, in the middle of a piece of work."""


def submitted(base: Base, digest: bytes = b"d", count: int = 1) -> Submitted:
    """What a submit has stored that was really done."""
    made = [base.submit() for _ in range(count)]
    return Submitted(digest * 32, made[0], made[-1], count)


def test_a_submit_is_kept_for_its_caller_and_key(base: Base) -> None:
    one, other = submitted(base, b"a", 3), submitted(base, b"b")
    base.store.idempotency.keep("ann", K1, one, NOW)
    base.store.idempotency.keep("bob", K1, other, NOW)
    base.store.idempotency.keep("ann", K2, other, NOW)
    assert base.store.idempotency.find("ann", K1, NOW - 1) == one
    assert base.open_door().submitted("ann", K1, NOW - 1) is None
    base.turn()
    for look in (base.store.idempotency.find, base.open_door().submitted):
        assert look("ann", K1, NOW - 1) == one
        assert look("bob", K1, NOW - 1) == look("ann", K2, NOW - 1) == other
        assert look("bob", K2, NOW - 1) is None
        assert look("an", K1, NOW - 1) is None


def test_it_is_found_as_long_as_it_is_young_enough(base: Base) -> None:
    one = submitted(base)
    base.store.idempotency.keep("ann", K1, one, NOW)
    assert base.store.idempotency.find("ann", K1, NOW - 1) == one
    assert base.store.idempotency.find("ann", K1, NOW) is None


def test_a_new_submit_takes_the_place_of_one_with_its_key(base: Base) -> None:
    one, other = submitted(base, b"a"), submitted(base, b"b", 2)
    base.store.idempotency.keep("ann", K1, one, NOW)
    base.store.idempotency.keep("ann", K1, other, NOW + 5)
    assert base.store.idempotency.find("ann", K1, NOW + 4) == other
    assert base.store.idempotency.forget(NOW + 4, 10) == 0
    assert base.store.idempotency.forget(NOW + 5, 10) == 1


def test_the_oldest_are_forgotten_first_and_no_more_than_asked(base: Base) -> None:
    one = submitted(base)
    for age in range(5):
        base.store.idempotency.keep("ann", bytes([age]) * 32, one, NOW + age)
    base.turn()
    assert base.store.idempotency.forget(NOW - 1, 10) == 0
    assert base.store.idempotency.forget(NOW + 3, 2) == 2
    kept = [age for age in range(5) if base.store.idempotency.find("ann", bytes([age]) * 32, 0)]
    assert kept == [2, 3, 4]
    assert base.store.idempotency.forget(NOW + 3, 10) == 2
    assert base.store.idempotency.forget(NOW + 3, 10) == 0
    assert base.store.idempotency.find("ann", bytes([4]) * 32, 0) == one


def test_what_is_undone_is_not_kept(base: Base) -> None:
    def work() -> None:
        with base.store.savepoint():
            base.store.idempotency.keep("ann", K1, submitted(base), NOW)
            raise OopsError

    with pytest.raises(OopsError):
        work()
    assert base.store.idempotency.find("ann", K1, 0) is None
    base.store.idempotency.keep("ann", K2, submitted(base), NOW)
    base.store.rollback()
    base.store.begin()
    assert base.store.idempotency.find("ann", K2, 0) is None


def test_it_outlives_its_jobs(base: Base) -> None:
    one = Submitted(b"d" * 32, JobId(7), JobId(8), 2)
    base.store.idempotency.keep("ann", K1, one, NOW)
    base.turn()
    assert base.open_door().submitted("ann", K1, 0) == one
