"""Callers that wait for jobs, beside short calls: how many are held, and what they cost.

Usage: python -m bench.waiters [CALLERS]      (50 callers, if not said)

Each caller waits for a job of its own that never starts. One that is answered before its time asks again a second
later. Meanwhile another connection runs jobs as bench.latency does: each turn is a reason to wake waiting callers.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from bench.latency import BODY, WARM_UP_JOBS, show
from bench.machine import facts
from zsched.client.cluster import Cluster, private

NEVER = json.dumps({"name": "bench", "command": "true", "schedule": "0 0 29 2 *"})
JOBS = 1_000
HELD_S = 15.0


class Waiting:
    """A caller that waits for a job for as long as the measurement takes."""

    def __init__(self, address: str) -> None:
        self._caller = http.client.HTTPConnection(address)
        self._caller.request("POST", "/jobs", NEVER)
        self._job = json.load(self._caller.getresponse())["id"]
        self.asked = 0
        self.held = True
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        while not self._done.is_set():
            self.asked += 1
            began = time.monotonic()
            self._caller.request("GET", f"/jobs/{self._job}?wait=20s")
            self._caller.getresponse().read()
            if time.monotonic() - began < HELD_S and not self._done.is_set():
                self.held = False
                self._done.wait(1)

    def end(self) -> None:
        self._done.set()


def run_job(caller: http.client.HTTPConnection) -> tuple[float, float]:
    """Seconds until the 201 of a job, and until its result was there. It asks again when it is not held."""
    began = time.monotonic()
    caller.request("POST", "/jobs", BODY)
    job = json.load(caller.getresponse())["id"]
    acked = time.monotonic()
    status = "pending"
    while status != "success":
        caller.request("GET", f"/jobs/{job}?wait=20s")
        status = json.load(caller.getresponse())["status"]
    return acked - began, time.monotonic() - began


def scheduler_pid() -> int:
    """The child that is the scheduler."""
    for child in Path("/proc/self/task").glob("*/children"):
        for pid in child.read_text().split():
            if b"scheduler" in Path("/proc", pid, "cmdline").read_bytes():
                return int(pid)
    raise AssertionError("the scheduler does not run")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    callers = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    print(facts())
    with ExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory(prefix="zsched-bench-"))
        plan = private(Path(folder), 1, 2)
        held.enter_context(Cluster(plan)).start()
        address = urlsplit(plan.url).netloc
        pid = scheduler_pid()
        caller = http.client.HTTPConnection(address)
        for _ in range(WARM_UP_JOBS):
            run_job(caller)
        for count in (0, callers):
            waiting = [Waiting(address) for _ in range(count)]
            time.sleep(1)
            began, began_cpu = time.monotonic(), cpu_s(pid)
            times = [run_job(caller) for _ in range(JOBS)]
            took_s, used_s = time.monotonic() - began, cpu_s(pid) - began_cpu
            print(f"{count} waiting callers, {sum(each.held for each in waiting)} of them held", end="; ")
            print(f"they asked {sum(each.asked for each in waiting)} times in {took_s:.1f} s", end="; ")
            print(f"scheduler {used_s / JOBS * 1e6:.0f} us CPU a job, {rss_mib(pid):.0f} MiB")
            show("submit to 201", [acked for acked, _ in times])
            show("submit to stored result", [ended for _, ended in times])
            for each in waiting:
                each.end()


if __name__ == "__main__":
    main()
