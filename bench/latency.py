"""From submit to stored result on an idle system, over HTTP, process included.

Usage: python -m bench.latency [JOBS]      (500 jobs, if not said)

One keep-alive connection submits a job of `true` and asks for it, an answer that is held until the job has ended; then
the next. Once without a pause, and once with pauses, after which nothing is warm: caches, and processors that sleep.
Also: how long the 201 itself takes, and what the parts that nobody can save take here and now, one HTTP exchange, two
syncs and one process.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from bench.machine import facts
from zsched.client.cluster import Cluster, private

WARM_UP_JOBS = 50
PAUSES_S = (0.0, 0.01)
BODY = json.dumps({"name": "bench", "command": "true"})
# What a turn with one job writes to the WAL.
COMMIT_BYTES = 80_000


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print(facts())
    with ExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory(prefix="zsched-bench-"))
        plan = private(Path(folder), 1, 2)
        held.enter_context(Cluster(plan)).start()
        caller = http.client.HTTPConnection(urlsplit(plan.url).netloc)
        for _ in range(WARM_UP_JOBS):
            one(caller)
        for pause_s in PAUSES_S:
            times = []
            for _ in range(jobs):
                time.sleep(pause_s)
                times.append(one(caller))
            print(f"with pauses of {pause_s * 1e3:g} ms" if pause_s else "without pauses")
            show("submit to 201", [acked for acked, _ in times])
            show("submit to stored result", [ended for _, ended in times])
            print(f"  the parts alone: {limit_ms(caller, Path(folder), pause_s):.2f} ms")


def one(caller: http.client.HTTPConnection) -> tuple[float, float]:
    """Seconds until the 201, and until the result was there."""
    began = time.monotonic()
    caller.request("POST", "/jobs", BODY)
    job = json.load(caller.getresponse())["id"]
    acked = time.monotonic()
    caller.request("GET", f"/jobs/{job}?wait=20s")
    status = json.load(caller.getresponse())["status"]
    assert status == "success", status
    return acked - began, time.monotonic() - began


def limit_ms(caller: http.client.HTTPConnection, folder: Path, pause_s: float) -> float:
    """What one HTTP exchange, two syncs of the same size and one `sh -c true` take, each by its median."""
    with (folder / "limit").open("ab", buffering=0) as file:

        def exchange() -> None:
            caller.request("GET", "/healthz")
            caller.getresponse().read()

        def sync() -> None:
            file.write(bytes(COMMIT_BYTES))
            os.fdatasync(file.fileno())

        def process() -> None:
            os.waitpid(os.posix_spawn("/bin/sh", ("sh", "-c", "true"), {}), 0)

        return sum(median_ms(part, pause_s) for part in (exchange, sync, sync, process))


def median_ms(part: Callable[[], None], pause_s: float) -> float:
    times = []
    for _ in range(100):
        time.sleep(pause_s)
        began = time.monotonic()
        part()
        times.append(time.monotonic() - began)
    return statistics.median(times) * 1e3


def show(what: str, seconds: list[float]) -> None:
    seconds = sorted(seconds)
    p50, p95, p99 = (seconds[int(len(seconds) * share)] * 1e3 for share in (0.5, 0.95, 0.99))
    print(f"  {what:24} p50 {p50:.2f} ms   p95 {p95:.2f} ms   p99 {p99:.2f} ms")


if __name__ == "__main__":
    main()
