"""Where the faults happen: a scheduler, its workers, what they weigh, and what must hold when all is over."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, Self

import apsw
import pytest

from tests.system.process import WorkerProcess, peak_bytes, rss_bytes
from tests.system.session import Program, Scheduler, environment, until

log = logging.getLogger(__name__)

MIB = 1024 * 1024
GROWTH_BYTES_MAX = 10 * MIB

LENGTH_GIVEN = "ZSCHED_FAULT_SECONDS" in os.environ

HEARTBEAT_S = 1.0
TIMEOUT_S = 5.0

# A job that does what most jobs of a crowd do.
SHORT = "true"


def length_s(short: float) -> float:
    """How long a fault lasts: ZSCHED_FAULT_SECONDS, or `short`, with which the whole test takes some ten seconds."""
    return float(os.environ.get("ZSCHED_FAULT_SECONDS", short))


class Stage:
    """A scheduler and its workers. Leaving it kills what is left; `close_the_books` is the last word of every test."""

    def __init__(self, folder: Path, *flags: str, db: Path | None = None, timeout_s: float = TIMEOUT_S) -> None:
        """`db`: where the database is, if not in the folder. `timeout_s`: the worker timeout."""
        self.folder = folder
        self.db = db or folder / "scheduler.db"
        self._held = ExitStack()
        flags = ("-db", str(self.db), "-worker-timeout", f"{timeout_s:.0f}s", *flags)
        self.scheduler = self._held.enter_context(Scheduler(folder, *flags))
        self.workers: dict[str, WorkerProcess] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def worker(self, name: str = "w1", slots: int = 2) -> WorkerProcess:
        """Start a worker, also in place of one of the same name that has ended; returns at once."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        worker = WorkerProcess(self.scheduler.url, folder, slots, id=name, heartbeat_interval=f"{HEARTBEAT_S:.0f}s")
        self.workers[name] = self._held.enter_context(worker)
        return worker

    def active(self) -> None:
        """Wait until each worker is."""
        until(lambda: self.scheduler.workers() == dict.fromkeys(self.workers, "active"))

    def pids(self) -> dict[str, int]:
        """All processes of ours, by what they are."""
        program = self.scheduler.program
        assert program is not None
        found = {"scheduler": program.pid}
        for name, worker in self.workers.items():
            agent = worker.agent()
            assert agent is not None, worker.log()
            found |= {f"guard {name}": worker.pid, f"agent {name}": agent}
        return found

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the database, read past the scheduler."""
        with closing(apsw.Connection(str(self.db), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            connection.set_busy_timeout(10_000)
            return list(connection.execute(statement, values))

    def number(self, statement: str, *values: object) -> int:
        """The one number that a statement gives."""
        return int(self.ask(statement, *values)[0][0])

    def lost_runs(self) -> int:
        """Runs that the loss of a worker ended."""
        return self.number("SELECT count(*) FROM runs WHERE reason = 'worker_lost'")

    def unfinished(self) -> int:
        tasks = self.scheduler.get("/stats")["tasks"]
        return int(tasks["pending"]) + int(tasks["running"])

    def all_end(self, within_s: float) -> None:
        until(lambda: self.unfinished() == 0, within_s)

    def holds(self, jobs: list[int]) -> int:
        """How many of these jobs the database has."""
        return self.number(
            "SELECT count(*) FROM jobs WHERE job_id IN (SELECT value FROM json_each(?))", json.dumps(jobs)
        )

    def close_the_books(self) -> None:
        """The database agrees with itself, all end cleanly when asked, and no process is left."""
        words = [sys.executable, "-m", "zsched.commands.zsched", "db", "check", "--db", str(self.db)]
        checked = subprocess.run(words, env=environment(self.folder), capture_output=True, text=True, timeout=60)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        log.info("zsched db check: %s", (checked.stdout + checked.stderr).strip())
        for worker in self.workers.values():
            worker.send(signal.SIGTERM)
            assert worker.exit_code() == 0, worker.log()
        assert self.scheduler.program is not None
        self.scheduler.program.terminate()
        assert self.scheduler.program.exit_code() == 0, self.scheduler.program.log()
        assert marked(self.folder) == []


def marked(folder: Path) -> list[str]:
    """Processes that have something of this folder in their arguments, or were started by a worker whose state is in
    it.
    """
    marks = [str(folder).encode()] + [mark.read_bytes().strip() for mark in folder.glob("*/state/spool_id")]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        with suppress(OSError):
            arguments, variables = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
            told = arguments + b"\0".join(one for one in variables.split(b"\0") if one.startswith(b"ZSCHED_SPOOL="))
            if any(mark in told for mark in marks):
                found.append(f"{process.name}: {arguments!r}")
    return found


class Memory:
    """What some processes weigh from now on. The kernel keeps the peak, so none is missed (proc(5), clear_refs)."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._before = {name: rss_bytes(pid) for name, pid in pids.items()}
        for pid in pids.values():
            try:
                Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")
            except PermissionError:
                pytest.skip("only root can weigh a worker, which is closed to others")

    def growth(self) -> dict[str, int]:
        """Bytes from the beginning to the peak since then, by process; logged, too."""
        found = {}
        for name, pid in self._pids.items():
            found[name] = max(0, peak_bytes(pid) - self._before[name])
            log.info("%s: %.1f MiB, at most %.1f MiB more", name, self._before[name] / MIB, found[name] / MIB)
        return found

    def assert_bounded(self, bytes_max: int = GROWTH_BYTES_MAX) -> None:
        grown = self.growth()
        assert {name: grew for name, grew in grown.items() if grew > bytes_max} == {}


class Callers:
    """Processes that submit jobs at a rate that nobody's slowness lowers (submits.py)."""

    def __init__(self, stage: Stage, count: int, per_s: float, seconds: float, command: str = SHORT) -> None:
        module = [sys.executable, "-m", "tests.faults.submits"]
        words = [*module, str(stage.scheduler.port), str(per_s / count), str(seconds), command]
        self._seconds = seconds
        self._began = time.monotonic()
        self._programs = [Program(f"caller-{number}", words, stage.folder) for number in range(count)]

    def done(self) -> bool:
        return all(program.process.poll() is not None for program in self._programs)

    def told(self) -> Told:
        """What they were told, when all have ended."""
        together = Told()
        for program in self._programs:
            program.process.wait(self._seconds + 60)
            assert program.exit_code() == 0, program.log()
            one = json.loads(program.log().splitlines()[-1])
            for code, times in one["times_ms"].items():
                together.times_ms.setdefault(code, []).extend(times)
            together.jobs += one["jobs"]
            together.unsent += one["unsent"]
            together.without_retry_after += one["without_retry_after"]
        for code, times in sorted(together.times_ms.items()):
            times.sort()
            log.info("%7d times %s: %s", len(times), code, spread(times))
        log.info("%7d not sent, for want of a free connection", together.unsent)
        return together


class Told:
    """Answers: the milliseconds of each by its code, in order; the jobs acked; refusals that say no Retry-After."""

    def __init__(self) -> None:
        self.times_ms: dict[str, list[float]] = {}
        self.jobs: list[int] = []
        self.unsent = 0
        self.without_retry_after = 0


def spread(times_ms: list[float]) -> str:
    """Of times in order."""
    p50, p99 = (times_ms[int(len(times_ms) * share)] for share in (0.5, 0.99))
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, slowest {times_ms[-1]:.1f} ms"
