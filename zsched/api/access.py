"""/tokens and /access: who may come in. For callers with the scope `admin`."""

from __future__ import annotations

import time

import falcon

from zsched import tokens
from zsched.api import views
from zsched.api.body import TokenBody, read
from zsched.api.context import Context, actor, answer, number, parameters
from zsched.api.pages import address, answer_page
from zsched.api.problem import Problem
from zsched.dispatcher.commands import AddToken, RevokeKey, RevokeToken
from zsched.limits import TOKEN_LIFE_MS_MAX
from zsched.model import Scope, Token, WorkerId
from zsched.protocol import INTEGER_MAX
from zsched.units import format_duration_ms, parse_duration_ms


class Tokens:
    """/tokens"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = parameters(req, "offset")
        offset = number(given, "offset", 0, 0, INTEGER_MAX)
        page = self._context.pages.fill(self._context.reader.tokens(offset), views.token)
        answer_page(resp, page, address("/tokens", given, offset=offset + page.rows))

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make a token. This answer alone has its secret."""
        parameters(req)
        body = read(req, TokenBody)
        now_ms = time.time_ns() // 1_000_000
        shown = tokens.new()
        token = Token(
            token_id=shown.token_id,
            digest=shown.digest,
            scopes=frozenset(Scope(word) for word in body.scopes),
            note=body.note,
            created_ms=now_ms,
            created_by=actor(req),
            expires_ms=None if body.expires is None else now_ms + _life_ms(body.expires),
        )
        self._context.inbox.call(AddToken(token))
        resp.cache_control = ["no-store"]
        answer(resp, {"token": shown.text, **views.token(token)}, 201)


class TokenItem:
    """/tokens/{id}"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_delete(self, req: falcon.Request, resp: falcon.Response, token: str) -> None:
        parameters(req)
        self._context.inbox.call(RevokeToken(token, actor(req)))
        found = self._context.reader.token(token)
        assert found is not None
        answer(resp, views.token(found))


class Keys:
    """/access: the keys of workers. `POST /workers/enrol` binds one."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = parameters(req, "offset")
        offset = number(given, "offset", 0, 0, INTEGER_MAX)
        page = self._context.pages.fill(self._context.reader.worker_keys(offset), views.key)
        answer_page(resp, page, address("/access", given, offset=offset + page.rows))

    on_head = on_get


class KeyItem:
    """/access/{worker}"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_delete(self, req: falcon.Request, resp: falcon.Response, worker: str) -> None:
        parameters(req)
        self._context.inbox.call(RevokeKey(WorkerId(worker), actor(req)))
        revoked = self._context.reader.last_revoked_key(WorkerId(worker))
        assert revoked is not None
        answer(resp, views.key(revoked))


def _life_ms(text: str) -> int:
    """How long a token is good, from its text. Raises a 400 Problem."""
    try:
        life_ms = parse_duration_ms(text)
    except ValueError as error:
        detail = str(error)
    else:
        if 0 < life_ms <= TOKEN_LIFE_MS_MAX:
            return life_ms
        detail = f"more than nothing, and at most {format_duration_ms(TOKEN_LIFE_MS_MAX)}"
    raise Problem(400, "invalid_request", f"expires: {detail}", errors=(("#/expires", detail),))
