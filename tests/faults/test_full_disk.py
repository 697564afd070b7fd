"""A disk that is full, for a while: refusals, never a false yes, and the results of that time arrive after it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.disks import Full, small_disk
from tests.faults.stage import TIMEOUT_S, Callers, Stage, length_s
from tests.system.session import until

log = logging.getLogger(__name__)

SMALL, LARGE = "size=8m", "size=512m"
CALLERS = 2
SUBMITS_PER_S = 100
# A crowd of these fills the disk with output; one that is at it when the disk is full ends then.
WRITES = "sleep 0.05; head -c 20000 /dev/urandom"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of eight MiB."""
    where = tmp_path / "disk"
    with small_disk(where, SMALL):
        yield where


def test_full_disk_acks_only_what_is_stored_and_loses_no_work(tmp_path: Path, disk: Path) -> None:
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


# --- a disk that is full to the last byte ------------------------------------------------------------------------


def refused(stage: Stage) -> bool:
    """Whether a submit can't be stored; small ones may fit into what the WAL has already."""
    return stage.scheduler.ask("POST", "/jobs", {"name": "j", "command": "true"})[0] == 503


def test_worker_that_reboots_during_a_full_disk_gets_its_name_afterwards(tmp_path: Path, disk: Path) -> None:
    with Stage(tmp_path, db=disk / "scheduler.db") as stage:
        dead = stage.worker()
        stage.active()
        (job,) = stage.scheduler.submit("sleep 3")
        until(lambda: "start_time" in stage.scheduler.last_run(job))
        full = Full(disk)
        full.fill()
        until(lambda: refused(stage))
        agent = dead.agent()
        assert agent is not None
        os.kill(agent, signal.SIGKILL)
        dead.send(signal.SIGKILL)
        dead.exit_code()
        killed_s = time.monotonic()
        # The same worker on a host that has been made anew: its state from a copy, its lock another file.
        shutil.copytree(tmp_path / "w1", tmp_path / "again", ignore=shutil.ignore_patterns("*.sock"))
        again = stage.worker(host="again")
        while time.monotonic() < killed_s + TIMEOUT_S + 3:
            assert refused(stage)
            assert not again.ended(), again.log()
            time.sleep(0.3)
        full.empty()
        emptied_s = time.monotonic()
        until(lambda: stage.number("SELECT count(*) FROM events WHERE became = 'inactive'") == 1)
        stage.active()
        log.info("registered %.1f s after there was room", time.monotonic() - emptied_s)
        stage.all_end(within_s=30)
        run = stage.scheduler.last_run(job)
        assert (run["status"], run["attempt"]) == ("success", 2)
        stage.close_the_books()


def test_while_the_disk_is_full_no_lease_ends(tmp_path: Path, disk: Path) -> None:
    seconds = length_s(8)
    timeout_s = float(os.environ.get("ZSCHED_FAULT_TIMEOUT", TIMEOUT_S))
    with Stage(tmp_path, db=disk / "scheduler.db", timeout_s=timeout_s) as stage:
        for name in ("w1", "w2"):
            stage.worker(name, slots=3)
        stage.active()
        # Some end while nothing can be stored, and keep turns failing.
        jobs = stage.scheduler.submit(*["sleep 600"] * 3, on_disconnect="stop")
        short = stage.scheduler.submit("sleep 2", on_disconnect="stop")
        for job in (*jobs, *short):
            until(lambda job=job: "start_time" in stage.scheduler.last_run(job))  # type: ignore[misc]
        full = Full(disk)
        full.fill()
        until(lambda: refused(stage))
        end_s = time.monotonic() + seconds
        submits = Counter[bool]()
        while time.monotonic() < end_s:
            submits[refused(stage)] += 1
            time.sleep(0.2)
        log.info(
            "full for %.0f s with L = %.0f s; submits by whether they were refused: %s", seconds, timeout_s, submits
        )
        assert submits[True] > submits[False]
        full.empty()
        until(lambda: not refused(stage))
        stage.scheduler.finished(short[0])
        assert stage.ask("SELECT job_id, count(*) FROM runs WHERE job_id <= 4 GROUP BY job_id") == [
            (job, 1) for job in (*jobs, *short)
        ]
        assert stage.number("SELECT count(*) FROM runs WHERE reason IN ('lease_stop', 'worker_lost')") == 0
        for job in jobs:
            assert stage.scheduler.last_run(job)["status"] == "running"
            stage.scheduler.post(f"/jobs/{job}/cancel")
        stage.all_end(within_s=60)
        stage.close_the_books()
