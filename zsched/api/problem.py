"""The one error body, RFC 9457 plus a member `error` with the detail, and the handlers that turn exceptions into it.

The api raises a Problem; the dispatcher raises a RefusedError: its class gives the status, its argument the code. Each
code has a row in docs/rest.md, and a status that is new an entry in openapi.py.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

import falcon
import msgspec
from msgspec import UNSET

from zsched.api import shapes
from zsched.api.headers import identify
from zsched.scheduler.dispatcher.commands import (
    BadTokenError,
    BusyError,
    ConflictError,
    ForbiddenError,
    FullError,
    NotFoundError,
    RefusedError,
    ReusedError,
    TooManyError,
)
from zsched.scheduler.dispatcher.queues import UniqueError
from zsched.scheduler.inbox import ClosedError
from zsched.store.contract import StoreConstraint, StoreError

log = logging.getLogger(__name__)

_PATH_CHARS_LOGGED: Final = 200


class Problem(Exception):
    """An error answer. `code` is a stable word; `errors`: pairs of a JSON pointer or parameter, and what is wrong.

    `active`: URL of the scheduler that can serve the call. `existing`: the job that stands in the way.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: tuple[tuple[str, str], ...] = (),
        headers: dict[str, str] | None = None,
        active: str = "",
    ) -> None:
        super().__init__(detail)
        self.existing: int | None = None
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}
        self.active = active


def invalid(where: str, detail: object) -> Problem:
    """A 400 Problem. `where` is a parameter or header, or the JSON pointer of a member of the body: `#/jobs/0/name`.

    `#` is the body as a whole.
    """
    name = dotted(where)
    sentence = f"{name}: {detail}" if name else str(detail)
    return Problem(400, "invalid_request", sentence, errors=((where, str(detail)),))


def dotted(where: str) -> str:
    """A place as sentences have it: the pointer `#/jobs/0/name` as `jobs.0.name`, and others as they are."""
    if not where.startswith("#"):
        return where
    steps = where.removeprefix("#").removeprefix("/").split("/")
    return ".".join(step.replace("~1", "/").replace("~0", "~") for step in steps)


_TITLES = {
    400: "Invalid request",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    # Pythons differ on this one.
    422: "Unprocessable content",
}


def render(problem: Problem, path: str, accept: str, request_id: str) -> tuple[bytes, str]:
    """The body of an error and its media type."""
    body = shapes.Error(
        error=problem.detail,
        type="about:blank",
        title=_TITLES.get(problem.status) or HTTPStatus(problem.status).phrase,
        status=problem.status,
        detail=problem.detail,
        instance=path,
        code=problem.code,
        errors=tuple(shapes.Fault(pointer, detail) for pointer, detail in problem.errors),
        request_id=request_id,
        active=problem.active or UNSET,
        existing=problem.existing or UNSET,
    )
    standard = "application/problem+json" in accept
    return msgspec.json.encode(body), "application/problem+json" if standard else "application/json"


def install(app: falcon.App[falcon.Request, falcon.Response]) -> None:
    """Turn every exception of the app into the one error body."""
    app.add_error_handler(Exception, _on_bug)
    app.add_error_handler(falcon.HTTPError, _on_falcon)
    app.add_error_handler(RefusedError, _on_command_error)
    app.add_error_handler(StoreError, _on_unavailable)
    app.add_error_handler(StoreConstraint, _on_bug)
    app.add_error_handler(ClosedError, _on_unavailable)
    app.add_error_handler(TimeoutError, _on_unavailable)
    app.add_error_handler(Problem, on_problem)


Params = dict[str, object]


def on_problem(req: falcon.Request, resp: falcon.Response, problem: Problem, _params: Params) -> None:
    """Answer with the error body."""
    # It is kept until it is logged. Its traceback would keep the request and its body in memory.
    problem.__traceback__ = problem.__context__ = None
    req.context.problem = problem
    resp.status = problem.status
    resp.data, resp.content_type = render(problem, req.path, req.get_header("Accept") or "", identify(req, resp))
    for name, value in problem.headers.items():
        resp.set_header(name, value)


def _on_falcon(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: Params) -> None:
    headers = dict(error.headers or {})
    status = error.status_code
    code = {404: "not_found", 405: "method_not_allowed"}.get(status, "invalid_request")
    detail = {
        404: f"There is nothing at {req.path}",
        405: f"{req.path} does not take {req.method}; it takes {headers.get('Allow', 'nothing')}",
    }.get(status, error.description or error.title or "Invalid request")
    on_problem(req, resp, Problem(status, code, detail, headers=headers), params)


def _on_command_error(req: falcon.Request, resp: falcon.Response, error: RefusedError, params: Params) -> None:
    status, headers = 400, {}
    if isinstance(error, NotFoundError):
        status = 404
    elif isinstance(error, ConflictError):
        status = 409
    elif isinstance(error, ForbiddenError):
        status = 403
    elif isinstance(error, BadTokenError):
        status, headers = 401, {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    elif isinstance(error, TooManyError):
        status = 413
    elif isinstance(error, ReusedError):
        status = 422
    elif isinstance(error, FullError):
        status, headers = 429, {"Retry-After": "1"}
    elif isinstance(error, BusyError):
        status, headers = 503, {"Retry-After": "5"}
    problem = Problem(status, error.code, str(error), headers=headers)
    if isinstance(error, UniqueError):
        problem.existing = error.existing
    on_problem(req, resp, problem, params)


def _on_unavailable(req: falcon.Request, resp: falcon.Response, error: Exception, params: Params) -> None:
    reasons = {ClosedError: "The scheduler is stopping", TimeoutError: "The scheduler did not answer in time"}
    detail = reasons.get(type(error), f"The store can't take this now: {error}")
    on_problem(req, resp, Problem(503, "unavailable", detail, headers={"Retry-After": "1"}), params)


def _on_bug(req: falcon.Request, resp: falcon.Response, error: Exception, params: Params) -> None:
    # A path may be as long as a request's head.
    path = ascii(req.path[:_PATH_CHARS_LOGGED])[1:-1]
    log.error("request %s: %s %s failed", identify(req, resp), req.method, path, exc_info=error)
    on_problem(req, resp, Problem(500, "internal", "The scheduler failed at this request; its log says why"), params)
