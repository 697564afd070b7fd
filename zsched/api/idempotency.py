"""`Idempotency-Key`: a caller that got no answer sends the same request again, and it is done once.

By draft-ietf-httpapi-idempotency-key-header, with two differences: a key may also come without the quotes of a
structured field (RFC 9651), and another request with a used key gets 422.
"""

from __future__ import annotations

import hashlib
import re
import time
from typing import Final

import falcon

from zsched.api.problem import invalid
from zsched.model.limits import IDEMPOTENCY_KEY_CHARS_MAX, IDEMPOTENCY_MS
from zsched.scheduler.dispatcher.commands import Once
from zsched.store.contract import Reader

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"

# A string of a structured field. WSGI joins two headers with a comma, so a bare key must not have one.
_QUOTED: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE: Final = re.compile(r"[!#-+\--~][ -+\--~]*")
_REMEDY: Final = (
    f"one key of 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters, such as a UUID, new for each request that"
    " is to be done; in double quotes when it has a comma or begins with a quote"
)


def key(req: falcon.Request) -> str | None:
    """The key of a request, the same with and without quotes; None without the header. Raises a 400 Problem."""
    shown = req.get_header(HEADER)
    if shown is None:
        return None
    quoted = _QUOTED.fullmatch(shown)
    found = shown if quoted is None else re.sub(r"\\(.)", r"\1", quoted[1])
    if (quoted is None and _BARE.fullmatch(shown) is None) or not 1 <= len(found) <= IDEMPOTENCY_KEY_CHARS_MAX:
        raise invalid(HEADER, _REMEDY)
    return found


def begin(req: falcon.Request, key: str | None) -> hashlib._Hash:
    """The digest of a request, to which its body is still to be added."""
    return hashlib.sha256(f"{key}\n{req.method} {req.path}\n".encode())


def once(req: falcon.Request, key: str, digest: hashlib._Hash) -> Once:
    """The identity of a request for its repetitions."""
    return Once(_caller(req), _hashed(key), digest.digest())


def known(req: falcon.Request, key: str, reader: Reader) -> bool:
    """Whether the caller has submitted a request with this key."""
    after_ms = time.time_ns() // 1_000_000 - IDEMPOTENCY_MS
    return reader.submitted(_caller(req), _hashed(key), after_ms) is not None


def _hashed(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _caller(req: falcon.Request) -> str:
    """The owner of idempotency keys: a token or a local user."""
    account: str = req.context.principal.account
    return account
