"""How many file descriptors the guard may have open, and so how many runs it can watch at a time.

Jobs have nothing of this: each gets the limit that the worker was started with (see spawn.py), because a program that
uses select() breaks on a number above 1,023.
"""

from __future__ import annotations

import logging
import resource
from typing import Final

from zsched.model.units import counted

# A run's two outputs.
_PER_RUN: Final = 2
# The guard's own: standard three, lock, signals, epoll, channel, a start's other pipe ends; and some to spare.
_OWN: Final = 64

log = logging.getLogger(__name__)


def make_room(slots: int) -> int:
    """Raise this process's soft limit as far as these slots need. Returns how many fit: at most `slots`, at least 1."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = slots * _PER_RUN + _OWN
    if resource.RLIM_INFINITY in (soft, hard) or wanted <= soft:
        return slots
    most = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    fit = max(1, (most - _OWN) // _PER_RUN)
    if fit < slots:
        line = "%s instead of %d: those take %d file descriptors, the limit is %d"
        log.warning(line, counted(fit, "slot"), slots, wanted, hard)
    return fit
