"""Back-off: delays of the retries of a failed task, of a task after crashes, and of a worker's calls.

Pure and without a random source: the jitter follows from a name, so the same name waits the same time again.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import Annotated, Final

from msgspec import Struct

from zsched.model.fields import DURATION, NEVER, Form, about
from zsched.model.limits import CALL_GAP_MS_MAX, CRASH_DELAY_MS, CRASH_DELAY_MS_MAX


class Backoff(Struct, frozen=True, kw_only=True):
    """How long a task waits before a retry: longer after each failure, and less by a random share, so that what failed
    together does not come back together.
    """

    initial_ms: Annotated[
        int, about("Pause after the first failure.", Form(json="initial", codec=DURATION, omit=NEVER))
    ] = 5_000
    factor: Annotated[
        float, about("Each further pause is longer than the one before by this factor.", Form(omit=NEVER))
    ] = 2.0
    max_ms: Annotated[int, about("Longest pause.", Form(json="max", codec=DURATION, omit=NEVER))] = 3_600_000
    jitter: Annotated[
        float, about("A pause is shorter by a share of at most this much, from 0 to 1.", Form(omit=NEVER))
    ] = 0.1


USUAL_BACKOFF: Final = Backoff()


def read_backoff(text: str) -> Backoff:
    """A back-off from its column. Raises ValueError, TypeError."""
    initial_ms, factor, max_ms, jitter = json.loads(text)
    return Backoff(initial_ms=initial_ms, factor=factor, max_ms=max_ms, jitter=jitter)


def backoff_text(backoff: Backoff) -> str | None:
    """What read_backoff reads; None for the usual back-off."""
    if backoff == USUAL_BACKOFF:
        return None
    return json.dumps([backoff.initial_ms, backoff.factor, backoff.max_ms, backoff.jitter])


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
