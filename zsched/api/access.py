"""/tokens and /access: the tokens of callers and the keys of workers. For callers with the scope `admin`."""

from __future__ import annotations

import time

import falcon

from zsched.api import views
from zsched.api.body import TokenBody, read
from zsched.api.context import Context, actor, answer, parameters
from zsched.api.pages import address, answer_page
from zsched.api.problem import Problem
from zsched.model.access import Scope, Token
from zsched.model.limits import TOKEN_LIFE_MS_DEFAULT, TOKEN_LIFE_MS_MAX
from zsched.model.types import WorkerId
from zsched.model.units import format_duration_ms, parse_duration_ms
from zsched.scheduler.dispatcher.commands import AddToken, RevokeKey, RevokeToken
from zsched.security import tokens
from zsched.security.tokens import NEVER


class Tokens:
    """/tokens"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = parameters(req, "after")
        page = self._context.pages.fill(self._context.reader.tokens(given.get("after", "")), views.token)
        answer_page(resp, page, address("/tokens", {}, after=page.last.token_id) if page.last is not None else "")

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make a token. This answer alone has its secret."""
        parameters(req)
        body = read(req, TokenBody)
        shown, token = new_token(body, actor(req), time.time_ns() // 1_000_000)
        self._context.inbox.call(AddToken(token))
        resp.cache_control = ["no-store"]
        answer(resp, {"token": shown.text, **views.token(token)}, 201)


class TokenItem:
    """/tokens/{id}"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_delete(self, req: falcon.Request, resp: falcon.Response, token: str) -> None:
        """Revoke a token, by its id or its name. With `jobs=cancel` the scheduler goes on to end its jobs."""
        given = parameters(req, "jobs")
        if given.get("jobs", "cancel") != "cancel":
            detail = "cancel, or leave the parameter out"
            raise Problem(400, "invalid_request", f"jobs: {detail}", errors=(("jobs", detail),))
        reader = self._context.reader
        named = reader.token(token) or reader.token_named(token)
        token_id = token if named is None else named.token_id
        state = self._context.inbox.call(RevokeToken(token_id, actor(req), "jobs" in given))
        answer(resp, {**views.token(state.token), "live_jobs": state.jobs, "live_schedules": state.schedules})


class Keys:
    """/access: the keys of workers. `POST /workers/enrol` binds one."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        given = parameters(req, "after")
        page = self._context.pages.fill(self._context.reader.worker_keys(given.get("after", "")), views.key)
        answer_page(resp, page, address("/access", {}, after=page.last.public_key) if page.last is not None else "")

    on_head = on_get


class KeyItem:
    """/access/{worker}"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_delete(self, req: falcon.Request, resp: falcon.Response, worker: str) -> None:
        parameters(req)
        revoked = self._context.inbox.call(RevokeKey(WorkerId(worker), actor(req)))
        answer(resp, views.key(revoked))


def new_token(body: TokenBody, actor: str, now_ms: int) -> tuple[tokens.Shown, Token]:
    """The token that a body asks for: as its holder has it, and as it is stored. Raises a 400 Problem."""
    shown = tokens.new()
    token = Token(
        token_id=shown.token_id,
        name=body.name or shown.token_id,
        digest=shown.digest,
        scopes=frozenset(Scope(word) for word in body.scopes),
        note=body.note,
        created_ms=now_ms,
        created_by=actor,
        expires_ms=_expires_ms(body.expires, now_ms),
        run_as=body.run_as,
        pending_max=body.pending_max,
        schedules_max=body.schedules_max,
        workers=body.workers,
        slots_max=body.slots_max,
    )
    return shown, token


def _expires_ms(text: str | None, now_ms: int) -> int | None:
    """When a token that is made now expires; None for never. Raises a 400 Problem."""
    if text == NEVER:
        return None
    return now_ms + (TOKEN_LIFE_MS_DEFAULT if text is None else _life_ms(text))


def _life_ms(text: str) -> int:
    """How long a token is good, from its text. Raises a 400 Problem."""
    try:
        life_ms = parse_duration_ms(text)
    except ValueError as error:
        detail = str(error)
    else:
        if 0 < life_ms <= TOKEN_LIFE_MS_MAX:
            return life_ms
        detail = f"more than nothing, and at most {format_duration_ms(TOKEN_LIFE_MS_MAX)}; or {NEVER}"
    raise Problem(400, "invalid_request", f"expires: {detail}", errors=(("#/expires", detail),))
