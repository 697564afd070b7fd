"""A scheduler and its workers, each on a host of its own, and what can be done to them. Linux, as root.

`tend` is what a service manager does: what has ended comes back a second later. Whoever ends a process on purpose says
when it comes back.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import apsw

from tests.faults.stage import marked
from tests.system.hosts import ZMQ_PORT, FarScheduler, Hosts, access_file
from tests.system.process import WorkerProcess, alive, children, rss_bytes
from tests.system.session import until

log = logging.getLogger(__name__)

# As in conf/systemd.
RESTART_S: Final = 1.0
END_S: Final = 40.0
# What a full disk leaves room for before it is full.
WORKER_DISK: Final = "size=32m,mode=0700"
SCHEDULER_DISK: Final = "size=512m,mode=0700"

# Both directions, or what comes in, or what goes out.
CHAINS: Final = {
    "in": 'chain in { type filter hook input priority 0; policy drop; iifname "lo" accept; }',
    "out": 'chain out { type filter hook output priority 0; policy drop; oifname "lo" accept; }',
}


class MissingError(Exception):
    """This machine lacks a program, or allows something not; a sentence for people."""


def boottime_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def faketime() -> Path | None:
    """libfaketime's library, None where it is not installed."""
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


@dataclass(frozen=True, slots=True)
class Weight:
    """What a process takes."""

    rss_bytes: int
    descriptors: int


class Cluster:
    """Leaving it kills what is left."""

    def __init__(
        self,
        folder: Path,
        workers: int = 3,
        slots: int = 6,
        timeout_s: float = 5.0,
        *,
        small_disks: bool = False,
        own_clocks: bool = False,
    ) -> None:
        """`small_disks`: file systems of their own, which can be filled. `own_clocks`: wall clocks that can jump."""
        if os.geteuid() != 0 or any(shutil.which(name) is None for name in ("ip", "nft")):
            raise MissingError("network namespaces need root, ip(8) and nft(8)")
        if own_clocks and faketime() is None:
            raise MissingError("wall clocks of their own need libfaketime")
        self.folder, self.timeout_s, self.slots = folder, timeout_s, slots
        self.names = [f"w{number}" for number in range(1, workers + 1)]
        self._own_clocks = own_clocks
        self._held = ExitStack()
        # When each process that has ended comes back, by name; and why one is not to be tended.
        self._back_s: dict[str, float] = {}
        self._filled: set[str] = set()
        self.deaths: dict[str, int] = {}
        self.workers: dict[str, WorkerProcess] = {}
        try:
            # For benchmarks of networks, so nobody's (RFC 2544).
            links = {name: (f"198.18.{number}.1", f"198.18.{number}.2") for number, name in enumerate(self.names)}
            self.hosts = Hosts(links)
            self._held.callback(self.hosts.close)
            self.disks = {name: self._disk(name, small_disks) for name in ("scheduler", *self.names)}
            self._held.callback(self._sweep_all)
            self.db = self.disks["scheduler"] / "scheduler.db"
            flags = ("-db", str(self.db), "-worker-timeout", f"{timeout_s:g}s")
            self.scheduler = FarScheduler(folder, self.hosts, *flags, under=self._clock("scheduler"))
            self._held.enter_context(self.scheduler)
            self._access = {name: access_file(self.scheduler, self.hosts, name, name) for name in self.names}
            for name in self.names:
                self.start(name)
            until(lambda: self.scheduler.workers() == dict.fromkeys(self.names, "active"))
        except BaseException:
            self._held.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name, worker in self.workers.items():
            for pid in (worker.pid, worker.agent()):
                self.signal(pid, signal.SIGCONT)
            self.uncut(name)
        self._held.close()

    def _disk(self, name: str, small: bool) -> Path:
        """The folder that a program keeps its state in."""
        where = self.folder / name / ("disk" if name == "scheduler" else "state")
        where.mkdir(parents=True, mode=0o700)
        if small:
            size = SCHEDULER_DISK if name == "scheduler" else WORKER_DISK
            mounted = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", size, "none", where], capture_output=True, text=True
            )
            if mounted.returncode != 0:
                raise MissingError(f"no file system can be mounted here: {mounted.stderr.strip()}")
            self._held.callback(lambda: subprocess.run(["umount", "-l", where], check=True))
        return where

    # --- clocks ------------------------------------------------------------------------------------------------------

    def _clock(self, name: str) -> Sequence[str]:
        if not self._own_clocks:
            return ()
        self.set_clock(name, 0)
        library, file = faketime(), self._clock_file(name)
        told = (f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={file}", "FAKETIME_CACHE_DURATION=1")
        return ("env", *told, "DONT_FAKE_MONOTONIC=1")

    def _clock_file(self, name: str) -> Path:
        return self.folder / f"{name}.clock"

    def set_clock(self, name: str, ahead_s: int) -> None:
        """Let a program's wall clock jump, to so far from the true time."""
        fresh = self._clock_file(name).with_suffix(".new")
        fresh.write_text(f"{ahead_s:+d}", "ascii")
        fresh.replace(self._clock_file(name))

    # --- processes ---------------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start what is not there, and wait for nothing."""
        self._back_s.pop(name, None)
        if name == "scheduler":
            self.scheduler.launch()
            return
        worker = WorkerProcess(
            f"tcp://{self.hosts.links[name][0]}:{ZMQ_PORT}",
            self.folder / name,
            self.slots,
            under=(*self.hosts.at(name), *self._clock(name)),
            id=name,
            access=str(self._access[name]),
            heartbeat_interval=f"{max(0.2, self.timeout_s / 5):g}s",
        )
        self.workers[name] = self._held.enter_context(worker)

    def kill(self, name: str, back_after_s: float = RESTART_S) -> None:
        """kill -9 of a scheduler or a guard, and wait until it is gone."""
        self._back_s[name] = time.monotonic() + back_after_s
        if name == "scheduler":
            self.scheduler.kill()
            return
        worker = self.workers[name]
        worker.send(signal.SIGKILL)
        worker.exit_code()

    def kill_worker(self, name: str, back_after_s: float = RESTART_S) -> None:
        """kill -9 of guard and agent; what they leave is ended, as a service manager does."""
        self.signal(self.workers[name].agent(), signal.SIGKILL)
        self.kill(name, back_after_s)
        self.sweep(name)

    def tend(self) -> None:
        """Start again what has ended, when it is time."""
        now_s = time.monotonic()
        for name in ("scheduler", *self.names):
            if self._ended(name) and name not in self._back_s:
                self.deaths[name] = self.deaths.get(name, 0) + 1
                self._back_s[name] = now_s + RESTART_S
            if now_s >= self._back_s.get(name, float("inf")):
                self.start(name)

    @property
    def whole(self) -> bool:
        """Whether nobody has yet to come back."""
        return not self._back_s and not any(self._ended(name) for name in ("scheduler", *self.names))

    def _ended(self, name: str) -> bool:
        if name == "scheduler":
            assert self.scheduler.program is not None
            return self.scheduler.program.process.poll() is not None
        return self.workers[name].ended()

    def pids(self) -> dict[str, int]:
        """All processes of ours that live, by what they are."""
        assert self.scheduler.program is not None
        found = {} if self._ended("scheduler") else {"scheduler": self.scheduler.program.pid}
        for name, worker in self.workers.items():
            if not worker.ended():
                found[f"guard {name}"] = worker.pid
                agent = worker.agent()
                if agent is not None:
                    found[f"agent {name}"] = agent
        return found

    @staticmethod
    def signal(pid: int | None, number: signal.Signals) -> None:
        """To a process that may be gone."""
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def sweep(self, name: str) -> None:
        """Kill what a worker that has ended left of its jobs, as a service manager does."""
        for pid in self.job_processes(name):
            self.signal(pid, signal.SIGKILL)

    def _sweep_all(self) -> None:
        for name in self.workers:
            with suppress(OSError):
                self.sweep(name)

    def job_processes(self, name: str) -> dict[int, int]:
        """The processes of a worker's jobs: the run of each, by process."""
        mark = b"ZSCHED_SPOOL=" + (self.disks[name] / "spool_id").read_bytes().strip()
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                variables = (process / "environ").read_bytes().split(b"\0")
                run = next((one for one in variables if one.startswith(b"ZSCHED_RUN_ID=")), None)
                if mark in variables and run is not None:
                    found[int(process.name)] = int(run.partition(b"=")[2])
        return found

    # --- the network -------------------------------------------------------------------------------------------------

    def cut(self, host: str, ways: Sequence[str] = ("in", "out")) -> None:
        """Drop all that comes to a host, or goes from it, or both."""
        rules = "\n".join(("table inet cut {", *(CHAINS[way] for way in ways), "}"))
        subprocess.run([*self.hosts.at(host), "nft", "-f", "-"], input=rules, text=True, check=True, timeout=20)

    def uncut(self, host: str) -> None:
        subprocess.run([*self.hosts.at(host), "nft", "flush", "ruleset"], check=True, timeout=20)

    # --- disks -------------------------------------------------------------------------------------------------------

    def fill(self, name: str) -> None:
        """Take all room that is left."""
        with suppress(OSError), (self.disks[name] / "balloon").open("wb", buffering=0) as balloon:
            for size in (1 << 20, 1 << 12):
                with suppress(OSError):
                    while True:
                        balloon.write(bytes(size))

    def empty(self, name: str) -> None:
        (self.disks[name] / "balloon").unlink(missing_ok=True)

    # --- looking -----------------------------------------------------------------------------------------------------

    def ask(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the database, read past the scheduler."""
        with closing(apsw.Connection(str(self.db), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            connection.set_busy_timeout(10_000)
            return list(connection.execute(statement, values))

    def weights(self) -> dict[str, Weight]:
        found = {}
        for name, pid in self.pids().items():
            with suppress(OSError):
                found[name] = Weight(rss_bytes(pid), len(os.listdir(f"/proc/{pid}/fd")))
        return found

    def files(self) -> int:
        """How many files our programs keep."""
        return sum(len(found) for where in self.disks.values() for _, _, found in os.walk(where))

    def zombies(self) -> list[int]:
        """Children of ours that nobody reaps, within a second."""

        def dead() -> set[int]:
            return {child for pid in self.pids().values() for child in children(pid) if not alive(child)}

        first = dead()
        if first:
            time.sleep(1)
        return sorted(first & dead()) if first else []

    def end(self) -> list[str]:
        """End all as an administrator does. Returns what did not end as it should."""
        wrong = []
        for worker in self.workers.values():
            worker.send(signal.SIGTERM)
        for name, worker in self.workers.items():
            code = _exit_code(worker.exit_code)
            if code != 0:
                wrong.append(f"worker {name} ended with {code}")
        assert self.scheduler.program is not None
        self.scheduler.program.terminate()
        code = _exit_code(self.scheduler.program.exit_code)
        if code != 0:
            wrong.append(f"the scheduler ended with {code}")
        return wrong

    def left(self) -> list[tuple[int, str]]:
        """Processes that should have ended with the others."""
        found = (re.match(r"(\d+): (.*)", one) for one in marked(self.folder))
        return [(int(one[1]), one[2]) for one in found if one is not None]


def _exit_code(wait: Callable[[], int]) -> int | None:
    with suppress(subprocess.TimeoutExpired):
        return wait()
    return None
