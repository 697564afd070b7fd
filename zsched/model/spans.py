"""Sets of numbers as spans, written `1-5000,7001`. Pure.

Jobs of one submit have consecutive numbers, so a selection of a hundred thousand jobs is mostly one span.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import Final

Span = tuple[int, int]

_PART: Final = re.compile(r"([0-9]{1,16})(?:-([0-9]{1,16}))?", re.ASCII)


class TooMany(ValueError):
    """More numbers than may be named."""


class Spans:
    """A set of whole numbers; never changed. `spans` are (first, last) pairs in ascending order, with a gap between any
    two.
    """

    # Not a dataclass: importing dataclasses takes longer than a short command does otherwise.
    __slots__ = ("spans",)

    def __init__(self, spans: tuple[Span, ...] = ()) -> None:
        self.spans: Final = spans

    def __repr__(self) -> str:
        return f"Spans({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spans) and self.spans == other.spans

    def __hash__(self) -> int:
        return hash(self.spans)

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.spans)

    def __iter__(self) -> Iterator[int]:
        for first, last in self.spans:
            yield from range(first, last + 1)

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self.spans, number, key=_first) - 1
        return place >= 0 and number <= self.spans[place][1]

    def __str__(self) -> str:
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.spans)

    def __or__(self, other: Spans) -> Spans:
        return of((*self.spans, *other.spans))

    def __sub__(self, other: Spans) -> Spans:
        left: list[Span] = []
        taken = iter(other.spans)
        begin, end = next(taken, (0, -1))
        for first, last in self.spans:
            rest = first
            while end >= begin and begin <= last:
                if rest < begin:
                    left.append((rest, begin - 1))
                rest = max(rest, end + 1)
                if end > last:
                    break
                begin, end = next(taken, (0, -1))
            if rest <= last:
                left.append((rest, last))
        return Spans(tuple(left))

    def __and__(self, other: Spans) -> Spans:
        return self - (self - other)

    def above(self, number: int) -> Iterator[Span]:
        """The spans of the numbers above this one, in order."""
        place = max(0, bisect_right(self.spans, number, key=_first) - 1)
        for position in range(place, len(self.spans)):
            first, last = self.spans[position]
            if last > number:
                yield max(first, number + 1), last

    def head(self, count: int) -> Spans:
        """At most `count` spans, the first ones."""
        return self if len(self.spans) <= count else Spans(self.spans[:count])


def of(spans: Iterable[Span]) -> Spans:
    """The numbers of spans that may be in any order, touch and overlap."""
    merged: list[Span] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return Spans(tuple(merged))


def of_numbers(numbers: Iterable[int]) -> Spans:
    """The spans of single numbers in any order, which may repeat."""
    merged: list[Span] = []
    begin, end = -1, -2
    for number in sorted(numbers):
        if number > end + 1:
            if begin >= 0:
                merged.append((begin, end))
            begin = number
        end = number
    return Spans((*merged, (begin, end)) if begin >= 0 else ())


def parse(parts: Iterable[str], most: int, forms: str = "12 or 3-8") -> Spans:
    """Read parts like `12` and `3-8`. Raises ValueError with a sentence, which names the `forms` that there are, and
    TooMany for more than `most` numbers.
    """
    found: list[Span] = []
    total = 0
    for part in parts:
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} names no jobs; write {forms}")
        first = int(match[1])
        last = int(match[2] or first)
        if last < first:
            raise ValueError(f"{part} runs backwards")
        total += last - first + 1
        if total > most:
            raise TooMany(f"{part} are too many; name at most {most} jobs")
        found.append((first, last))
    return of(found)


def _first(span: Span) -> int:
    return span[0]
