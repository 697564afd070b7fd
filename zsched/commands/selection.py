"""Which jobs are meant: `12`, `3-8`, `1,4,9`, `last`, `all`, and any of them together.

Read without the scheduler first, so that a misspelt word is wrong usage; `last` and `all` are looked up after that.
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
    """What was named: numbers, and the words among them."""

    ids: Spans
    last: bool = False
    every: bool = False


def parse(words: Sequence[str]) -> Selection:
    """Read selectors. Raises ValueError with a sentence."""
    parts = [part for word in words for part in word.split(",")]
    numbers = (part for part in parts if part not in ("last", "all"))
    ids = spans.parse(numbers, SELECTED_JOBS_MAX, "12, 3-8, 1,4,9, last or all")
    return Selection(ids, "last" in parts, "all" in parts)


def named(chosen: Selection, client: Client) -> Spans:
    """The jobs that were named by their numbers, or as `last`, the newest. Raises Failure when there is no job."""
    if not chosen.last:
        return chosen.ids
    newest = next(iter(client.jobs(limit=1)), None)
    if newest is None:
        raise Failure("there is no last job: none was ever submitted", NOT_FOUND)
    return chosen.ids | spans.of_numbers([newest.id])


def only(chosen: Selection, client: Client) -> int:
    """The number of the job that `single` has read."""
    return next(iter(named(chosen, client)))


def resolve(chosen: Selection, client: Client, owner: str | None = "me") -> Spans:
    """The numbers of the jobs. `all` are the jobs of an owner, None for all owners, that have not ended, without those
    that have a schedule. Raises Failure when `last` finds no job.
    """
    ids = named(chosen, client)
    return ids | client.unfinished(owner) if chosen.every else ids


def single(word: str) -> Selection:
    """Read a selector that names exactly one job. Raises ValueError with a sentence."""
    try:
        chosen = parse([word])
    except ValueError:
        raise ValueError(f"{word!r} names no job; write its number, or last") from None
    if chosen.every or len(chosen.ids) + chosen.last != 1:
        raise ValueError(f"{word!r} may name several jobs; name one by its number, or last")
    return chosen
