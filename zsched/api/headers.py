"""Headers of every answer: the request id, and what browsers may not do with it.

Each call has an id, in its X-Request-Id, in the body of its error, and in its log lines.
"""

from __future__ import annotations

import re
import secrets
from typing import Final

import falcon

from zsched.model.limits import REQUEST_ID_CHARS_MAX

_REQUEST_ID: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{REQUEST_ID_CHARS_MAX}}}")


_FOR_BROWSERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def request_id(sent: str | None) -> str:
    """The id of a call: its X-Request-Id if valid, else a random one."""
    return sent if sent is not None and _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)


def common_headers(call_id: str) -> dict[str, str]:
    """The headers of an answer to the call with this id, by name."""
    return {"X-Request-Id": call_id, **_FOR_BROWSERS}


def identify(req: falcon.Request, resp: falcon.Response) -> str:
    """The id of a call. The first use chooses it, and sets the headers of every answer."""
    chosen: str | None = getattr(req.context, "request_id", None)
    if chosen is None:
        chosen = req.context.request_id = request_id(req.env.get("HTTP_X_REQUEST_ID"))
        for name, value in common_headers(chosen).items():
            resp.set_header(name, value)
    return chosen
