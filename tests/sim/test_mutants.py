"""A simulator that notices nothing proves nothing: zsched without one of its guards must break a promise."""

from __future__ import annotations

import pytest

from tests.sim.mutants import EQUIVALENT, MUTANTS, SEEDS_MAX, caught_by


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in EQUIVALENT])
def test_the_seeds_notice_when_a_guard_is_missing(name: str) -> None:
    first = MUTANTS[name].first
    assert caught_by(MUTANTS[name], range(first, first + SEEDS_MAX)) is not None
