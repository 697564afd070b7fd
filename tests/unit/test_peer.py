"""The rule of trust for a user of this host, as a pure function."""

from __future__ import annotations

import pytest

from zsched.security.peer import covers_all_users, trusted

OWN, OTHER, LISTED, OVERFLOW = 1000, 1001, 1002, 65_534


@pytest.mark.parametrize(
    ("uid", "expected"), [(0, True), (OWN, True), (LISTED, True), (OTHER, False), (OVERFLOW, False), (None, False)]
)
@pytest.mark.parametrize("ambiguous", [None, OVERFLOW])
def test_root_own_user_and_listed_users_are_trusted(uid: int | None, expected: bool, ambiguous: int | None) -> None:
    assert trusted(uid, OWN, (LISTED,), ambiguous) is expected


def test_ambiguous_uid_is_never_trusted() -> None:
    assert trusted(OVERFLOW, OVERFLOW)
    assert not trusted(OVERFLOW, OVERFLOW, ambiguous=OVERFLOW)
    assert not trusted(OVERFLOW, OWN, (OVERFLOW,), ambiguous=OVERFLOW)
    # Root of the namespace is a mapped user.
    assert trusted(0, OVERFLOW, ambiguous=OVERFLOW)


@pytest.mark.parametrize(
    ("uid_map", "whole"),
    [
        ("         0          0 4294967295\n", True),
        ("         0     100000      65536\n", False),
        ("         0       1000          1\n", False),
        ("         0       1000          1\n         1     100000      65536\n", False),
        ("         0          0 4294967294\n", False),
        ("         0          1 4294967295\n", False),
        ("", False),
    ],
)
def test_uid_map_of_the_whole_range_is_recognized(uid_map: str, whole: bool) -> None:
    assert covers_all_users(uid_map) is whole
