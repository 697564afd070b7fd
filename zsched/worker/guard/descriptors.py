"""The guard's limit of open files, and so the number of runs that it can watch at a time.

Jobs keep the limit that the worker was started with (see spawn.py), because a program that uses select() breaks on
descriptors above 1,023.
"""

from __future__ import annotations

import logging
import resource
from typing import Final

from zsched.model.units import counted

# A run's two output pipes, and the one of the shell that enters its folder.
_PER_RUN: Final = 3
# The guard's own: the standard three, lock, signals, epoll, channel, a start's other pipe ends; and a reserve.
_OWN: Final = 64

log = logging.getLogger(__name__)


def make_room(slots: int) -> int:
    """Raise this process's soft limit for that many slots. Returns how many the hard limit allows, at least 1."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = slots * _PER_RUN + _OWN
    if resource.RLIM_INFINITY in (soft, hard) or needed <= soft:
        return slots
    limit = min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    fit = max(1, (limit - _OWN) // _PER_RUN)
    if fit < slots:
        line = "%s instead of %d: those take %d file descriptors, the limit is %d"
        log.warning(line, counted(fit, "slot"), slots, needed, hard)
    return fit
