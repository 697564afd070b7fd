"""API tokens: their form, new ones, and their verification.

`zs_<id>_<secret>`: the id is public and names the token in lists and events; the secret is 32 random bytes. Only its
SHA-256 is stored: a slow hash is for passwords, which can be guessed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from zsched.model.access import Token

# In place of a duration: the token does not expire.
NEVER: Final = "never"

# Names of tokens, and of workers that a token is bound to, as regular expressions. A name that looks like an id would
# name two tokens. `*` stands for any characters, `?` for one.
NAME: Final = r"^(?![0-9a-f]{12}\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z"
WORKERS: Final = r"^[A-Za-z0-9*?][A-Za-z0-9._@:*?-]{0,127}\Z"

_ID_BYTES: Final = 6
_SECRET_BYTES: Final = 32
_FORM: Final = re.compile(rf"zs_([0-9a-f]{{{2 * _ID_BYTES}}})_([0-9a-f]{{{2 * _SECRET_BYTES}}})", re.ASCII)


class Shown(NamedTuple):
    """A token as a caller presents it: the text, its id, and the digest of its secret."""

    text: str
    token_id: str
    digest: bytes


def new() -> Shown:
    """A new random token."""
    shown = read(f"zs_{secrets.token_hex(_ID_BYTES)}_{secrets.token_hex(_SECRET_BYTES)}")
    assert shown is not None
    return shown


def read(text: str) -> Shown | None:
    """Parse a token. None if the text is invalid."""
    match = _FORM.fullmatch(text)
    return None if match is None else Shown(text, match[1], hashlib.sha256(match[2].encode()).digest())


def speaks_for(token: Token, worker: str) -> bool:
    """Whether a token may act as a worker with this name."""
    return not token.workers or any(fnmatchcase(worker, pattern) for pattern in token.workers)


def good(shown: Shown, kept: Token | None, now_ms: int) -> bool:
    """Whether a presented token matches the stored one, and is neither expired nor revoked."""
    # Compared even if there is no such token, so that the time does not reveal which ids exist.
    same = hmac.compare_digest(shown.digest, kept.digest if kept is not None else bytes(32))
    if kept is None or kept.revoked_ms is not None:
        return False
    return same and (kept.expires_ms is None or now_ms < kept.expires_ms)
