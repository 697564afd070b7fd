"""A disk that is full, for a while: refusals, never a false yes, and the results of that time arrive after it."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.stage import TIMEOUT_S, Callers, Stage, length_s

log = logging.getLogger(__name__)

SMALL, LARGE = "size=8m", "size=512m"
CALLERS = 2
SUBMITS_PER_S = 100
# A crowd of these fills the disk with output; one that is at it when the disk is full ends then.
WRITES = "sleep 0.05; head -c 20000 /dev/urandom"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of eight MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts file systems")
    where = tmp_path / "disk"
    where.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", SMALL, "none", where], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield where
    subprocess.run(["umount", where], check=True)


def test_while_the_disk_is_full_nothing_is_acked_that_is_not_stored_and_no_work_is_lost(
    tmp_path: Path, disk: Path
) -> None:
    seconds = length_s(5)
    with Stage(tmp_path, db=disk / "scheduler.db") as stage:
        stage.worker(slots=4)
        stage.active()
        # These run from before it is full until after that.
        early = stage.scheduler.submit(*["sleep 2; echo done"] * 2)
        callers = Callers(stage, CALLERS, SUBMITS_PER_S, seconds, WRITES)
        reads: Counter[int] = Counter()
        free_bytes = 1 << 30
        while not callers.done():
            for path in ("/stats", "/jobs?limit=1", "/workers", "/healthz"):
                reads[stage.scheduler.ask("GET", path)[0]] += 1
            room = os.statvfs(disk)
            free_bytes = min(free_bytes, room.f_bavail * room.f_frsize)
            time.sleep(0.1)
        told = callers.told()
        log.info("at least %d KiB free; reads by code: %s", free_bytes // 1024, dict(reads))
        assert set(told.times_ms) == {"201", "503"}
        assert told.without_retry_after == 0
        assert set(reads) == {200}
        assert stage.scheduler.program is not None
        lines = [line for line in stage.scheduler.program.log().splitlines() if "stored" in line]
        log.info("the scheduler's log: %s", lines)
        assert 1 <= len(lines) <= 2 + seconds / 5

        # For longer than a silent worker is waited for: it is not silent, whatever can't be stored.
        end = time.monotonic() + TIMEOUT_S + 2
        while time.monotonic() < end:
            assert set(stage.scheduler.workers().values()) == {"active"}
            time.sleep(0.2)
        assert stage.lost_runs() == 0
        subprocess.run(["mount", "-o", f"remount,{LARGE}", disk], check=True)
        acked = early + told.jobs
        assert len(acked) == len(set(acked)) == stage.holds(acked)
        stage.all_end(within_s=120)
        log.info("%d acked; %d jobs ended", len(acked), stage.number("SELECT count(*) FROM jobs"))
        assert stage.ask("SELECT status, count(*) FROM jobs GROUP BY status") == [
            ("success", stage.number("SELECT count(*) FROM jobs"))
        ]
        # Each ran once: what ended meanwhile was not done again, its result came.
        assert stage.lost_runs() == 0
        assert stage.number("SELECT count(*) FROM runs") == stage.number("SELECT count(*) FROM jobs")
        lengths = stage.ask("SELECT DISTINCT stdout_total FROM outputs JOIN runs USING (run_id) WHERE stdout_total > 5")
        assert lengths == [(20_000,)]
        assert stage.ask("PRAGMA quick_check") == [("ok",)]
        stage.close_the_books()
