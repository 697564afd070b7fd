"""/foreign: runs that workers hold for other databases, and the operator's decision about them."""

from __future__ import annotations

import falcon

from zsched.api import views
from zsched.api.context import Context, actor, answer, parameters
from zsched.api.pages import address, answer_page
from zsched.model.records import ForeignDecision
from zsched.model.types import WorkerId
from zsched.scheduler.dispatcher.commands import DecideForeign


class Foreign:
    """/foreign"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        # WORKER/DATABASE. The name of a worker has no slash.
        worker, _, db = parameters(req, "after").get("after", "").partition("/")
        page = self._context.pages.fill(self._context.reader.foreign(worker, db), views.foreign)
        last = page.last
        answer_page(resp, page, "" if last is None else address("/foreign", {}, after=f"{last.worker_id}/{last.db}"))

    on_head = on_get


class _Decide:
    """A decision about all foreign runs of a worker. Answers with these runs."""

    decision: ForeignDecision

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_post(self, req: falcon.Request, resp: falcon.Response, worker: str) -> None:
        parameters(req)
        state = self._context.inbox.call(DecideForeign(WorkerId(worker), self.decision, actor(req)))
        answer(resp, [views.foreign(held) for held in state.held])


class Keep(_Decide):
    """/foreign/{worker}/keep"""

    decision = ForeignDecision.KEEP


class Discard(_Decide):
    """/foreign/{worker}/discard"""

    decision = ForeignDecision.DISCARD
