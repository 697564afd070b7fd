"""Processes that a signal has stopped: the agent's remedy for a stopped guard.

A job of the same user may send SIGSTOP to either process. The agent wakes a stopped guard, and kills one that is
stopped again and again: its jobs end too, and the scheduler finds out which of them did it (dispatcher/losses.py). The
guard replaces a stopped agent, and ends with all its jobs when its agents are stopped again and again (supervisor.py).
Nothing is done about a process that a debugger holds (state t), nor when both are stopped, as by Ctrl-Z: that is an
operator's wish.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from typing import Final

from zsched.model.limits import GUARD_STOPPED_MS, GUARD_WAKES_MAX, GUARD_WAKES_MS

# How often the state of a silent guard is read.
_LOOK_MS: Final = 1_000

log = logging.getLogger(__name__)


class GuardWatchdog:
    """The agent's: `feed` when the guard sent a message, `check` by `deadline_ms` after all its messages were read."""

    def __init__(self, guard: int, mono_ms: int) -> None:
        """`guard` is a process id. Raises OSError when that process is gone."""
        self._guard = guard
        # Another process may get its number later.
        self._handle = os.pidfd_open(guard)
        self._check_at_ms = mono_ms + GUARD_STOPPED_MS
        self._wakes = 0
        self._woken_ms = mono_ms

    def feed(self, mono_ms: int) -> None:
        self._check_at_ms = mono_ms + GUARD_STOPPED_MS

    def deadline_ms(self) -> int:
        return self._check_at_ms

    def check(self, mono_ms: int) -> None:
        """Wake or kill a guard that has been silent for GUARD_STOPPED_MS and is stopped."""
        if mono_ms < self._check_at_ms:
            return
        self._check_at_ms = mono_ms + _LOOK_MS
        if not is_stopped(self._guard):
            return
        if mono_ms - self._woken_ms >= GUARD_WAKES_MS:
            self._wakes = 0
        if self._wakes == GUARD_WAKES_MAX:
            log.error("guard process %d was stopped by a signal again and again: killed with its jobs", self._guard)
            self._send(signal.SIGKILL)
            return
        self._wakes += 1
        self._woken_ms = mono_ms
        self._check_at_ms = mono_ms + GUARD_STOPPED_MS
        log.warning("guard process %d was stopped by a signal: woken by SIGCONT", self._guard)
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def close(self) -> None:
        os.close(self._handle)


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped a process (state T of proc_pid_stat(5)). False when /proc can't be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name before the state is in parentheses and may contain any bytes.
            return file.read().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return False
