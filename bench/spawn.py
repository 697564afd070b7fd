"""How fast the guard starts and ends jobs, without agent, network and scheduler, beside xargs in the same minute.

    python -m bench.spawn [JOBS] [SLOTS]

Runs JOBS (10,000) times the command `true`, SLOTS (2) at a time, with all that the guard does for a run: own session,
two pipes, capture, group kill, stray search, the result in a file. Ratios hold on a noisy machine, absolute numbers
don't.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.machine import facts
from zsched.host.notify import Notify
from zsched.protocol import RunOrder
from zsched.worker.guard import timeslice
from zsched.worker.guard.life import FINISHED
from zsched.worker.guard.shell import Shell
from zsched.worker.guard.spool import open_spool
from zsched.worker.guard.system import System
from zsched.worker.messages import Forget, Hello, Start

IDENTITY = Hello("bench", "", 1, 5_000, 1_000, "info", "", "", (0, 0), "", "bench")


class Lonely(System):
    """A host on which no agent can start."""

    def spawn_agent(self) -> int:
        raise OSError(0, "this is a benchmark")


class Loop:
    """The guard's turn. The benchmark is the agent: it sends orders, and acks results at once."""

    def __init__(self, slots: int, folder: Path) -> None:
        timeslice.shorten()
        host = Lonely("bench", "bench")
        self._shell = Shell(msgspec.structs.replace(IDENTITY, slots=slots), 0, host, open_spool(folder, 0), Notify({}))
        self._mono_ms = host.mono_ms
        self._last = 0

    def run(self, jobs: int) -> None:
        core = self._shell.core
        end = self._last + jobs
        waiting: list[int] = []
        while self._last < end or waiting:
            new = range(self._last + 1, min(end, self._last + 2 * core.slots - len(waiting)) + 1)
            if new:
                orders = tuple(RunOrder(number, number, 0, 1, "true", 10_000, 262_144) for number in new)
                core.on_message(Start(orders, self._mono_ms()), self._mono_ms())
                waiting += new
                self._last = new[-1]
            self._shell.turn()
            over = tuple(
                number for number in waiting if (run := core.find("", number)) is None or run.phase in FINISHED
            )
            core.on_message(Forget(over), self._mono_ms())
            waiting = [number for number in waiting if number not in over]


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
    with tempfile.TemporaryDirectory() as folder:
        loop = Loop(slots, Path(folder))
        loop.run(jobs // 10)
        before = timed("xargs", jobs, lambda: subprocess.run(peer, shell=True, check=True))
        guard = timed("guard", jobs, lambda: loop.run(jobs))
        after = timed("xargs", jobs, lambda: subprocess.run(peer, shell=True, check=True))
    print(f"ratio    {guard / ((before + after) / 2):7.2f}")


if __name__ == "__main__":
    main()
