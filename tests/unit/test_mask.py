"""Secrets are found in what a job writes, however it comes."""

from __future__ import annotations

import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zsched.model.limits import SECRET_LINES_MAX
from zsched.worker.process.redact import Redactor, patterns


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
    mask = Redactor(secrets)
    shown = b""
    for piece in pieces:
        shown += mask.feed(piece)
    assert shown + mask.end() == whole(secrets, b"".join(pieces))


def test_secret_between_two_reads_is_found_and_nothing_waits_without_need() -> None:
    mask = Redactor([b"correct horse"])
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
    mask = Redactor(secrets)
    data = (unit * (65_536 // len(unit) + 1))[:65_536]
    took_s = []
    for _ in range(4):
        begun_s = time.thread_time()
        mask.feed(data)
        took_s.append(time.thread_time() - begun_s)
    # Less than 0.1 s; by looking at each place for each secret, seconds.
    assert min(took_s) < 0.5


# Its lines are as random as those of a private key.
LINES = [hashlib.sha256(bytes([number])).hexdigest() for number in range(30)]
KEY = "\n".join(["-----BEGIN PRIVATE KEY-----", *LINES, "Ag==", "-----END PRIVATE KEY-----", ""])


@pytest.mark.parametrize(
    "written",
    [
        # As `echo $KEY`, `echo "$KEY" | sed 's/^/> /'`, `tac` and `head -3` show it.
        " ".join(KEY.split()),
        "".join(f"> {line}\n" for line in KEY.splitlines()),
        "\n".join(reversed(KEY.splitlines())),
        "\n".join(KEY.splitlines()[:3]),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "  \n\t"])
def test_lines_of_a_secret_are_masked_one_by_one(written: str, ending: str) -> None:
    mask = Redactor(patterns([KEY.replace("\n", ending)]))
    shown = (mask.feed(written.encode()) + mask.end()).decode()
    assert not [line for line in LINES if line in shown]
    assert "PRIVATE KEY" not in shown
    assert shown.count("***") == sum(line in written for line in KEY.splitlines() if len(line) > 8)


def test_whole_secret_is_one_place_and_short_lines_are_masked_only_in_it() -> None:
    mask = Redactor(patterns([KEY]))
    assert mask.feed(f"<{KEY}>".encode()) == b"<***>"
    assert mask.feed(b"Ag== ") == b"Ag== "


def test_value_is_masked_without_the_newline_at_its_end() -> None:
    assert Redactor(patterns(["correct horse\n"])).feed(b"<correct horse>") == b"<***>"


def test_lines_that_are_masked_one_by_one_are_bounded() -> None:
    values = ["\n".join(f"line {number:04} of secret {secret}" for number in range(200)) for secret in "ab"]
    found = patterns([*values, "\n".join("x" * 100 for _ in range(10))])
    assert {value.encode() for value in values} <= set(found)
    # Of too many the longest count.
    assert b"x" * 100 in found
    assert len(found) == 3 + SECRET_LINES_MAX


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        ("\n".join("a" * count + "b" for count in range(8, 264)), b"a"),
        ("\n".join("a" * count for count in range(8, 264)), b"a" * 300 + b"b"),
        ("\n".join(("0123456789abcdef" * 17)[:count] for count in range(8, 264)), b"0123456789abcdef" * 17 + b"-"),
        ("\n".join(("01234567" * 34)[place : place + 200] for place in range(8)) + "\n" + "a" * 30_000, b"01234567"),
        (
            "\n".join(f"{number:04}" * 2 for number in range(256)),
            "".join(f"{number:04}" * 2 for number in range(256)).encode(),
        ),
    ],
    ids=["near", "nested", "nested and broken", "turned", "all of them"],
)
def test_whatever_the_lines_are_the_guard_does_not_stand_still_for_them(value: str, unit: bytes) -> None:
    mask = Redactor(patterns([value]))
    data = (unit * (65_536 // len(unit) + 1))[:65_536]
    took_s = []
    for _ in range(4):
        begun_s = time.thread_time()
        mask.feed(data)
        took_s.append(time.thread_time() - begun_s)
    assert min(took_s) < 0.5


def test_secrets_that_overlap_show_nothing_of_each_other() -> None:
    assert Redactor([b"abcdefgh", b"efghijkl"]).feed(b"<abcdefghijkl>") == b"<***>"
    assert Redactor([b"password", b"password-1"]).feed(b"password-1 password-2 ") == b"*** ***-2 "


def test_what_waits_is_less_than_a_secret_whatever_comes() -> None:
    mask = Redactor([b"a" * 8])
    shown = b"".join(mask.feed(b"a" * 5) for _ in range(1_000)) + mask.feed(b".") + mask.end()
    assert shown == b"***."
