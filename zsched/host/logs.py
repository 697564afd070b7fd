"""Logging to stderr: one line per record, without blocking, and few lines about a repeated failure.

`start` is called once by every program that logs. Foreign text (a worker's name, a path) may hold
control characters. They are escaped here, so that no text forges a line or controls a terminal.

A write to a full pipe without a reader blocks, and O_NONBLOCK would apply to all processes that share the pipe. So a
log call writes only what the pipe takes at once, and a thread writes the rest.
"""

from __future__ import annotations

import logging
import os
import select
import stat
import sys
import threading
from collections import deque
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from zsched.model.limits import LOG_FLUSH_S, LOG_LINES_BYTES_MAX
from zsched.model.rate import Throttled

# A repeated failure is logged at most once in this time.
QUIET_MS: Final = 10_000

_LEVELS: Final = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}
_WORDS: Final = {logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}

# C0, DEL, C1 and the two separators that some viewers show as line ends.
_ESCAPES: Final = {
    code: {9: r"\t", 10: r"\n", 13: r"\r"}.get(code, f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
}


def start(level: str, descriptor: int | None = None) -> None:
    """Log records of a level (DEBUG, INFO, WARN or ERROR) and above to a descriptor, by default stderr.

    A second call replaces the first. At the program's end, waiting lines get LOG_FLUSH_S to be written.
    """
    if descriptor is None and sys.stderr is not None:
        descriptor = sys.stderr.fileno()
    # Without stderr, another file may have its number by now.
    handler = logging.NullHandler() if descriptor is None else Writer(descriptor)
    handler.setFormatter(Line())
    logging.basicConfig(level=_LEVELS[level], handlers=[handler], force=True)
    # A record that can't be formatted is a bug; reporting that must not fail too.
    logging.raiseExceptions = False


class Writer(logging.Handler):
    """Writes each record as one line, without waiting for its reader. Logging calls `flush` when the program ends.

    At most LOG_LINES_BYTES_MAX wait. Further lines are lost; a line in their place has their number.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._unblocked = _unblocked(descriptor)
        # The thread is writing the first of these.
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._lost = 0
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._encoded(record)
        except Exception:
            self.handleError(record)
            return
        with self._changed:
            if self._lines and self._bytes + len(line) > LOG_LINES_BYTES_MAX:
                self._lost += 1
                return
            self._report_lost()
            self._put(line)

    def flush(self) -> None:
        """Wait until all is written, LOG_FLUSH_S at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines, LOG_FLUSH_S)

    def close(self) -> None:
        """Take no more lines. The thread ends when it has written those that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            if self._unblocked is not None and self._unblocked != self._descriptor:
                os.close(self._unblocked)
            self._unblocked = None
        super().close()

    def _encoded(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode(errors="backslashreplace")

    def _put(self, line: bytes) -> None:
        if not self._lines and not (line := self._write_now(line)):
            return
        self._lines.append(line)
        self._bytes += len(line)
        self._changed.notify_all()
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="log", daemon=True)
            # If no thread can be started now, the next line tries again.
            with suppress(RuntimeError):
                thread.start()
                self._thread = thread

    def _write_now(self, line: bytes) -> bytes:
        """Write without waiting; returns the rest. Drops the line if the pipe has no reader."""
        if self._unblocked is None:
            return line
        try:
            return line[os.write(self._unblocked, line) :]
        except BlockingIOError:
            return line
        except OSError:
            return b""

    def _report_lost(self) -> None:
        if self._lost:
            lines = "1 log line" if self._lost == 1 else f"{self._lost} log lines"
            text = f"lost {lines}: stderr did not take them in time"
            self._put(self._encoded(logging.LogRecord(__name__, logging.WARNING, "", 0, text, (), None)))
            self._lost = 0

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closed)
                if not self._lines:
                    return
                line = self._lines[0]
            _write(self._descriptor, line)
            with self._changed:
                self._bytes -= len(self._lines.popleft())
                if not self._lines:
                    self._report_lost()
                    self._changed.notify_all()


def _unblocked(descriptor: int) -> int | None:
    """A descriptor of the same file or pipe whose writes never block. None if that is impossible."""
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return descriptor
        if stat.S_ISFIFO(mode):
            # A new open file description, so the flag is ours alone.
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        pass
    return None


def _write(descriptor: int, line: bytes) -> None:
    """Write a line, and wait as long as necessary. Drops the line if the pipe has no reader."""
    left = memoryview(line)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            # Another process has made this pipe or terminal non-blocking.
            waiting = select.poll()
            waiting.register(descriptor, select.POLLOUT)
            waiting.poll()
        except OSError:
            return


class Line(logging.Formatter):
    """`2026-03-01T12:00:00.123Z INFO zsched.scheduler.loop: the message`, then a traceback, its line ends escaped."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        word = _WORDS.get(record.levelno, record.levelname)
        # `python -m` names the module __main__: use its real name.
        name = _program() if record.name == "__main__" else record.name
        return f"{time} {word} {name}: {text}".translate(_ESCAPES)


class Outage:
    """Logs a repeated failure: the first occurrence, then counts, and its end.

    Each at most once in QUIET_MS, even if it sometimes works.
    """

    def __init__(self, log: logging.Logger, failure: str, end: str) -> None:
        """`failure` and `end`: "a turn could not be stored" and "turns are stored again"."""
        self._log = log
        self._failure = failure
        self._end = end
        self._since_ms: int | None = None
        self._logged = False
        self._line = Throttled(log, logging.ERROR, QUIET_MS)

    def failed(self, error: Exception, now_ms: int) -> None:
        """Note a failure. `now_ms` is of the steady clock."""
        if self._since_ms is None:
            self._since_ms = now_ms
        if self._line.write(now_ms, "%s: %s", self._failure, error):
            self._logged = True

    def worked(self, now_ms: int) -> None:
        """Note a success. Logs the end of the outage if its begin was logged."""
        if self._logged and self._since_ms is not None:
            self._log.info("%s, after %.1f s", self._end, (now_ms - self._since_ms) / 1000)
        self._since_ms, self._logged = None, False


def _program() -> str:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name if spec else "__main__"
