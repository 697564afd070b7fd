"""Streams are cut to their first and last bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsched.model.output import cut
from zsched.model.types import Stream


@pytest.mark.parametrize(
    ("head", "tail", "between", "shown_head", "shown_tail"),
    [
        (b"", b"", 0, b"", b""),
        (b"12345678", b"", 0, b"12345678", b""),
        (b"1234", b"5678", 9, b"1234", b"5678"),
        # A whole text, however it is divided.
        (b"123456789", b"", 0, b"1234", b"6789"),
        (b"123", b"456789", 0, b"1234", b"6789"),
        # What was left out before lies between head and tail.
        (b"123456789", b"", 1, b"12345678", b""),
        (b"123456789", b"ab", 1, b"123456", b"ab"),
        (b"12", b"3456789", 1, b"12", b"6789"),
    ],
)
def test_first_and_last_bytes_of_a_stream_are_kept(
    head: bytes, tail: bytes, between: int, shown_head: bytes, shown_tail: bytes
) -> None:
    total = len(head) + len(tail) + between
    shown = cut(Stream(head=head, tail=tail, total=total), 8)
    assert shown == Stream(head=shown_head, tail=shown_tail, total=total)


@given(st.binary(max_size=40), st.integers(0, 40), st.integers(2, 50))
def test_cut_text_begins_and_ends_like_the_whole(text: bytes, divided: int, bytes_max: int) -> None:
    shown = cut(Stream(head=text[:divided], tail=text[divided:], total=len(text)), bytes_max)
    assert len(shown.head) + len(shown.tail) == min(len(text), bytes_max)
    assert text.startswith(shown.head)
    assert text.endswith(shown.tail)
    assert shown.total == len(text)
