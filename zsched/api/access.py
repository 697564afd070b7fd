"""/tokens and /access: the tokens of callers and the keys of workers. For callers with the scope `admin`."""

from __future__ import annotations

import time

import falcon

from zsched.api import views
from zsched.api.body import TokenBody, read
from zsched.api.context import Context, actor, answer, parameters
from zsched.api.pages import address, answer_page
from zsched.api.problem import invalid
from zsched.model.access import Scope, Token
from zsched.model.limits import ACCESS_SHOWN_MS, TOKEN_LIFE_MS_DEFAULT, TOKEN_LIFE_MS_MAX
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
        found = self._context.reader.tokens(given.get("after", ""), valid_ms=_shown_ms())
        page = self._context.pages.fill(found, views.token)
        answer_page(resp, page, address("/tokens", {}, after=page.last.token_id) if page.last is not None else "")

    on_head = on_get

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Make a token. This answer alone has its secret."""
        parameters(req)
        body = read(req, TokenBody)
        shown = tokens.new()
        token = Token(
            token_id=shown.token_id,
            name=body.name or shown.token_id,
            digest=shown.digest,
            scopes=frozenset(Scope(word) for word in body.scopes),
            note=body.note,
            created_ms=0,  # The turn sets it.
            created_by=actor(req),
            run_as=body.run_as,
            pending_max=body.pending_max,
            schedules_max=body.schedules_max,
            priority_max=body.priority_max,
            workers=body.workers,
            slots_max=body.slots_max,
        )
        stored = self._context.inbox.call(AddToken(token, _life_ms(body.expires)))
        assert isinstance(stored, Token)
        resp.cache_control = ["no-store"]
        answer(resp, {"token": shown.text, **views.token(stored)}, 201)


class TokenItem:
    """/tokens/{id}"""

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_delete(self, req: falcon.Request, resp: falcon.Response, token: str) -> None:
        """Revoke a token, by its id or its name. With `jobs=cancel` the scheduler goes on to end its jobs."""
        given = parameters(req, "jobs")
        if given.get("jobs", "cancel") != "cancel":
            raise invalid("jobs", "cancel, or leave the parameter out")
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
        found = self._context.reader.worker_keys(given.get("after", ""), valid_ms=_shown_ms())
        page = self._context.pages.fill(found, views.key)
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


def _shown_ms() -> int:
    """Lists show what was valid after this time."""
    return time.time_ns() // 1_000_000 - ACCESS_SHOWN_MS


def _life_ms(text: str | None) -> int | None:
    """The lifetime of a new token; None: it never expires. Raises a 400 Problem."""
    if text is None:
        return TOKEN_LIFE_MS_DEFAULT
    if text == NEVER:
        return None
    try:
        life_ms = parse_duration_ms(text)
    except ValueError as error:
        raise invalid("#/expires", error) from None
    if not 0 < life_ms <= TOKEN_LIFE_MS_MAX:
        limit = format_duration_ms(TOKEN_LIFE_MS_MAX)
        raise invalid("#/expires", f"more than nothing, and at most {limit}; or {NEVER}")
    return life_ms
