"""Owners of jobs that call without a token: `user:NAME`, with the name from this host's password database.

Two words stand for callers that have no name: `local` where every program of the host is trusted, `anybody` where
everybody is. The owner that stands for a token is model.Token.owner.
"""

from __future__ import annotations

import pwd
from functools import lru_cache
from typing import Final

LOCAL: Final = "local"
ANYBODY: Final = "anybody"


@lru_cache(maxsize=1024)
def of_user(uid: int) -> str:
    """The owner that stands for a local user: by name, or by number where the user has no usable name."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    # A name of digits would stand for the user with that number.
    return f"user:{name if name.isprintable() and not name.isdigit() and name else uid}"
