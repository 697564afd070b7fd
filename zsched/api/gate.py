"""The one gate in front of every handler: it identifies the caller, and checks that the caller may do this.

First the caller is identified: the holder of a token, or a program of a trusted user on this host, by the Unix socket
or over loopback. A web page of another site is refused in either case. When Falcon has found the handler, the scope is
checked. To submit a job is to run a shell command, so an unidentified caller gets nothing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import falcon

from zsched.api.attempts import Attempts
from zsched.api.http.caller import SOCKET_ADDRESS
from zsched.api.problem import Problem
from zsched.model.access import Scope, Token
from zsched.model.hosts import is_loopback_address
from zsched.model.limits import TOKEN_USED_MS
from zsched.security import owners, peer, tokens
from zsched.store.contract import Reader

# Set by the server for each request: the address that the caller connected to, and a function that looks up its user.
LOCAL_ADDRESS: Final = "zsched.local_address"
PEER_UID: Final = "zsched.peer_uid"

_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})
# A host with or without a port. WSGI joins two Host headers with a comma.
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?", re.ASCII)
# Prefixes of headers that proxies and content networks add, by their WSGI names.
_FORWARDING: Final = (
    "HTTP_FORWARDED",
    "HTTP_X_FORWARDED",
    "HTTP_X_ORIGINAL",
    "HTTP_X_REAL_IP",
    "HTTP_X_CLIENT_IP",
    "HTTP_X_CLUSTER_CLIENT_IP",
    "HTTP_X_ENVOY",
    "HTTP_X_AZURE",
    "HTTP_X_AMZN_TRACE_ID",
    "HTTP_CLIENT_IP",
    "HTTP_TRUE_CLIENT_IP",
    "HTTP_PROXY_CLIENT_IP",
    "HTTP_WL_PROXY",
    "HTTP_CF_",
    "HTTP_CDN_LOOP",
    "HTTP_FASTLY",
    "HTTP_FLY_",
    "HTTP_TAILSCALE",
    "HTTP_VIA",
)
_MAKE_ONE: Final = (
    "run `zsched token add --scope submit` as the scheduler's user, and send that token as"
    " `Authorization: Bearer TOKEN` or set ZSCHED_TOKEN"
)
# Where a caller without a token can't make one either.
_ASK_ADMIN: Final = (
    "run `zsched token add --scope submit` with an admin token (admin_token_file has the first one), and send the new"
    " token as `Authorization: Bearer TOKEN` or set ZSCHED_TOKEN"
)
_REMEDY: Final = (
    "Without a token call http://localhost on the scheduler's host, for example through"
    f" `ssh -L 8080:localhost:8080 HOST`; or {_MAKE_ONE}"
)
_SOCKET_ONLY: Final = (
    "Calls over TCP need a token here (local_trust = socket). On the scheduler's host use its Unix socket, as in"
    f" `curl --unix-socket scheduler.db.d/api.sock http://localhost/jobs`; or {_MAKE_ONE}"
)
# For each route by its Falcon template, and each method: the scopes of which one is needed.
Scopes = tuple[Scope, ...]
Needs = Mapping[str, Mapping[str, Scopes]]


@dataclass(frozen=True, slots=True)
class Trust:
    """Which callers need no token.

    `local`: programs of our own user, root and `uids` on this host (`uid`), the same by the Unix socket alone
    (`socket`), any program on this host (`any`), or none (`none`). `ambiguous` is a uid that several users share; it is
    never trusted. `insecure`: every caller.
    """

    local: str = "uid"
    uids: frozenset[int] = frozenset()
    insecure: bool = False
    ambiguous: int | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. `owner` is what its jobs belong to (see security/owners.py) and what events name.

    `account` is what its Idempotency-Keys belong to: `user UID` or `token ID`, which never change. `token` is None for
    a caller without a token.
    """

    owner: str
    scopes: frozenset[Scope]
    account: str
    token: Token | None = None

    def may(self, *scopes: Scope) -> bool:
        """Whether the caller has one of these scopes, or `admin`."""
        return not self.scopes.isdisjoint((*scopes, Scope.ADMIN))


_ALL: Final = frozenset({Scope.ADMIN})


class Gate:
    """Falcon middleware. Leaves the Principal in `req.context.principal`."""

    def __init__(
        self, trust: Trust, reader: Callable[[], Reader], needs: Needs, on_use: Callable[[str], None] = lambda _: None
    ) -> None:
        """`on_use` gets the id of a token to store its last use. It must not block."""
        self._trust = trust
        self._reader = reader
        self._needs = needs
        self._on_use = on_use
        self._attempts = Attempts()
        # The last call of `on_use` by token, by the steady clock. The store may not have it yet.
        self._noted_s: dict[str, float] = {}

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Identify the caller. Raises a 400, 401, 403 or 429 Problem."""
        if req.path in _OPEN_PATHS:
            return
        shown = req.get_header("Authorization")
        req.context.principal = self._local(req) if shown is None else self._bearer(req, shown)

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: dict[str, str]
    ) -> None:
        """Check the caller's scopes. Raises a 403 Problem."""
        assert req.uri_template is not None
        needed = self._needs[req.uri_template].get("GET" if req.method == "HEAD" else req.method)
        if needed is None and hasattr(resource, f"on_{req.method.lower()}"):
            # The table of routes lacks this method: it needs admin.
            needed = (Scope.ADMIN,)
        principal: Principal | None = getattr(req.context, "principal", None)
        if needed is None or principal is None or principal.may(*needed):
            return
        given = ", ".join(sorted(principal.scopes)) or "none"
        # Without the converters of Falcon.
        path = req.uri_template.replace(":path}", "}")
        detail = f"{req.method} {path} needs the scope {' or '.join(needed)}; this token has {given}"
        challenge = f'Bearer error="insufficient_scope", scope="{needed[0]}"'
        raise Problem(403, "scope", detail, headers={"WWW-Authenticate": challenge})

    def _bearer(self, req: falcon.Request, header: str) -> Principal:
        """The caller by its token. A caller with a bad token is refused, even if it is local."""
        _demand_host(req)
        # Behind a proxy that ends TLS, our own page has an https origin.
        _refuse_pages(req, "http", "https")
        kind, _, text = header.partition(" ")
        shown = tokens.read(text.strip()) if kind.lower() == "bearer" else None
        if shown is not None:
            kept = self._reader().token(shown.token_id)
            now_ms = time.time_ns() // 1_000_000
            if tokens.good(shown, kept, now_ms):
                assert kept is not None
                self._note_use(kept, now_ms)
                return token_holder(kept)
        if shown is not None:
            req.context.claimed = f"token {shown.token_id}"
        if self._attempts.too_many(req.context.address, time.monotonic()):
            raise Problem(
                429, "too_many_attempts", "Too many bad tokens from this address", headers={"Retry-After": "60"}
            )
        detail = "This token is not known, has expired or was revoked; `zsched token list` shows those that there are"
        raise Problem(401, "bad_token", detail, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})

    def _note_use(self, token: Token, now_ms: int) -> None:
        """Store the last use of a token, at most once in TOKEN_USED_MS."""
        # The clock may have been set back.
        if token.last_used_ms is not None and abs(now_ms - token.last_used_ms) < TOKEN_USED_MS:
            return
        now_s = time.monotonic()
        noted_s = self._noted_s.get(token.token_id)
        if noted_s is None or (now_s - noted_s) * 1000 >= TOKEN_USED_MS:
            self._noted_s[token.token_id] = now_s
            self._on_use(token.token_id)

    def _local(self, req: falcon.Request) -> Principal:
        """The principal of a caller without a token. Raises a 403 Problem."""
        if self._trust.insecure:
            _demand_host(req)
            _refuse_pages(req, "http")
            return Principal(owners.ANYBODY, _ALL, owners.ANYBODY)
        if self._trust.local == "none":
            raise Problem(403, "protected_mode", f"Callers without a token are not served: {_ASK_ADMIN}")
        why = why_foreign(req)
        if why is None and self._trust.local == "socket" and not _by_socket(req):
            raise Problem(403, "protected_mode", _SOCKET_ONLY)
        if why is not None:
            raise Problem(403, "protected_mode", f"{why}. {_REMEDY}")
        _refuse_pages(req, "http")
        if self._trust.local == "any":
            return Principal(owners.LOCAL, _ALL, owners.LOCAL)
        uid = req.env[PEER_UID]()
        if uid is not None:
            req.context.claimed = f"user {uid}"
        if uid is None or not peer.trusted(uid, os.geteuid(), self._trust.uids, self._trust.ambiguous):
            raise Problem(403, "protected_mode", self._explain_refusal(uid))
        return local_user(uid)

    def _explain_refusal(self, uid: int | None) -> str:
        """Why a user of this host is refused, and the remedy."""
        if uid is None:
            return f"The user of this call is unknown: {_MAKE_ONE}"
        if uid == self._trust.ambiguous:
            return (
                "The caller's user has no number in the scheduler's user namespace"
                f" ({uid} is any such user): {_MAKE_ONE}"
            )
        return f"User {uid} needs a token: {_MAKE_ONE}; or add {uid} to local_uids"


def local_user(uid: int) -> Principal:
    """The principal of a local caller without a token, by the socket or by TCP."""
    return Principal(owners.of_user(uid), _ALL, f"user {uid}")


def token_holder(token: Token) -> Principal:
    """The principal of a caller with a token that is good."""
    return Principal(token.owner, token.scopes, f"token {token.token_id}", token)


def _demand_host(req: falcon.Request) -> None:
    """Raises a 400 Problem unless the request has one valid Host header."""
    if _HOST.fullmatch(req.get_header("Host") or "") is None:
        raise Problem(400, "invalid_request", "Host: one header with a host's name or address, and its port")


def _refuse_pages(req: falcon.Request, *schemes: str) -> None:
    """Raises a 403 Problem for a request from a page of another site. Our own page has one of these schemes."""
    origin = req.get_header("Origin")
    if origin is not None and origin not in [f"{scheme}://{req.get_header('Host')}" for scheme in schemes]:
        raise Problem(403, "protected_mode", f"The call comes from another site's page (Origin). {_REMEDY}")
    if req.get_header("Sec-Fetch-Site") in ("cross-site", "same-site"):
        raise Problem(403, "protected_mode", f"The call comes from another site's page (Sec-Fetch-Site). {_REMEDY}")


def why_foreign(req: falcon.Request) -> str | None:
    """Why a call is not from a program on this host; None if it is.

    A local connection is one to the Unix socket, or has loopback addresses at both ends. The Host is a local name (a
    page that rebinds its DNS name has another), and no proxy forwarded the call. Both are checked for either kind of
    connection, because each can be the end of a tunnel.
    """
    both = (str(req.env.get("REMOTE_ADDR")), str(req.env.get(LOCAL_ADDRESS)))
    if not _by_socket(req) and not all(map(is_loopback_address, both)):
        return "The call comes from another host"
    if _name(req.get_header("Host") or "") not in _LOCAL_NAMES:
        return "The Host header is not localhost, 127.0.0.1 or [::1]"
    if any(name.startswith(_FORWARDING) for name in req.env):
        return "The call was forwarded by a proxy"
    return None


def _by_socket(req: falcon.Request) -> bool:
    return req.env.get(LOCAL_ADDRESS) == req.env.get("REMOTE_ADDR") == SOCKET_ADDRESS


def _name(host: str) -> str:
    """A Host header without its port, in lower case."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdigit() else host).lower()
