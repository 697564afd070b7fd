"""Sets of numbers as spans, held against Python's own sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsched.model import spans
from zsched.model.spans import Spans, TooMany

NUMBERS = st.sets(st.integers(min_value=0, max_value=40))


def of(numbers: set[int]) -> Spans:
    return spans.of_numbers(numbers)


@given(NUMBERS)
def test_spans_are_a_set(numbers: set[int]) -> None:
    found = of(numbers)
    assert list(found) == sorted(numbers)
    assert (len(found), bool(found)) == (len(numbers), bool(numbers))
    assert [number in found for number in range(-1, 42)] == [number in numbers for number in range(-1, 42)]
    assert all(second[0] > first[1] + 1 for first, second in zip(found.spans, found.spans[1:], strict=False))


@given(NUMBERS, NUMBERS)
def test_operators_are_those_of_sets(one: set[int], other: set[int]) -> None:
    assert of(one) | of(other) == of(one | other)
    assert of(one) - of(other) == of(one - other)
    assert of(one) & of(other) == of(one & other)


@given(NUMBERS)
def test_the_text_of_spans_reads_back(numbers: set[int]) -> None:
    text = str(of(numbers))
    assert spans.parse(text.split(",") if text else [], 100) == of(numbers)


@given(NUMBERS, st.integers(min_value=-1, max_value=42))
def test_spans_above_a_number(numbers: set[int], number: int) -> None:
    assert Spans(tuple(of(numbers).above(number))) == of({one for one in numbers if one > number})


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5))))
def test_spans_may_touch_overlap_and_come_in_any_order(pairs: list[tuple[int, int]]) -> None:
    numbers = {first + more for first, length in pairs for more in range(length + 1)}
    assert spans.of((first, first + length) for first, length in pairs) == of(numbers)


def test_text_of_spans() -> None:
    assert str(spans.parse(["11-12", "3", "4-5", "9"], 10)) == "3-5,9,11-12"
    assert str(Spans(((1, 2), (5, 5), (7, 9))).head(2)) == "1-2,5"
    assert (str(Spans()), repr(of({1, 2}))) == ("", "Spans(1-2)")


def test_the_number_of_named_jobs_is_bounded() -> None:
    assert len(spans.parse(["1-5", "11-15"], 10)) == 10
    with pytest.raises(TooMany, match="11-16 are too many; name at most 10 jobs"):
        spans.parse(["1-5", "11-16"], 10)
