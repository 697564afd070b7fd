"""Selectors of jobs: `12`, `3-8`, `1,4,9`, `flow:12`, `last`, `all`, and combinations.

They are parsed first, so that an invalid one is wrong usage; then the scheduler resolves flows, `last` and `all`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from zsched.commands.exits import NOT_FOUND, Failure
from zsched.model import spans
from zsched.model.limits import SELECTED_JOBS_MAX
from zsched.model.spans import Spans

if TYPE_CHECKING:
    from zsched.client.client import Client
    from zsched.client.http import View

# What a selector of a flow begins with.
_FLOW: Final = "flow:"
_NUMBER: Final = re.compile("[1-9][0-9]{0,15}", re.ASCII)


class Selection(NamedTuple):
    """Parsed selectors: numbers, whether `last` and `all` are among them, and the numbers of flows."""

    ids: Spans
    last: bool = False
    every: bool = False
    flows: Spans = Spans()


def parse(words: Sequence[str]) -> Selection:
    """Parse selectors. Raises ValueError with a message."""
    parts = [part for word in words for part in word.split(",")]
    forms = "12, 3-8, 1,4,9, flow:12, last or all"
    numbers = (part for part in parts if part not in ("last", "all") and not part.startswith(_FLOW))
    ids = spans.parse(numbers, SELECTED_JOBS_MAX, forms)
    flows = [part.removeprefix(_FLOW) for part in parts if part.startswith(_FLOW)]
    if wrong := next((number for number in flows if not _NUMBER.fullmatch(number)), None):
        raise ValueError(f"{_FLOW + wrong!r} names no flow; write {forms}")
    return Selection(ids, "last" in parts, "all" in parts, spans.of_numbers(map(int, flows)))


def resolve_last(chosen: Selection, client: Client) -> Spans:
    """The selected numbers, with the jobs of flows, and the newest job for `last`. Raises Failure if no job exists, and
    NotFound for a flow that does not exist.
    """
    ids = chosen.ids
    for flow in chosen.flows:
        ids |= of_flow(client.flow(flow))
    if not chosen.last:
        return ids
    newest = next(iter(client.jobs(limit=1)), None)
    if newest is None:
        raise Failure("there is no last job: none was ever submitted", NOT_FOUND)
    return ids | spans.of_numbers([newest.id])


def of_flow(view: View) -> Spans:
    """The jobs of a flow as REST shows it."""
    return spans.parse(view["jobs"]["jobs"].split(","), SELECTED_JOBS_MAX)


def only(chosen: Selection, client: Client) -> int:
    """The number of the single selected job."""
    return next(iter(resolve_last(chosen, client)))


def resolve(chosen: Selection, client: Client, owner: str | None = "me") -> Spans:
    """The numbers of the selected jobs. `all` stands for the unfinished jobs of an owner (None: of all owners), except
    those with a schedule. Raises Failure when `last` finds no job.
    """
    ids = resolve_last(chosen, client)
    return ids | client.unfinished(owner) if chosen.every else ids


def single_flow(word: str) -> Selection | None:
    """Parse a selector of one flow; None for another selector. Raises ValueError with a message for an invalid flow."""
    return parse([word]) if word.startswith(_FLOW) and "," not in word else None


def single(word: str) -> Selection:
    """Parse a selector of exactly one job. Raises ValueError with a message."""
    try:
        chosen = parse([word])
    except ValueError:
        raise ValueError(f"{word!r} names no job; write its number, or last") from None
    if chosen.every or chosen.flows or len(chosen.ids) + chosen.last != 1:
        raise ValueError(f"{word!r} may name several jobs; name one by its number, or last")
    return chosen
