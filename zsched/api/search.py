"""Searches of lists: what matches a filter is found in steps, each of a range of ids, for SEARCH_MS_MAX at most.

A filter that no index serves makes the database look at each row. So a search may end before it has seen all: then its
page has a Link, and the next call goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from typing import Generic, TypeVar

from zsched.api.pages import Page
from zsched.model.limits import SEARCH_IDS_MIN, SEARCH_MS_MAX, SEARCH_STEP_MS_MAX, SEARCH_STEP_MS_MIN

T = TypeVar("T")


class Search(Generic[T]):
    """One search through the ids from `first` to `last`, both included."""

    def __init__(
        self,
        look: Callable[[int, int], Generator[T]],
        first: int,
        last: int,
        *,
        newest_first: bool = False,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`look`: the rows that match of a range of ids, in the order of the list."""
        self._look = look
        self._first, self._last = first, last
        self._newest_first = newest_first
        self._clock_s = clock_s
        # Whether ids are left that no step has looked at.
        self.unfinished = first <= last

    @property
    def left(self) -> tuple[int, int]:
        """The first and the last id that no step has looked at yet."""
        return self._first, self._last

    def rows(self) -> Generator[T]:
        """The rows that match, of as many steps as the time allows; at least one."""
        begin_s = now_s = self._clock_s()
        size = SEARCH_IDS_MIN
        while self.unfinished and (now_s - begin_s) * 1000 < SEARCH_MS_MAX:
            step_s = now_s
            with closing(self._look(*self._take(size))) as found:
                yield from found
            now_s = self._clock_s()
            spent_ms = (now_s - step_s) * 1000
            if spent_ms < SEARCH_STEP_MS_MIN:
                size *= 2
            elif spent_ms > SEARCH_STEP_MS_MAX and size > SEARCH_IDS_MIN:
                size //= 2

    def _take(self, size: int) -> tuple[int, int]:
        """The next range of ids."""
        if self._newest_first:
            taken = max(self._first, self._last - size + 1), self._last
            self._last = taken[0] - 1
        else:
            taken = self._first, min(self._last, self._first + size - 1)
            self._first = taken[1] + 1
        self.unfinished = self._first <= self._last
        return taken

    def finish(self, page: Page[T]) -> Page[T]:
        """The page of this search: more follows, too, if there are ids that it has not looked at."""
        return replace(page, more=page.more or self.unfinished)
