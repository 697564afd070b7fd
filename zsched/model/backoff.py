"""Back-off: delays of the retries of a failed task, of a task after crashes, and of a worker's calls.

Pure and without a random source: the jitter follows from a name, so the same name waits the same time again.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Final

from zsched.model.limits import CALL_GAP_MS_MAX, CRASH_DELAY_MS, CRASH_DELAY_MS_MAX
from zsched.model.types import Backoff

# A worker's gaps between calls: 1, 2, 4, 8, 15, 15 … s (CALL_GAP_MS_MAX).
_GAP_MS: Final = 1_000


def retry_ms(backoff: Backoff, failures: int, name: str) -> int:
    """The delay in ms before a task is tried again after this many failures, at least 1. `name` decides the jitter."""
    grown_ms: float = backoff.initial_ms
    for _ in range(failures - 1):
        if grown_ms >= backoff.max_ms or backoff.factor == 1:
            break
        grown_ms *= backoff.factor
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32
    return int(min(grown_ms, backoff.max_ms) * (1 - backoff.jitter * share))


def crash_delay_ms(crashes: int) -> int:
    """The delay in ms of a run's successor after this many crashes: 0 after the first, then doubling up to a bound."""
    if crashes < 2:
        return 0
    return min(CRASH_DELAY_MS << min(crashes - 2, 16), CRASH_DELAY_MS_MAX)


def call_gap_ms(name: str, attempt: int, gap_ms_max: int = CALL_GAP_MS_MAX) -> int:
    """The gap in ms after a worker's failed call; `attempt` counts from 1. It doubles up to gap_ms_max.

    The jitter takes away up to a fifth, so that different workers call at different times.
    """
    gap_ms = min(_GAP_MS << min(attempt - 1, 4), gap_ms_max)
    share = zlib.crc32(f"{name}:{attempt}".encode()) % 1_000
    return gap_ms - gap_ms * share // 5_000
