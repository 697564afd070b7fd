"""Become another user, and then another program: `python -I -S become.py NAME UID GID PROGRAM ARGUMENT…`.

A program of its own, for hosts without a setpriv that can do it, and for jobs with variables of their own: these come
as ZSCHED_VARIABLE_0=NAME=VALUE and so on, and get their names when we are that user. Imports nothing of zsched, and
follows no variable while it is root.
"""

import os
import sys


def main(argv: list[str]) -> None:
    """Does not return. Raises OSError."""
    name, uid, gid = argv[1], int(argv[2]), int(argv[3])
    os.initgroups(name, gid)
    os.setresgid(gid, gid, gid)
    # With the last of the three the kernel takes all capabilities away.
    os.setresuid(uid, uid, uid)
    os.execve(argv[4], argv[4:], _environment())  # noqa: S606  (no shell is meant)


def _environment() -> dict[bytes, bytes]:
    found, own = {}, {}
    for name, value in os.environb.items():
        if name.startswith(b"ZSCHED_VARIABLE_"):
            own_name, _, own_value = value.partition(b"=")
            own[own_name] = own_value
        else:
            found[name] = value
    # The marks and numbers of the run are not a job's to set.
    return {**found, **{name: value for name, value in own.items() if not name.startswith(b"ZSCHED_")}}


if __name__ == "__main__":
    try:
        main(sys.argv)
    except OSError as error:
        sys.exit(f"become.py: {error}")
