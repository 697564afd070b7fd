"""The clock by which leases end."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zsched.host.clock import mono_ms

ROOT = Path(__file__).parents[2]
AHEAD_S = 1_000_000


def test_it_counts_milliseconds_and_never_goes_back() -> None:
    before_ms = mono_ms()
    now_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before_ms <= now_s * 1_000 <= mono_ms() + 1


def test_it_is_the_one_that_counts_the_time_of_a_suspended_host() -> None:
    """A time namespace moves that clock alone, as a suspend does."""
    moved = [shutil.which("unshare") or "unshare", "--time", f"--boottime={AHEAD_S}", "--fork"]
    if subprocess.run([*moved, "true"], capture_output=True).returncode != 0:
        pytest.skip("no time namespace can be had here")
    code = "import time, zsched.host.clock as c; print(c.mono_ms() - int(time.monotonic() * 1000))"
    ahead = subprocess.run([*moved, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(ahead.stdout) > (AHEAD_S - 1) * 1_000
