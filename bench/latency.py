"""From submit to stored result on an idle system, over HTTP, process included.

Usage: python -m bench.latency [JOBS]      (500 jobs, if not said)

One keep-alive connection submits a job of `true`, and asks for it until it has ended; then the next, after a pause, so
that nothing is warm. Also: how long the 201 itself takes.
"""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from bench.machine import facts
from zsched.commands.cluster import Cluster, private

WARM_UP_JOBS = 50
PAUSE_S = 0.01
BODY = json.dumps({"name": "bench", "command": "true"})


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    print(facts())
    with tempfile.TemporaryDirectory(prefix="zsched-bench-") as folder, Cluster(private(Path(folder), 1, 2)) as cluster:
        cluster.start()
        caller = http.client.HTTPConnection(urlsplit(cluster.client.url).netloc)
        for _ in range(WARM_UP_JOBS):
            one(caller)
        times = []
        for _ in range(jobs):
            time.sleep(PAUSE_S)
            times.append(one(caller))
    show("submit to 201", sorted(acked for acked, _ in times))
    show("submit to stored result", sorted(ended for _, ended in times))


def one(caller: http.client.HTTPConnection) -> tuple[float, float]:
    """Seconds until the 201, and until the result was there."""
    began = time.monotonic()
    caller.request("POST", "/jobs", BODY)
    job = json.load(caller.getresponse())["id"]
    acked = time.monotonic()
    while True:
        caller.request("GET", f"/jobs/{job}")
        status = json.load(caller.getresponse())["status"]
        if status not in ("pending", "running"):
            break
    assert status == "success", status
    return acked - began, time.monotonic() - began


def show(what: str, seconds: list[float]) -> None:
    p50, p95, p99 = (seconds[int(len(seconds) * share)] * 1e3 for share in (0.5, 0.95, 0.99))
    print(f"{what:24} p50 {p50:.2f} ms   p95 {p95:.2f} ms   p99 {p99:.2f} ms")


if __name__ == "__main__":
    main()
