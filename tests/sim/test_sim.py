"""Seeds of the simulator. A seed that breaks a promise tells its story; see docs/simulation.md."""

from __future__ import annotations

import pytest

from tests.sim.runner import check, story_of

# Seeds of the quick suite: some seconds' worth. A promise broken by chance is mostly found by the first dozens.
QUICK = 75
CHUNK = 25


@pytest.mark.parametrize("first", range(0, QUICK, CHUNK))
def test_no_promise_is_broken_whatever_goes_wrong(first: int) -> None:
    check(range(first, first + CHUNK))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(QUICK, 300, CHUNK))
def test_no_promise_is_broken_by_many_more_seeds(first: int) -> None:
    check(range(first, first + CHUNK))


def test_a_seed_alone_tells_the_whole_story_again() -> None:
    told = story_of(7).splitlines()
    again = story_of(7).splitlines()
    assert len(told) > 100
    # The identity of a database is random and decides nothing.
    assert [line for line in told if "db=" not in line and "database" not in line] == [
        line for line in again if "db=" not in line and "database" not in line
    ]
