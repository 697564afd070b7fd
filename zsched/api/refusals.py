"""Counters and log lines of calls that were refused because of their sender.

Anybody can cause refusals. So they make no events, which would fill the database, and at most one log line per
interval and kind, with a count and the latest example.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from zsched.api.problem import Problem
from zsched.model.limits import LINE_INTERVAL_MS
from zsched.model.rate import Throttled

log = logging.getLogger(__name__)

KINDS: Final = (
    "bad_token",
    "too_many_attempts",
    "protected_mode",
    "scope",
    "not_owner",
    "run_as",
    "priority_max",
    "not_bound",
    "slots_max",
)
# Other errors concern the content of a call, not its sender.
_STATUSES: Final = (401, 403)


def is_refusal(problem: Problem) -> bool:
    return problem.status in _STATUSES or problem.code == "too_many_attempts"


class Refusals:
    """Thread-safe. A kind is the `code` of the error body. Call `flush` about once a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(KINDS, 0)
        self._lines: dict[str, Throttled] = {}

    def note(self, kind: str, call: str, now_ms: int) -> None:
        """Count a refused call, and log it unless a line of its kind was just logged. `now_ms` is of the steady clock;
        `call` describes the call in bounded length, without secrets.
        """
        with self._lock:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            if kind not in self._lines:
                self._lines[kind] = Throttled(log, logging.WARNING, LINE_INTERVAL_MS)
            self._lines[kind].write(now_ms, "call refused (%s): %s", kind, call)

    def counts(self) -> dict[str, int]:
        """How many calls were refused since the start, by kind."""
        with self._lock:
            return dict(self._counts)

    def flush(self, now_ms: int) -> None:
        """Log the end of each burst whose interval is over."""
        with self._lock:
            for line in self._lines.values():
                line.flush(now_ms)
