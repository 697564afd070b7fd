"""prctl(2): attributes of this process that its children may inherit. Linux."""

from __future__ import annotations

import ctypes
import os
from typing import Final

# linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38


def close_to_others() -> None:
    """Deny other processes of our user to read our memory, environment and descriptors, and to trace us; root can.

    /proc/self belongs to root afterwards: open what you need of it for writing before. An exec ends this, so jobs can
    be traced by their own user. Raises OSError.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def gain_nothing() -> None:
    """Neither this process nor its children get more rights by running a program: setuid bits and file capabilities
    have no effect (PR_SET_NO_NEW_PRIVS). Can't be undone. Raises OSError.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def become_subreaper() -> None:
    """From now on orphans among our descendants become our children. Raises OSError."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int, signal: int) -> None:
    """Make the kernel send `signal` to this process when the thread that started it ends. Call it in the child.

    An exec keeps the setting, unless the program is setuid; a fork does not. A parent that has ended before sends no
    signal: then this process ends at once. Raises OSError.
    """
    _prctl(_PR_SET_PDEATHSIG, signal)
    if os.getppid() != parent:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")
