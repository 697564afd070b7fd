"""What processes ask of the kernel for themselves and for those that they start, by prctl(2). Linux."""

from __future__ import annotations

import ctypes
import os
from typing import Final

# linux/prctl.h
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def close_to_others() -> None:
    """From now on no process of our own user can read our memory, environment and descriptors, nor trace us; root can.

    /proc/self belongs to root then: what of it we need to open for writing is opened before. Gone with the next exec,
    so jobs may be traced by their own user as ever. Raises OSError.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def gain_nothing() -> None:
    """Neither we nor what we start gets more rights by running a program: setuid bits and file capabilities count
    nothing (PR_SET_NO_NEW_PRIVS). Can't be undone. Raises OSError.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def die_with(parent: int, signal: int) -> None:
    """Have the kernel send us `signal` when the thread that started us ends. Call it in the child, before its exec.

    An exec keeps the setting, unless the program is setuid; a fork does not. A parent that has ended by now sends no
    signal any more: this process ends at once then. Raises OSError.
    """
    _prctl(_PR_SET_PDEATHSIG, signal)
    if os.getppid() != parent:
        os._exit(1)


def _prctl(what: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(what, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({what})")
