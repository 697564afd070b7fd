"""Lists of jobs and events: their filters, and the events as they happen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypedDict
from urllib.parse import quote

from zsched.client.http import HOLD_S, PATIENCE_S, Answer, View
from zsched.model.limits import PAGE_ROWS_MAX


class Ask(Protocol):
    """Client.ask."""

    def __call__(self, method: str, path: str, *, patience_s: float, hold_s: float = 0.0) -> Answer: ...


class Filters(TypedDict, total=False):
    """Which jobs a list has. `name`: exactly this name; `search`: a part of it. `worker`: it had a run of theirs.
    `since`: submitted at this time or later, `2h` before now or RFC 3339.
    """

    name: str | None
    search: str | None
    tag: str | None
    worker: str | None
    since: str | None
    queue: str | None
    flow: int | None


class EventFilters(TypedDict, total=False):
    """Which events a list has: about a job, run or worker; those with a word in `became`; and those since a time."""

    job: int | None
    run: int | None
    worker: str | None
    kind: str | None
    since: str | None


def query(**filters: object) -> str:
    """The filters that are given, as parameters of a query after others. REST refuses an empty one: without it the list
    would have everything.
    """
    given = {name: str(value) for name, value in filters.items() if value is not None}
    return "".join(f"&{name}={quote(value, safe='')}" for name, value in given.items())


def events(ask: Ask, after: int, filters: EventFilters, *, follow: bool) -> Iterator[View]:
    """Events with a number above `after`, oldest first; with `follow` without end."""
    wait, hold_s = (f"&wait={HOLD_S:g}s", HOLD_S) if follow else ("", 0.0)
    chosen = query(**filters)
    more = True
    while more:
        path = f"/events?after={after}&limit={PAGE_ROWS_MAX}{chosen}{wait}"
        answer = ask("GET", path, patience_s=PATIENCE_S if follow else 0.0, hold_s=hold_s)
        yield from answer.json()
        after = int(answer.headers["Zsched-Next"])
        more = follow or answer.following is not None
