"""Request ids, callers' addresses, and the log and counters of refused calls.

Falcon middleware; the first one, so that every answer has the id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Final

import falcon

from zsched.api.context import Context, actor
from zsched.api.headers import identify
from zsched.api.problem import Problem
from zsched.api.refusals import is_refusal

log = logging.getLogger(__name__)

_METHODS: Final = frozenset(falcon.COMBINED_METHODS)


class Requests:
    """Falcon middleware. Leaves `request_id` and `address` in `req.context`."""

    def __init__(self, context: Context, templates: Iterable[str]) -> None:
        self._proxies = context.policy.proxies
        self._refusals = context.policy.refusals
        self._templates = [(template, template.split("/")) for template in templates]

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        call = req.context
        call.begun_s = time.monotonic()
        identify(req, resp)
        call.address = self._proxies.caller(req.remote_addr, req.env)

    def process_response(self, req: falcon.Request, resp: falcon.Response, _resource: object, _fine: bool) -> None:
        if not hasattr(req.context, "begun_s"):
            # Falcon refuses the method WEBSOCKET before any middleware runs.
            return
        problem: Problem | None = getattr(req.context, "problem", None)
        if problem is not None and is_refusal(problem):
            self._refusals.note(problem.code, self._describe(req), time.monotonic_ns() // 1_000_000)
        if log.isEnabledFor(logging.DEBUG):
            taken_ms = (time.monotonic() - req.context.begun_s) * 1000
            log.debug("%s: %d in %.1f ms", self._describe(req), resp.status_code, taken_ms)

    def _describe(self, req: falcon.Request) -> str:
        """A call for the log, in bounded length, and without text that may hold a secret by mistake, such as a token in
        the path.
        """
        call = req.context
        method = req.method if req.method in _METHODS else "(unknown method)"
        if getattr(call, "principal", None) is not None:
            caller = actor(req)
        else:
            claimed = getattr(call, "claimed", None)
            caller = f"{claimed} at {call.address}" if claimed else call.address
        by = "" if call.address == req.remote_addr else f" through {req.remote_addr}"
        return f"request {call.request_id}: {method} {self._template(req.path)} by {caller}{by}"

    def _template(self, path: str) -> str:
        """The route of a path: `/jobs/{job}`. Falcon has not found it yet when the gate refuses a call."""
        parts = path.split("/")
        # For Falcon `/jobs/` is `/jobs`.
        if len(parts) > 2 and parts[-1] == "":
            parts.pop()
        for template, words in self._templates:
            if len(parts) == len(words) and all(
                part == word or word.startswith("{") for part, word in zip(parts, words, strict=True)
            ):
                return template
        return "(unknown path)"
