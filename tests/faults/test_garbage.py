"""Garbage on the port of the workers changes nothing, costs bounded memory, and keeps nobody from working."""

from __future__ import annotations

import hashlib
import logging
import random
import sys
import time
from pathlib import Path

import zmq

from tests.faults.stage import MIB, Memory, Stage, length_s
from tests.system.session import Program
from zsched.model.limits import FRAME_FROM_WORKER_BYTES_MAX

log = logging.getLogger(__name__)

KINDS = ("bytes", "msgpack", "frames")
# With keys no stranger's message is read at all: this is the port for whoever has one, or has none and needs none.
KEYLESS = ("-worker-security", "none", "-zmq-host", "127.0.0.1")
JOB_S_MAX = 1.0
LONG_FRAMES = 200
LONG_FRAMES_BYTES_MAX = 256 * MIB
# What every heartbeat of the true worker changes.
UNCOUNTED = {("workers", "last_seen_ms")}


def test_garbage_changes_nothing_and_a_real_job_still_ends_within_a_second(tmp_path: Path) -> None:
    """Each of its two halves lasts ZSCHED_FAULT_SECONDS."""
    seconds = length_s(5)
    with Stage(tmp_path, *KEYLESS) as stage:
        stage.worker()
        stage.active()
        for job in stage.scheduler.submit(*["echo"] * 20):
            stage.scheduler.finished(job)
        memory, before = Memory(stage.pids()), checksum(stage)

        for program in talkers(stage, seconds):
            program.process.wait(seconds + 60)
            assert program.exit_code() == 0, program.log()
            log.info("sent: %s", program.log().strip())
        assert checksum(stage) == before
        memory.assert_bounded()

        crowd, times_s = talkers(stage, seconds), []
        while any(program.process.poll() is None for program in crowd):
            began = time.monotonic()
            (job,) = stage.scheduler.submit("echo")
            assert stage.scheduler.finished(job)["status"] == "success"
            times_s.append(time.monotonic() - began)
            # One each second is what is asked for.
            time.sleep(max(0.0, began + 1 - time.monotonic()))
        log.info("%d jobs beside it, from submit to stored result: slowest %.3f s", len(times_s), max(times_s))
        assert max(times_s) < JOB_S_MAX
        memory.assert_bounded()
        assert stage.lost_runs() == 0
        assert stage.number("SELECT count(*) FROM workers") == 1
        stage.close_the_books()


def test_peer_that_floods_the_longest_frames_costs_a_bounded_amount(tmp_path: Path) -> None:
    """Some wait in its queue, as many again are taken in by one turn, and all of that is given back."""
    with Stage(tmp_path, *KEYLESS) as stage:
        stage.worker()
        stage.active()
        for job in stage.scheduler.submit(*["echo"] * 20):
            stage.scheduler.finished(job)
        memory, before = Memory(stage.pids()), checksum(stage)
        frame = bytes(FRAME_FROM_WORKER_BYTES_MAX)
        with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.setsockopt(zmq.LINGER, -1)
            dealer.setsockopt(zmq.SNDHWM, 1)
            dealer.connect(f"tcp://127.0.0.1:{stage.scheduler.zmq_port}")
            for _ in range(LONG_FRAMES):
                dealer.send(frame)
        log.info("%d frames of %d MiB sent", LONG_FRAMES, FRAME_FROM_WORKER_BYTES_MAX // MIB)
        memory.assert_bounded(LONG_FRAMES_BYTES_MAX)
        assert checksum(stage) == before
        stage.close_the_books()


def talkers(stage: Stage, seconds: float) -> list[Program]:
    seed = random.SystemRandom().randrange(1_000_000)
    log.info("seed %d", seed)
    module = [sys.executable, "-m", "tests.faults.garbage"]
    port = str(stage.scheduler.zmq_port)
    return [Program(f"{kind}-{seed}", [*module, kind, port, str(seconds), str(seed)], stage.folder) for kind in KINDS]


def checksum(stage: Stage) -> str:
    """Of all rows of all tables, but for what heartbeats change."""
    total = hashlib.sha256()
    for (table,) in stage.ask("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"):
        columns = [name for (name,) in stage.ask("SELECT name FROM pragma_table_info(?)", table)]
        kept = ", ".join(name for name in columns if (table, name) not in UNCOUNTED)
        rows = stage.ask(f"SELECT {kept} FROM {table} ORDER BY {kept}")
        log.info("%-16s %d rows", table, len(rows))
        total.update(repr((table, kept, rows)).encode())
    return total.hexdigest()
