"""The guard's signals on a pipe, for its epoll."""

from __future__ import annotations

import contextlib
import os
import signal


class Signals:
    """Signals as bytes on a pipe. The handlers do nothing: Python's C handler writes the byte.

    `terminal`: whether the process has a controlling terminal, which sends SIGHUP when it closes.
    """

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # Under nohup SIGHUP is ignored; that must stay so.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda _number, _frame: None)
        self.terminal = _has_terminal()

    def take(self) -> list[int]:
        """The signals since the last call, in order."""
        with contextlib.suppress(BlockingIOError):
            return list(os.read(self.fd, 4096))
        return []


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
