"""Secrets are found in what a job writes, however it comes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsched.worker.mask import Mask


def whole(secrets: list[bytes], data: bytes) -> bytes:
    """What is shown of data that came at once, by the plainest way."""
    places = sorted(
        (place, place + len(secret))
        for secret in secrets
        for place in range(len(data))
        if data.startswith(secret, place)
    )
    parts: list[list[int]] = []
    for begin, end in places:
        if parts and begin < parts[-1][1]:
            parts[-1][1] = max(parts[-1][1], end)
        else:
            parts.append([begin, end])
    shown, done = b"", 0
    for begin, end in parts:
        shown, done = shown + data[done:begin] + b"***", end
    return shown + data[done:]


letters = st.text("ab", max_size=40).map(str.encode)


@given(
    st.lists(st.text("ab", min_size=2, max_size=5).map(str.encode), min_size=1, max_size=3),
    st.lists(st.text("abc", max_size=8).map(str.encode), max_size=12),
)
def test_it_does_not_matter_in_which_pieces_it_comes(secrets: list[bytes], pieces: list[bytes]) -> None:
    mask = Mask(secrets)
    shown = b""
    for piece in pieces:
        shown += mask.feed(piece)
    assert shown + mask.end() == whole(secrets, b"".join(pieces))


def test_a_secret_between_two_reads_is_found_and_nothing_waits_without_need() -> None:
    mask = Mask([b"correct horse"])
    assert mask.feed(b"the word is corr") == b"the word is "
    assert mask.feed(b"ect hor") == b""
    assert mask.feed(b"se.\n") == b"***.\n"
    assert mask.feed(b"corrupt, co") == b"corrupt, "
    assert mask.end() == b"co"


@pytest.mark.parametrize(
    "secrets",
    [
        [b"a" * count + b"b" for count in range(1_900, 1_932)],
        [b"b" + b"a" * count for count in range(1_900, 1_932)],
        [b"a" * count for count in range(8, 40)],
        [b"ab" * 15_000],
        [b"a" * 15_000 + b"b" + b"a" * 15_000],
    ],
)
@pytest.mark.parametrize("unit", [b"a", b"ab", b"a" * 1_900 + b"b"])
def test_whatever_the_secrets_are_the_guard_does_not_stand_still_for_them(secrets: list[bytes], unit: bytes) -> None:
    mask = Mask(secrets)
    data = (unit * (65_536 // len(unit) + 1))[:65_536]
    took_s = []
    for _ in range(4):
        begun_s = time.thread_time()
        mask.feed(data)
        took_s.append(time.thread_time() - begun_s)
    # Less than 0.1 s; by looking at each place for each secret, seconds.
    assert min(took_s) < 0.5


def test_secrets_that_overlap_show_nothing_of_each_other() -> None:
    assert Mask([b"abcdefgh", b"efghijkl"]).feed(b"<abcdefghijkl>") == b"<***>"
    assert Mask([b"password", b"password-1"]).feed(b"password-1 password-2 ") == b"*** ***-2 "


def test_what_waits_is_less_than_a_secret_whatever_comes() -> None:
    mask = Mask([b"a" * 8])
    shown = b"".join(mask.feed(b"a" * 5) for _ in range(1_000)) + mask.feed(b".") + mask.end()
    assert shown == b"***."
