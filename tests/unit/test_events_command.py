"""`zsched events`: the last events are read from the end of the list."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pytest

from zsched.client.client import View
from zsched.commands.events import newest


@pytest.mark.parametrize(
    ("ids", "shown", "begins"),
    [
        (range(1, 1_001), [998, 999, 1_000], [997]),
        # Old events are gone.
        ({1, 5, 990, 1_000}, [5, 990, 1_000], [997, 976, 808, 0]),
        ({1_000}, [1_000], [997, 976, 808, 0]),
        (set(), [], [997, 976, 808, 0]),
        # Others come meanwhile.
        (range(1, 1_003), [1_000, 1_001, 1_002], [997]),
    ],
)
def test_only_the_end_of_the_list_is_read(ids: Collection[int], shown: list[int], begins: list[int]) -> None:
    begun: list[int] = []

    def read(begin: int) -> Iterator[View]:
        begun.append(begin)
        return ({"id": number} for number in sorted(ids) if number > begin)

    assert [event["id"] for event in newest(read, 1_000, 3)] == shown
    assert begun == begins
