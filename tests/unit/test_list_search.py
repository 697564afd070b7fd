"""Searches in steps: each id is looked at once, in order, and a search ends after a time."""

from __future__ import annotations

from collections.abc import Generator
from itertools import pairwise

import pytest

from zsched.api.pages import Page
from zsched.api.search import Search
from zsched.model.limits import SEARCH_IDS_MIN, SEARCH_MS_MAX, SEARCH_STEP_MS_MAX


class Table:
    """Rows from 1 to a number, of which each costs a time to look at."""

    def __init__(self, row_s: float, *, newest_first: bool) -> None:
        self.now_s = 100.0
        self.row_s = row_s
        self.newest_first = newest_first
        self.steps: list[tuple[int, int]] = []

    def clock(self) -> float:
        return self.now_s

    def look(self, low: int, high: int) -> Generator[int]:
        self.steps.append((low, high))
        self.now_s += (high - low + 1) * self.row_s
        # Enough to see what was looked at.
        yield from sorted({low, high}, reverse=self.newest_first)

    def search(self, first: int, last: int) -> Search[int]:
        return Search(self.look, first, last, newest_first=self.newest_first, clock_s=self.clock)


@pytest.mark.parametrize("newest_first", [False, True])
def test_each_id_is_looked_at_once_and_in_order(newest_first: bool) -> None:
    table = Table(0.0, newest_first=newest_first)
    search = table.search(3, 20_000)
    seen = list(search.rows())
    assert seen == sorted(seen, reverse=newest_first)
    assert {seen[0], seen[-1]} == {3, 20_000}
    assert not search.unfinished
    steps = sorted(table.steps)
    assert [low for low, _ in steps] == [3, *(high + 1 for _, high in steps[:-1])]


def test_steps_grow_while_they_are_fast() -> None:
    table = Table(0.0, newest_first=False)
    list(table.search(1, 1_000_000_000).rows())
    sizes = [high - low + 1 for low, high in table.steps]
    assert sizes[0] == SEARCH_IDS_MIN
    assert all(after == 2 * before for before, after in pairwise(sizes[:-1]))
    assert len(sizes) < 22


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("row_s", [1e-6, 1e-5, 1e-4])
def test_a_search_stops_after_its_time_and_the_next_goes_on_there(newest_first: bool, row_s: float) -> None:
    table = Table(row_s, newest_first=newest_first)
    search = table.search(1, 10_000_000)
    begin_s = table.now_s
    seen = list(search.rows())
    step_ms = max(SEARCH_STEP_MS_MAX, SEARCH_IDS_MIN * row_s * 1000)
    assert SEARCH_MS_MAX <= (table.now_s - begin_s) * 1000 <= SEARCH_MS_MAX + step_ms
    assert search.unfinished
    first, last = search.left
    following = next(table.search(first, last).rows())
    assert following == (seen[-1] - 1 if newest_first else seen[-1] + 1)


def test_slow_steps_become_smaller() -> None:
    table = Table(0.0, newest_first=False)
    rows = table.search(1, 10_000_000).rows()
    for _ in range(2 * 4):
        next(rows)
    table.row_s = 4e-6
    for _ in rows:
        pass
    sizes = [high - low + 1 for low, high in table.steps]
    assert sizes[:4] == [SEARCH_IDS_MIN, 2 * SEARCH_IDS_MIN, 4 * SEARCH_IDS_MIN, 8 * SEARCH_IDS_MIN]
    assert sizes[-1] < max(sizes)


def test_an_empty_range_needs_no_step() -> None:
    table = Table(0.0, newest_first=False)
    search = table.search(5, 4)
    assert list(search.rows()) == []
    assert not search.unfinished
    assert table.steps == []


def test_an_unfinished_search_has_more() -> None:
    page: Page[int] = Page([b"[]"], 0, None, more=False)
    assert Table(0.0, newest_first=False).search(1, 2).finish(page).more
    assert not Table(0.0, newest_first=False).search(1, 0).finish(page).more
