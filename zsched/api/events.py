"""/events: the audit log, in order."""

from __future__ import annotations

from typing import Final

import falcon

from zsched.api import views
from zsched.api.context import Context, duration_ms, number, parameters, since_ms, text
from zsched.api.pages import Page, address, answer_page
from zsched.api.problem import invalid
from zsched.api.search import Search
from zsched.model.events import KINDS
from zsched.model.limits import INTEGER_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, WAIT_MS_MAX, WORKER_CHARS_MAX
from zsched.model.records import Event
from zsched.model.types import JobId, RunId, WorkerId
from zsched.scheduler.live import of_events
from zsched.store.contract import EventFilter

FILTERS: Final = ("job", "run", "worker", "kind")


class Events:
    """/events"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = parameters(req, "after", "limit", "wait", *FILTERS, "since")
        limit = number(given, "limit", PAGE_ROWS_DEFAULT, 1, PAGE_ROWS_MAX)
        wait_s = duration_ms(given, "wait", WAIT_MS_MAX) / 1000
        reader = self._context.reader
        look = _Look(self._context, _wanted(given), number(given, "after", 0, 0, INTEGER_MAX), limit)
        if (at_ms := since_ms(given)) is not None:
            look.after = max(look.after, reader.event_since(at_ms) - 1)
        page = self._context.live.hold(look, lambda page: page.rows > 0 or page.more, wait_s, of_events())
        resp.cache_control = ["no-store"]
        resp.set_header("Zsched-Next", str(min(look.after, reader.last_event())))
        answer_page(resp, page, address("/events", given, after=look.after))

    on_head = on_get


class _Look:
    """One call's look at the events after a number: after those that it has seen already, if it looks again."""

    def __init__(self, context: Context, wanted: EventFilter, after: int, limit: int) -> None:
        self._context = context
        self._wanted = wanted
        self._limit = limit
        self.after = after

    def __call__(self) -> Page[Event]:
        reader = self._context.reader
        search = Search(
            lambda low, high: reader.search_events(self._wanted, low, high, self._limit + 1),
            self.after + 1,
            reader.last_event(),
        )
        page = self._context.pages.fill(search.rows(), views.event, self._limit)
        if page.more and page.last is not None:
            self.after = page.last.event_id
        else:
            self.after = max(self.after, search.left[0] - 1)
        return search.finish(page)


def _wanted(given: dict[str, str]) -> EventFilter:
    """The filter of a list. Raises a 400 Problem."""
    kind, worker = given.get("kind"), text(given, "worker", WORKER_CHARS_MAX)
    if kind is not None and kind not in KINDS:
        raise invalid("kind", f"one of {', '.join(KINDS)}")
    return EventFilter(
        job=JobId(number(given, "job", 0, 1, INTEGER_MAX)) if "job" in given else None,
        run=RunId(number(given, "run", 0, 1, INTEGER_MAX)) if "run" in given else None,
        worker=None if worker is None else WorkerId(worker),
        kind=kind,
    )
