"""The clocks of guard and agent; the steady one also ends leases. Linux."""

from __future__ import annotations

import time

from zsched.model.types import Now


def mono_ms() -> int:
    """CLOCK_BOOTTIME in ms. It runs while the host is suspended: the scheduler's clock, on another host, does too."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def now() -> Now:
    """The present by both clocks."""
    return Now(mono_ms(), time.time_ns() // 1_000_000)
