"""The clock that guard and agent have in common, and by which a lease ends. Linux."""

from __future__ import annotations

import time


def mono_ms() -> int:
    """CLOCK_BOOTTIME in ms: steady, and it goes on while the host is suspended, as the scheduler's does meanwhile."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
