"""/runs: one attempt, and what it wrote."""

from __future__ import annotations

import falcon

from zsched.api import views
from zsched.api.context import Context, answer, parameters, run_id
from zsched.api.problem import Problem
from zsched.limits import OUTPUT_BYTES_MAX
from zsched.model import Run, Stream


class RunItem:
    """/runs/{id}"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, run: str) -> None:
        parameters(req)
        found = _found(self._context.reader.run(run_id(run)))
        answer(resp, views.run(found, self._context.reader.output(found.run_id)))

    on_head = on_get


class RunLog:
    """/runs/{id}/log: the kept bytes of one stream, as they are."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, run: str) -> None:
        name = parameters(req, "stream").get("stream", "stdout")
        if name not in ("stdout", "stderr"):
            detail = "stdout or stderr"
            raise Problem(400, "invalid_request", f"stream: {detail}", errors=(("stream", detail),))
        found = _found(self._context.reader.run(run_id(run)))
        output = self._context.reader.output(found.run_id)
        stream = Stream() if output is None else output.stdout if name == "stdout" else output.stderr
        resp.content_type = falcon.MEDIA_TEXT
        resp.data = views.kept(stream, OUTPUT_BYTES_MAX, "they were not kept")

    on_head = on_get


def _found(run: Run | None) -> Run:
    if run is None:
        raise Problem(404, "unknown_run", "Run not found")
    return run
