"""What an agent does about a guard that a signal has stopped. The guard is any process here; time is given."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from zsched.model.limits import GUARD_STOPPED_MS, GUARD_WAKES_MAX, GUARD_WAKES_MS
from zsched.worker.stopped import GuardWatchdog, is_stopped
from zsched.worker.watchdog import Watchdog

# linux/ptrace.h
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207


class Stoppable:
    """A process that does nothing, and its watchdog since 0 ms."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(["sleep", "60"])
        self.pid = self.process.pid
        self.watchdog = GuardWatchdog(self.pid, 0)

    def stop(self) -> None:
        """Returns when it has stopped."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def goes_on(self) -> bool:
        """Whether it was woken since the last call."""
        return os.waitid(os.P_PID, self.pid, os.WCONTINUED | os.WNOHANG) is not None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.watchdog.close()


@pytest.fixture
def guard() -> Iterator[Stoppable]:
    opened = Stoppable()
    yield opened
    opened.close()


def test_stopped_guard_is_woken_after_its_time(guard: Stoppable) -> None:
    guard.stop()
    assert is_stopped(guard.pid)
    guard.watchdog.check(GUARD_STOPPED_MS - 1)
    assert not guard.goes_on()
    guard.watchdog.check(GUARD_STOPPED_MS)
    assert guard.goes_on()
    assert not is_stopped(guard.pid)


def test_any_word_gives_the_guard_its_time_again(guard: Stoppable) -> None:
    guard.stop()
    guard.watchdog.feed(1_000)
    guard.watchdog.check(GUARD_STOPPED_MS)
    assert not guard.goes_on()
    assert guard.watchdog.deadline_ms() == GUARD_STOPPED_MS + 1_000


def test_silent_guard_that_is_not_stopped_is_left_alone(guard: Stoppable) -> None:
    for now_ms in range(0, 100 * GUARD_STOPPED_MS, 1_000):
        guard.watchdog.check(now_ms)
    assert not guard.goes_on()
    assert guard.process.poll() is None


def test_guard_that_is_stopped_again_and_again_is_killed(guard: Stoppable) -> None:
    now_ms = 0
    for _ in range(GUARD_WAKES_MAX):
        guard.stop()
        now_ms += GUARD_STOPPED_MS
        guard.watchdog.check(now_ms)
        assert guard.goes_on()
        guard.watchdog.feed(now_ms)
    guard.stop()
    guard.watchdog.check(now_ms + GUARD_STOPPED_MS)
    assert guard.process.wait(10) == -signal.SIGKILL
    # It is gone: nothing else gets a signal.
    guard.watchdog.check(now_ms + 2 * GUARD_STOPPED_MS)


def test_guard_that_is_stopped_now_and_then_is_never_killed(guard: Stoppable) -> None:
    for stop in range(4 * GUARD_WAKES_MAX):
        guard.stop()
        guard.watchdog.check(stop * GUARD_WAKES_MS + GUARD_STOPPED_MS)
        assert guard.goes_on()


def test_guard_that_a_debugger_holds_is_left_alone(guard: Stoppable) -> None:
    """gdb and strace stop a process in this way. The kernel tells its state as t."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    if ptrace(PTRACE_SEIZE, guard.pid, None, None) or ptrace(PTRACE_INTERRUPT, guard.pid, None, None):
        pytest.skip(f"no ptrace here: {os.strerror(ctypes.get_errno())}")
    os.waitid(os.P_PID, guard.pid, os.WSTOPPED | os.WNOWAIT)
    guard.watchdog.check(GUARD_STOPPED_MS)
    assert Path(f"/proc/{guard.pid}/stat").read_text("utf-8").split()[2] == "t"
    assert not is_stopped(guard.pid)


def test_stopped_state_is_read_whatever_the_name_is() -> None:
    """The name of a process stands before its state, and may look like one."""
    script = "printf ') T' >/proc/$$/comm; kill -STOP $$; read _"
    process = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    assert is_stopped(process.pid)
    process.send_signal(signal.SIGCONT)
    os.waitid(os.P_PID, process.pid, os.WCONTINUED)
    assert not is_stopped(process.pid)
    process.communicate(b"\n")
    assert not is_stopped(process.pid)


# --- silence ---------------------------------------------------------------------------------------------------------


def test_watchdog_expires_after_the_announced_silence() -> None:
    watchdog = Watchdog(30_000, 1_000)
    assert not watchdog.expired(30_999)
    watchdog.feed(5_000)
    assert not watchdog.expired(31_000)
    assert watchdog.deadline_ms() == 36_000
    assert not watchdog.expired(35_999)
    assert watchdog.expired(36_000)


def test_watchdog_is_fed_by_any_message() -> None:
    watchdog = Watchdog(5_000, 0)
    for now_ms in range(1_000, 20_000, 1_000):
        watchdog.feed()
        assert not watchdog.expired(now_ms)
    assert watchdog.expired(24_000)


def test_watchdog_waits_again_after_its_own_stall() -> None:
    watchdog = Watchdog(5_000, 0)
    assert not watchdog.expired(6_001)
    assert not watchdog.expired(11_000)
    assert watchdog.expired(11_001)
