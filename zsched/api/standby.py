"""A scheduler that stands by: it answers reads, and refuses everything else with the address of the active one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import falcon

from zsched.api.gate import Needs
from zsched.api.problem import Problem, on_problem
from zsched.model.access import Scope
from zsched.model.limits import STANDBY_RETRY_S

_READING: Final = ("GET", "HEAD", "OPTIONS")


class Standby:
    """Falcon middleware, after the gate. Refuses writes while this scheduler stands by."""

    def __init__(self, active: Callable[[], str | None], needs: Needs) -> None:
        """`active`: URL of the active scheduler, empty if unknown; None while this scheduler is the active one."""
        self._active = active
        self._needs = needs

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, _resource: object, _params: dict[str, str]
    ) -> None:
        """Raises a 503 Problem."""
        active = self._active()
        if active is not None and req.uri_template is not None and self._writes(req.method, req.uri_template):
            raise refusal(active)

    def _writes(self, method: str, path: str) -> bool:
        """Whether a call may need the loop. Each call of a worker does, and a POST that reads does not."""
        scopes = self._needs[path].get("GET" if method == "HEAD" else method, ())
        return Scope.WORKER in scopes or (method not in _READING and Scope.READ not in scopes)


def refusal(active: str) -> Problem:
    """The answer to a call that only the active scheduler can serve. `active`: its URL, empty if unknown."""
    where = f"send this to {active}" if active else "try again soon, or ask another scheduler"
    detail = f"This scheduler stands by, and answers reads alone: {where}"
    return Problem(503, "standby", detail, headers={"Retry-After": str(STANDBY_RETRY_S)}, active=active)


def install(app: falcon.App[falcon.Request, falcon.Response], active: Callable[[], str | None], *errors: type) -> None:
    """Answer with the refusal when the loop was closed to a command, since the scheduler no longer leads."""

    def on_standby(req: falcon.Request, resp: falcon.Response, _error: Exception, params: dict[str, object]) -> None:
        on_problem(req, resp, refusal(active() or ""), params)

    for error in errors:
        app.add_error_handler(error, on_standby)
