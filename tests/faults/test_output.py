"""A job that writes without end costs time, and no memory."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import sys
import time
from pathlib import Path

from tests.faults.stage import MIB, Memory, Stage
from tests.system.session import until

log = logging.getLogger(__name__)

# Of no length that anything of ours is a multiple of, so that the bytes at an offset tell where they come from.
BLOCK_BYTES = 1_000_003
KEPT_BYTES = 128 * 1024
MEBIBYTES = int(os.environ.get("ZSCHED_FAULT_MIB", "256"))

WRITER = """
import random, sys
block, left = random.Random(1).randbytes({block}), {total}
while left:
    left -= sys.stdout.buffer.write(block[:left])
sys.stderr.buffer.write(bytes(range(256)))
"""


def written(begin: int, end: int) -> bytes:
    """What stands between two offsets of the job's output."""
    block = random.Random(1).randbytes(BLOCK_BYTES)
    assert b"\0" in block
    first = begin - begin % BLOCK_BYTES
    return (block * ((end - first) // BLOCK_BYTES + 1))[begin - first : end - first]


def test_output_of_any_length_and_bytes_is_counted_and_kept_at_both_ends(tmp_path: Path) -> None:
    """ZSCHED_FAULT_MIB says how much, 256 if not said."""
    total = MEBIBYTES * MIB + 17
    script = tmp_path / "writer.py"
    script.write_text(WRITER.format(block=BLOCK_BYTES, total=total), "ascii")
    with Stage(tmp_path) as stage:
        stage.worker()
        stage.active()
        # What a first job makes them load is not this job's weight.
        (small,) = stage.scheduler.submit("head -c 1000000 /dev/zero")
        stage.scheduler.finished(small)
        memory = Memory(stage.pids())

        began = time.monotonic()
        (job,) = stage.scheduler.submit(f"exec {sys.executable} {script}")
        until(lambda: stage.unfinished() == 0, within_s=60 + MEBIBYTES / 10)
        took_s = time.monotonic() - began
        log.info("%d bytes in %.1f s: %.0f MiB/s", total, took_s, total / MIB / took_s)
        memory.assert_bounded()

        run = stage.scheduler.last_run(job)
        assert run["status"] == "success"
        ((head, tail, counted, *errors),) = stage.ask(
            "SELECT stdout_head, stdout_tail, stdout_total, stderr_head, stderr_tail FROM outputs WHERE run_id = ?",
            run["run_id"],
        )
        assert counted == total
        assert b"".join(errors) == bytes(range(256))
        assert len(head) == len(tail) == KEPT_BYTES
        assert sha256(head) == sha256(written(0, KEPT_BYTES))
        assert sha256(tail) == sha256(written(total - KEPT_BYTES, total))
        log.info("sha256 of the head %s, of the tail %s", sha256(head), sha256(tail))
        stage.close_the_books()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
