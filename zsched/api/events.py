"""/events: the audit log, in order."""

from __future__ import annotations

import falcon

from zsched.api import views
from zsched.api.context import Context, duration_ms, number, parameters
from zsched.api.pages import Page, address, answer_page
from zsched.model.limits import INTEGER_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, WAIT_MS_MAX
from zsched.model.records import Event
from zsched.scheduler.live import of_events


class Events:
    """/events"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = parameters(req, "after", "limit", "wait")
        after = number(given, "after", 0, 0, INTEGER_MAX)
        limit = number(given, "limit", PAGE_ROWS_DEFAULT, 1, PAGE_ROWS_MAX)
        wait_s = duration_ms(given, "wait", WAIT_MS_MAX) / 1000
        page = self._context.live.hold(
            lambda: self._look(after, limit), lambda page: page.rows > 0, wait_s, of_events()
        )
        resp.cache_control = ["no-store"]
        following = address("/events", given, after=page.last.event_id) if page.last else ""
        answer_page(resp, page, following)

    on_head = on_get

    def _look(self, after: int, limit: int) -> Page[Event]:
        return self._context.pages.fill(self._context.reader.events(after, limit + 1), views.event, limit)
