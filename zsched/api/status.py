"""/healthz, /readyz, /version: one word for machines that watch, and who we are."""

from __future__ import annotations

import falcon

from zsched import __version__
from zsched.api.context import Context, answer, parameters


class Health:
    """/healthz: the process lives."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = falcon.MEDIA_TEXT
        resp.text = "ok\n"

    on_head = on_get


class Readiness:
    """/readyz: the loop turns and the store takes what it decides."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        ready = self._context.facts.ready()
        resp.status = 200 if ready else 503
        resp.content_type = falcon.MEDIA_TEXT
        resp.text = "ready\n" if ready else "unready\n"

    on_head = on_get


class Stats:
    """/stats: how much of what there is, from counters."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        reader = self._context.reader
        found = {
            "tasks": reader.totals(),
            "workers": reader.workers_by_status(),
            "refused": self._context.refusals.counts(),
            "version": __version__,
        }
        answer(resp, found)

    on_head = on_get


class Version:
    """/version"""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        parameters(req)
        answer(resp, {"name": "zsched", "version": __version__})

    on_head = on_get
