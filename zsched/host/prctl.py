"""Settings of a process by prctl(2). Linux."""

from __future__ import annotations

import ctypes
import os
from typing import Final

# linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def close_to_others() -> None:
    """Deny other processes of our user to read our memory, environment and descriptors, and to trace us; root can.

    /proc/self then belongs to root, so open its files for writing before. The next exec resets it, so users can trace
    their own jobs. Raises OSError.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def gain_nothing() -> None:
    """Deny this process and its children to gain privileges by running a program with setuid bits or file capabilities
    (PR_SET_NO_NEW_PRIVS). Can't be undone. Raises OSError.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with(parent: int, signal: int) -> None:
    """Make the kernel send `signal` to this process when the thread that started it ends. Call it in the child.

    An exec keeps the setting, unless the program is setuid; a fork does not. If the parent has already ended, there
    will be no signal, so this process exits at once. Raises OSError.
    """
    _prctl(_PR_SET_PDEATHSIG, signal)
    if os.getppid() != parent:
        os._exit(1)


def _prctl(what: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(what, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({what})")
