"""What the scheduler's process sets for itself at its start: how malloc returns memory, and the limit of open files."""

from __future__ import annotations

import ctypes
import resource
from contextlib import suppress
from typing import Final

# Parameters of mallopt(3), from malloc.h: freed memory at the end of the heap beyond this is returned; blocks of this
# size and more are returned when they are freed; how many arenas (heaps) there are.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_LARGE_BYTES: Final = 128 * 1024
_KEPT_BYTES: Final = 1024 * 1024


def return_freed_memory() -> None:
    """Make glibc return large blocks to the system when they are freed.

    By default it keeps large freed blocks for the next ones of that size, and small blocks then settle in between: a
    port that strangers talk to makes the process grow. Some small ones are kept: SQLite takes one or two of 90 KiB for
    a statement, and to get them from the system each time made a turn of one job take twice as long.
    """
    with suppress(AttributeError):  # Another C library has no mallopt.
        mallopt = ctypes.CDLL(None).mallopt
        # By default most threads get an arena each, up to eight for each core. Each thread that ever served a large
        # body would keep megabytes in its own.
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def raise_descriptor_limit() -> int:
    """Raise this process's limit of open files to the hard limit. Returns the limit in force."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
