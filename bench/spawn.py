"""How fast the guard starts and ends jobs, without agent, network and scheduler, beside xargs in the same minute.

    python -m bench.spawn [JOBS] [SLOTS]

Runs JOBS (10,000) times the command `true`, SLOTS (2) at a time, with all that the guard does for a run: own session,
two pipes, capture, group kill, stray search. Ratios hold on a noisy machine, absolute numbers don't.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.machine import facts
from zsched.host.prctl import become_subreaper
from zsched.protocol import RunOrder
from zsched.worker.guard import timeslice
from zsched.worker.guard.runs import Runs, wall_ms
from zsched.worker.guard.signals import Signals
from zsched.worker.process.orphans import Orphans
from zsched.worker.process.spawn import Spawner


class Loop:
    """The guard's turn, less the agent."""

    def __init__(self) -> None:
        become_subreaper()
        timeslice.shorten()
        self._signals = Signals()
        self._epoll = select.epoll()
        self._epoll.register(self._signals.fd, select.EPOLLIN)
        self._runs = Runs(Spawner("bench", "bench"), Orphans("bench"), self._epoll, wall_ms)

    def run(self, jobs: int, slots: int) -> None:
        started = ended = 0
        while ended < jobs:
            now_ms = time.monotonic_ns() // 1_000_000
            while started < jobs and len(self._runs) < slots:
                started += 1
                self._runs.start(RunOrder(started, started, 0, 1, "true", 10_000, 262_144), now_ms)
            for fd, _ in self._epoll.poll():
                if not self._runs.on_readable(fd):
                    self._signals.take()
                    self._runs.reap(now_ms)
            if self._runs.maybe_over:
                self._runs.reap(now_ms)
            ended += len(self._runs.take().results)


def timed(label: str, jobs: int, work: Callable[[], object]) -> float:
    """Run work(); print and return jobs per second."""
    busy, began = machine_cpu_s(), time.monotonic()
    work()
    took_s, busy_s = time.monotonic() - began, machine_cpu_s() - busy
    print(f"{label:8} {jobs / took_s:7.0f} jobs/s  {busy_s / jobs * 1e6:5.0f} us CPU a job (whole machine)")
    return jobs / took_s


def machine_cpu_s() -> float:
    """Seconds of CPU that the whole machine has spent: user, nice, system, interrupts."""
    fields = [int(field) for field in Path("/proc/stat").read_text("ascii").split("\n")[0].split()[1:]]
    return (sum(fields[0:3]) + sum(fields[5:7])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    slots = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    peer = f"seq {jobs} | xargs -P{slots} -I{{}} sh -c true"
    print(f"{facts()}; {jobs} jobs, {slots} slots")
    loop = Loop()
    loop.run(jobs // 10, slots)
    before = timed("xargs", jobs, lambda: subprocess.run(peer, shell=True, check=True))
    guard = timed("guard", jobs, lambda: loop.run(jobs, slots))
    after = timed("xargs", jobs, lambda: subprocess.run(peer, shell=True, check=True))
    print(f"ratio    {guard / ((before + after) / 2):7.2f}")


if __name__ == "__main__":
    main()
