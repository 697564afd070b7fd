"""Which jobs are meant: `12`, `3-8`, `1,4,9`, `last`, `all`, and any of them together.

Read without the scheduler first, so that a misspelt word is wrong usage; `last` and `all` are looked up after that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from zsched.commands.exits import NOT_FOUND, Failure

if TYPE_CHECKING:
    from zsched.client import Client

# `3-8` names each job of it, so a slip of the keyboard must not name billions.
IDS_MAX: Final = 100_000

_PART: Final = re.compile(r"(?P<one>[0-9]{1,16})(?:-(?P<to>[0-9]{1,16}))?|last|all", re.ASCII)


class Selection(NamedTuple):
    """What was named: numbers in order, and the words among them."""

    ids: tuple[int, ...]
    last: bool = False
    every: bool = False


def parse(words: Sequence[str]) -> Selection:
    """Read selectors. Raises ValueError with a sentence."""
    found: dict[int, None] = {}
    last = every = False
    for part in (part for word in words for part in word.split(",")):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{part!r} names no jobs; write 12, 3-8, 1,4,9, last or all")
        if match["one"] is None:
            last, every = last or part == "last", every or part == "all"
            continue
        first = int(match["one"])
        final = int(match["to"] or first)
        if final < first:
            raise ValueError(f"{part} runs backwards")
        if final - first >= IDS_MAX or len(found) + final - first >= IDS_MAX:
            raise ValueError(f"{part} are too many; name at most {IDS_MAX} jobs")
        found.update(dict.fromkeys(range(first, final + 1)))
    return Selection(tuple(found), last, every)


def resolve(chosen: Selection, client: Client, recurring: bool = True, owner: str | None = "me") -> list[int]:
    """The numbers of the jobs. `last` is the newest job. `all` are the caller's own that have not ended, newest last:
    those of another `owner`, or with None of all owners. It leaves out jobs with a schedule unless `recurring`.

    Raises Failure when `last` finds none. What `all` finds may have ended meanwhile.
    """
    ids = dict.fromkeys(chosen.ids)
    if chosen.last:
        newest = list(client.jobs(limit=1))
        if not newest:
            raise Failure("there is no last job: none was ever submitted", NOT_FOUND)
        ids[newest[0].id] = None
    if chosen.every:
        live = {
            job.id
            for status in ("pending", "running")
            for job in client.jobs(status, owner=owner)
            if recurring or "schedule" not in job.view
        }
        ids.update(dict.fromkeys(sorted(live)))
    return list(ids)


def single(word: str) -> Selection:
    """Read a selector that names exactly one job. Raises ValueError with a sentence."""
    try:
        chosen = parse([word])
    except ValueError:
        raise ValueError(f"{word!r} names no job; write its number, or last") from None
    if chosen.every or len(chosen.ids) + chosen.last != 1:
        raise ValueError(f"{word!r} may name several jobs; name one by its number, or last")
    return chosen


def written(ids: Iterable[int]) -> str:
    """Numbers as a selector: `3-8,12`. What stands in order is drawn together."""
    spans: list[list[int]] = []
    for number in ids:
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == final else f"{first}-{final}" for first, final in spans)
