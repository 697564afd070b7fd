"""Arrays of many tasks, by range and by lines of 100 bytes: submit, first start, rate, lists, cancel.

Usage: python -m bench.array_jobs [TASKS]      (1,000,000 tasks, if not said)

A scheduler and two workers with two slots each. For each kind of array, prints how long the submit takes until its
answer, when the first task starts, how many tasks end in ten seconds, how long a page of tasks and the cancel of the
array take while it runs, and the scheduler's memory and files.
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from bench.machine import facts
from zsched.client.client import Client, Job
from zsched.client.cluster import SCHEDULER, Cluster, private

RUN_S = 10.0
LINE_BYTES = 100
HEALTH_S = 0.005


def main() -> None:
    tasks = int((sys.argv[1:] or ["1000000"])[0])
    print(facts())
    for kind in ("range", "lines"):
        with tempfile.TemporaryDirectory(prefix="zsched-bench-") as name, Cluster(private(Path(name), 2, 2)) as cluster:
            cluster.start()
            pid = cluster._processes[SCHEDULER].pid
            print(f"\n{tasks:,} tasks by {kind}; before: {memory(pid)}")
            measure(cluster.client, kind, tasks)
            print(f"scheduler: {memory(pid)}; files: {megabytes(Path(name))}")


def measure(client: Client, kind: str, tasks: int) -> None:
    """Print the figures of one array."""
    with Turns(client) as turns:
        begin_s = time.monotonic()
        if kind == "range":
            job = client.submit("true", array=f"0-{tasks - 1}")
        else:
            job = client.submit_lines({"name": "bench", "command": "true"}, lines(tasks))
        print(f"submit: answer after {time.monotonic() - begin_s:.2f} s")
        while not ended(job.refresh()):
            time.sleep(0.005)
        print(f"first task has ended {time.monotonic() - begin_s:.2f} s after the begin of the submit")
        before, begin_s = ended(job), time.monotonic()
        time.sleep(RUN_S)
        rate = (ended(job.refresh()) - before) / (time.monotonic() - begin_s)
        print(f"{rate:.0f} tasks/s")
        for status in ("", "&status=success", "&status=pending"):
            begin_s = time.monotonic()
            rows = client.ask("GET", f"/jobs/{job.id}/tasks?limit=1000{status}").json()
            print(f"page of {len(rows)} tasks{status}: {(time.monotonic() - begin_s) * 1e3:.0f} ms")
        begin_s = time.monotonic()
        job.cancel()
        print(f"cancel: answer after {(time.monotonic() - begin_s) * 1e3:.0f} ms")
        job.wait()
        print(f"ended {time.monotonic() - begin_s:.2f} s after the cancel: {job.counts}")
    print(f"longest wait of another caller: {turns.longest_s * 1e3:.0f} ms")


class Turns:
    """A caller that changes something all the time. A context."""

    def __init__(self, client: Client) -> None:
        self._client = Client(client.url)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._call)
        self.longest_s = 0.0

    def __enter__(self) -> Turns:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _call(self) -> None:
        job = self._client.submit("true", hold=True)
        while not self._over.wait(HEALTH_S):
            begin_s = time.monotonic()
            job.hold()
            self.longest_s = max(self.longest_s, time.monotonic() - begin_s)


def lines(tasks: int) -> Iterator[str]:
    """Entries of 100 bytes with their quotes and line ends, half of which are random."""
    random = Random(1)
    for place in range(tasks):
        text = f"/data/set-{place // 1000}/{random.getrandbits(200):050x}"
        yield text.ljust(LINE_BYTES - 3, "x")


def ended(job: Job) -> int:
    counts = job.counts or {}
    return sum(counts[status] for status in ("success", "failed", "cancelled"))


def memory(pid: int) -> str:
    """The memory of a process now, and at most."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    now, peak = (int(re.findall(rf"{name}:\s+(\d+)", status)[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return f"{now:.0f} MiB, {peak:.0f} MiB at most"


def megabytes(folder: Path) -> str:
    return ", ".join(
        f"{path.name} {path.stat().st_size / 2**20:.0f} MiB" for path in sorted(folder.glob("scheduler.db*"))
    )


if __name__ == "__main__":
    main()
