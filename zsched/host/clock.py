"""The steady clock of guard and agent, which also ends leases. Linux."""

from __future__ import annotations

import time


def mono_ms() -> int:
    """CLOCK_BOOTTIME in ms. It runs while the host is suspended: the scheduler's clock, on another host, does too."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
