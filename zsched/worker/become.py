"""Become another user, and then another program: `python -I -S become.py NAME UID GID PROGRAM ARGUMENT…`.

A program of its own, for hosts without a setpriv that can do it. Imports nothing of zsched, and reads no environment.
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
    os.execv(argv[4], argv[4:])  # noqa: S606  (no shell is meant)


if __name__ == "__main__":
    try:
        main(sys.argv)
    except OSError as error:
        sys.exit(f"become.py: {error}")
