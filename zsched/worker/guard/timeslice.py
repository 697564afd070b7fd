"""The guard's time slice: short, so that it preempts the job on its processor. Linux.

A process that wakes on a busy processor waits for the end of the running process's slice, a few ms by default, unless
its own slice is shorter. The guard wakes because a job has ended, and that job's processor idles meanwhile. Two slots
that run `true` do 1,460 jobs a second without this and 1,870 with it where the kernel does not group processes by
session (no autogroups, or a cgroup with a cpu controller); where it does, 2 % more (bench/spawn.py). The guard gets no
more CPU time than before, and needs no right.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import struct
import sys
from typing import Final

# The shortest slice that the kernel accepts (Linux 6.12 and later; earlier versions ignore it).
SHORT_NS: Final = 100_000

# sched_setattr(2), for which glibc has no function before 2.41.
_SETATTR: Final = {"x86_64": 314, "aarch64": 274}
# struct sched_attr, its first version: size, policy, flags, nice, priority, runtime, deadline, period.
_ATTR: Final = struct.Struct("=IIQiIQQQ")
# linux/sched.h: children do not inherit the slice.
_RESET_ON_FORK: Final = 1

log = logging.getLogger(__name__)


def shorten() -> bool:
    """Ask for a short slice for this thread. Returns whether that succeeded; nothing depends on it.

    Does nothing for a worker with another scheduling class or a negative nice value: the flag that keeps the slice from
    jobs would reset these for them too.
    """
    number = _SETATTR.get(platform.machine()) if sys.maxsize > 2**32 else None
    try:
        nice, policy = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)
    # musl has no scheduling classes, and a sandbox may forbid the call.
    except OSError as error:
        log.debug("no short time slice: %s", error.strerror)
        return False
    if number is None or policy != os.SCHED_OTHER or nice < 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    attr = _ATTR.pack(_ATTR.size, os.SCHED_OTHER, _RESET_ON_FORK, nice, 0, SHORT_NS, 0, 0)
    if libc.syscall(ctypes.c_long(number), ctypes.c_int(0), attr, ctypes.c_uint(0)) != 0:
        log.debug("no short time slice: %s", os.strerror(ctypes.get_errno()))
        return False
    return True
