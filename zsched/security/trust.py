"""Which users of this host may run the scheduler that clients and workers call.

While a scheduler is down, any user of its host can take its port. Such a server would receive tokens and jobs, and
could send commands to workers. So endpoint.py checks the server's user here, before it sends the first byte.
These users are trusted:

- root and our own user;
- the owner of /run/zsched, which only root can create: the systemd unit creates it for the scheduler's user;
- users listed in ZSCHED_SERVER_USERS.
"""

from __future__ import annotations

import os
import stat
from typing import Final

# Names or numbers of users, separated by commas or spaces; `any` trusts all.
SERVER_USERS: Final = "ZSCHED_SERVER_USERS"

RUN_FOLDER: Final = "/run/zsched"


class UntrustedError(Exception):
    """The server is not proven to be the scheduler, and nothing was sent. The message ends with the remedy."""


def demand_trusted(uid: int, url: str, place: str) -> None:
    """Raises UntrustedError unless a server of this user is trusted. `place`: its address; `url`: the called URL."""
    from zsched.security import peer

    own, ambiguous = os.geteuid(), peer.ambiguous_uid()
    if peer.trusted(uid, own, ambiguous=ambiguous) or trusts_all():
        return
    if peer.trusted(uid, own, named_users(), ambiguous):
        return
    remedy = f"if the scheduler runs as that user, set {SERVER_USERS}={uid}"
    if uid == ambiguous:
        remedy = f"that is any user that this namespace does not map; to trust them all set {SERVER_USERS}=any"
    ours = "root" if own == 0 else f"root or user {own}"
    raise UntrustedError(
        f"refused to call {url}: user {uid} listens at {place}, not {ours}; nothing was sent; {remedy}"
    )


def trusts_all() -> bool:
    """Whether ZSCHED_SERVER_USERS is `any`: the server's user is not checked."""
    return os.environ.get(SERVER_USERS, "").strip() == "any"


def named_users() -> frozenset[int]:
    """The trusted users besides root and our own user. Raises UntrustedError for an unknown user name."""
    named = frozenset(map(_uid, os.environ.get(SERVER_USERS, "").replace(",", " ").split()))
    appointed = appointed_user(RUN_FOLDER)
    return named if appointed is None else named | {appointed}


def appointed_user(folder: str) -> int | None:
    """The owner of a folder, if only root can have created it; else None."""
    try:
        above, found = os.stat(os.path.dirname(folder)), os.lstat(folder)
    except OSError:
        return None
    roots_alone = above.st_uid == 0 and not above.st_mode & 0o022
    return found.st_uid if roots_alone and stat.S_ISDIR(found.st_mode) else None


def _uid(word: str) -> int:
    if word.isascii() and word.isdigit():
        return int(word)
    import pwd

    try:
        return pwd.getpwnam(word).pw_uid
    except KeyError:
        raise UntrustedError(f"invalid {SERVER_USERS}: no user {word!r} on this host; give names or numbers") from None
