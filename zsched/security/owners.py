"""The owner of jobs of a caller without a token: `user:NAME`, with the name from this host's password database.

If callers are not identified, the owner is `local` where every program of the host is trusted, and `anybody` where
every caller is. The owner for a token is model.Token.owner.
"""

from __future__ import annotations

import pwd
from functools import lru_cache
from typing import Final

LOCAL: Final = "local"
ANYBODY: Final = "anybody"


@lru_cache(maxsize=1024)
def of_user(uid: int) -> str:
    """The owner for a local user: by name, or by number if the user has no usable name."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    # A name of digits would be taken for the user with that number.
    return f"user:{name if name.isprintable() and not name.isdigit() and name else uid}"
