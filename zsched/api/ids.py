"""Request ids: each call has one, in its X-Request-Id, in the body of its error, and in its log lines."""

from __future__ import annotations

import re
import secrets
from typing import Final

import falcon

from zsched.model.limits import REQUEST_ID_CHARS_MAX

_REQUEST_ID: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{REQUEST_ID_CHARS_MAX}}}")


def request_id(sent: str | None) -> str:
    """The id of a call: its X-Request-Id if valid, else a random one."""
    return sent if sent is not None and _REQUEST_ID.fullmatch(sent) else secrets.token_hex(8)


def identify(req: falcon.Request, resp: falcon.Response) -> str:
    """The id of a call. The first use chooses it and sets it in the answer."""
    chosen: str | None = getattr(req.context, "request_id", None)
    if chosen is None:
        chosen = req.context.request_id = request_id(req.env.get("HTTP_X_REQUEST_ID"))
        resp.set_header("X-Request-Id", chosen)
    return chosen
