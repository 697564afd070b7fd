"""Selectors of jobs: `12`, `3-8`, `1,4,9`, `last`, `all`, and combinations.

They are parsed first, so that an invalid one is wrong usage; then `last` and `all` are resolved by the scheduler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from zsched.commands.exits import NOT_FOUND, Failure
from zsched.model import spans
from zsched.model.limits import SELECTED_JOBS_MAX
from zsched.model.spans import Spans

if TYPE_CHECKING:
    from zsched.client.client import Client


class Selection(NamedTuple):
    """Parsed selectors: numbers, and whether `last` and `all` are among them."""

    ids: Spans
    last: bool = False
    every: bool = False


def parse(words: Sequence[str]) -> Selection:
    """Parse selectors. Raises ValueError with a message."""
    parts = [part for word in words for part in word.split(",")]
    numbers = (part for part in parts if part not in ("last", "all"))
    ids = spans.parse(numbers, SELECTED_JOBS_MAX, "12, 3-8, 1,4,9, last or all")
    return Selection(ids, "last" in parts, "all" in parts)


def resolve_last(chosen: Selection, client: Client) -> Spans:
    """The selected numbers, with the newest job for `last`. Raises Failure if no job exists."""
    if not chosen.last:
        return chosen.ids
    newest = next(iter(client.jobs(limit=1)), None)
    if newest is None:
        raise Failure("there is no last job: none was ever submitted", NOT_FOUND)
    return chosen.ids | spans.of_numbers([newest.id])


def only(chosen: Selection, client: Client) -> int:
    """The number of the single selected job."""
    return next(iter(resolve_last(chosen, client)))


def resolve(chosen: Selection, client: Client, owner: str | None = "me") -> Spans:
    """The numbers of the selected jobs. `all` stands for the unfinished jobs of an owner (None: of all owners), except
    those with a schedule. Raises Failure when `last` finds no job.
    """
    ids = resolve_last(chosen, client)
    return ids | client.unfinished(owner) if chosen.every else ids


def single(word: str) -> Selection:
    """Parse a selector of exactly one job. Raises ValueError with a message."""
    try:
        chosen = parse([word])
    except ValueError:
        raise ValueError(f"{word!r} names no job; write its number, or last") from None
    if chosen.every or len(chosen.ids) + chosen.last != 1:
        raise ValueError(f"{word!r} may name several jobs; name one by its number, or last")
    return chosen
