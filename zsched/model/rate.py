"""How often something may happen: by a token bucket for each of many keys, and to a log line. Callers pass the time."""

from __future__ import annotations

import logging

from zsched.model.limits import RATE_KEYS_MAX


class Rate:
    """At most `burst` events at once for each key, then one in each `gap_ms`. Only recent events take memory."""

    def __init__(self, burst: int, gap_ms: int) -> None:
        self._burst_ms = (burst - 1) * gap_ms
        self._gap_ms = gap_ms
        # When each key's bucket is full again, by the steady clock.
        self._full_ms: dict[str, int] = {}

    def take(self, key: str, now_ms: int) -> bool:
        """Count an event of this key. False: it is one too many, and is not counted."""
        full_ms = max(now_ms, self._full_ms.get(key, 0))
        if full_ms - now_ms > self._burst_ms:
            return False
        if key not in self._full_ms and len(self._full_ms) >= RATE_KEYS_MAX:
            self._full_ms = {key: at_ms for key, at_ms in self._full_ms.items() if at_ms > now_ms}
        self._full_ms[key] = full_ms + self._gap_ms
        return True


class Throttled:
    """A line that others can cause again and again: the first is written at once, the next after `gap_ms`, with a count
    of those that were left out. Not thread-safe.

    The last ones of a burst are written by the next `write`, or by a `flush` where somebody has a clock.
    """

    def __init__(self, log: logging.Logger, level: int, gap_ms: int) -> None:
        self._log = log
        self._level = level
        self._gap_ms = gap_ms
        self._count = 0
        self._quiet_until_ms = 0
        # What the next line will say, if nothing else comes.
        self._left: tuple[str, tuple[object, ...]] = ("", ())

    def write(self, now_ms: int, text: str, *args: object) -> bool:
        """Log the text, a format of `args`, unless the last line is too recent by the steady clock. Returns whether it
        was logged.
        """
        self._count += 1
        self._left = (text, args)
        return self.flush(now_ms)

    def flush(self, now_ms: int) -> bool:
        """Log what was left out since the last line, unless that is too recent. Returns whether there was something."""
        if not self._count or now_ms < self._quiet_until_ms:
            return False
        text, args = self._left
        if self._count > 1:
            text, args = f"{text} (%d times since the last such line)", (*args, self._count)
        self._log.log(self._level, text, *args)
        self._count, self._quiet_until_ms = 0, now_ms + self._gap_ms
        return True
