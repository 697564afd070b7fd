"""/runs/{id}/artifacts and /jobs/{id}/artifacts: the files that a run has left, and that its job wanted to keep.

A job decides names and contents, so browsers get them as a download of an unknown type, and may not run them.
"""

from __future__ import annotations

from collections.abc import Mapping

import falcon

from zsched.api import shapes
from zsched.api.context import Context, answer, parameters, run_id
from zsched.api.jobs import last_run
from zsched.api.problem import Problem
from zsched.api.runs import found_run
from zsched.model.files import mode_text
from zsched.model.names import plain_name
from zsched.model.types import RunId

_DOWNLOAD = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
}


class RunArtifacts:
    """/runs/{id}/artifacts"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, run: str) -> None:
        parameters(req)
        _list(self._context, resp, found_run(self._context.reader.run(run_id(run))).run_id)

    on_head = on_get


class RunArtifact:
    """/runs/{id}/artifacts/{path}"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, run: str, path: str) -> None:
        parameters(req)
        _send(self._context, resp, found_run(self._context.reader.run(run_id(run))).run_id, path)

    on_head = on_get


class JobArtifacts:
    """/jobs/{id}/artifacts: of its last run, or that of a task"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, job: str) -> None:
        given = parameters(req, "task")
        _list(self._context, resp, _last_run(self._context, job, given))

    on_head = on_get


class JobArtifact:
    """/jobs/{id}/artifacts/{path}: of its last run, or that of a task"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response, job: str, path: str) -> None:
        given = parameters(req, "task")
        _send(self._context, resp, _last_run(self._context, job, given), path)

    on_head = on_get


def _last_run(context: Context, job: str, given: Mapping[str, str]) -> RunId | None:
    last = last_run(context, job, given)
    return None if last is None else last.run_id


def _list(context: Context, resp: falcon.Response, run: RunId | None) -> None:
    listed = [] if run is None else context.reader.artifacts(run)
    answer(resp, [shapes.Artifact(run or 0, file.path, file.size, mode_text(file.mode)) for file in listed])


def _send(context: Context, resp: falcon.Response, run: RunId | None, path: str) -> None:
    data = None if run is None else context.reader.artifact(run, path)
    if data is None:
        raise Problem(404, "unknown_artifact", "Artifact not found")
    resp.data = data
    resp.content_type = "application/octet-stream"
    resp.set_header("Content-Disposition", f'attachment; filename="{plain_name(path.rpartition("/")[2])}"')
    resp.cache_control = ["no-store"]
    for name, value in _DOWNLOAD.items():
        resp.set_header(name, value)
