"""A simulator that notices nothing proves nothing: zsched without one of its guards must break a promise."""

from __future__ import annotations

import pytest

from tests.sim.mutants import EQUIVALENT, MUTANTS, SEEDS_MAX, applied, caught_by


@pytest.mark.parametrize("name", MUTANTS)
def test_the_guard_that_is_taken_away_is_still_where_the_mutant_says(name: str) -> None:
    with applied(MUTANTS[name]):
        pass


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in EQUIVALENT])
def test_the_seeds_notice_when_a_guard_is_missing(name: str) -> None:
    assert caught_by(MUTANTS[name], range(SEEDS_MAX)) is not None


def test_only_mutants_that_exist_are_excused() -> None:
    assert set(EQUIVALENT) <= set(MUTANTS)
