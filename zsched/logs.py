"""Log lines: to stderr, one line a record, whatever the record holds; and few of what fails again and again.

`start` is called once by every program that logs. Text that came from outside (a worker's name, a path) may hold
control characters; they are escaped here, in one place, so that nobody forges a line or talks to a terminal.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

from zsched.rate import Throttled

# What fails again and again is told at most once in this time.
QUIET_MS: Final = 10_000

_LEVELS: Final = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}
_WORDS: Final = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}

# C0, DEL, C1 and the two separators that some viewers take for a line's end.
_ESCAPES: Final = {
    code: {9: r"\t", 10: r"\n", 13: r"\r"}.get(code, f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
}


def start(level: str, stream: TextIO | None = None) -> None:
    """Send the records of level (DEBUG, INFO, WARN or ERROR) and above to stream, which is stderr if not given.

    A second call replaces the first.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(Line())
    logging.basicConfig(level=_LEVELS[level], handlers=[handler], force=True)
    # A reader that went away (`worker 2>&1 | head`) must not make the logging of it fail in turn.
    logging.raiseExceptions = False


class Line(logging.Formatter):
    """`2026-03-01T12:00:00.123Z INFO zsched.loop: the message`, a traceback appended with its line ends escaped."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        word = _WORDS.get(record.levelno, record.levelname)
        # A program started by `python -m` has the name __main__; its own says more.
        name = _program() if record.name == "__main__" else record.name
        return f"{time} {word} {name}: {text}".translate(_ESCAPES)


class Outage:
    """Something that fails again and again: the first time is told at once, then how often it was, and then its end.

    Each at most once in QUIET_MS, also when it works now and then.
    """

    def __init__(self, log: logging.Logger, failure: str, end: str) -> None:
        """`failure` and `end`: "a turn could not be stored" and "turns are stored again"."""
        self._log = log
        self._failure = failure
        self._end = end
        self._since_ms: int | None = None
        self._told = False
        self._line = Throttled(log, logging.ERROR, QUIET_MS)

    def failed(self, error: Exception, now_ms: int) -> None:
        """It failed, at this time of the steady clock."""
        if self._since_ms is None:
            self._since_ms = now_ms
        if self._line.write(now_ms, "%s: %s", self._failure, error):
            self._told = True

    def worked(self, now_ms: int) -> None:
        """It worked. That is told when it had failed before, and that had been told."""
        if self._told and self._since_ms is not None:
            self._log.info("%s, after %.1f s", self._end, (now_ms - self._since_ms) / 1000)
        self._since_ms, self._told = None, False


def _program() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else "__main__"
