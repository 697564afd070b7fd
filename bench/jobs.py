"""Real jobs a second: N jobs of `true` through REST, scheduler, store and one worker, beside `xargs` in the same run.

Usage: python -m bench.jobs [--db=URL] [N] [SLOTS]      (10000 jobs and 2 slots by default)

--db: URL of a PostgreSQL server for the scheduler's database, with a role that can create databases. Default: SQLite.

Everything is on: the database syncs each commit to disk, events are written, output is captured. A job is a real `sh
-c` process. The time runs from the first byte of the first submit to the last result in the database. Ratios hold on a
noisy machine, absolute numbers don't, so `xargs -P SLOTS` runs before and after.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench.databases import place
from bench.machine import facts
from zsched.client.cluster import Cluster, Plan, private

WARM_UP_JOBS = 1_000
ROUNDS = 3
CHUNK_JOBS = 10_000
LOOK_S = 0.01
# Faster than any machine runs jobs.
JOBS_PER_S_MAX = 20_000
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
MODULES = {
    "scheduler": "zsched.commands.scheduler",
    "guard": "zsched.commands.worker",
    "agent": "zsched.worker.agent.main",
}


def main() -> None:
    url, numbers = None, sys.argv[1:]
    if numbers and numbers[0].startswith("--db="):
        url = numbers.pop(0).removeprefix("--db=")
    jobs, slots = ([int(word) for word in numbers] + [10_000, 2][len(numbers) :])[:2]
    print(facts())
    before = xargs(jobs, slots)
    with (
        tempfile.TemporaryDirectory(prefix="zsched-bench-") as folder,
        place(url) as database,
        Cluster(planned(Path(folder), slots, database.url)) as cluster,
    ):
        cluster.start()
        run(cluster, WARM_UP_JOBS)
        spent, busy = processes(), machine_cpu_s()
        seconds = [run(cluster, jobs) for _ in range(ROUNDS)]
        busy = machine_cpu_s() - busy
        parts = {name: cpu_s - spent.get(name, 0.0) for name, cpu_s in processes().items()}
    after = xargs(jobs, slots)
    ours, theirs = jobs / statistics.median(seconds), jobs / statistics.mean([before, after])
    print(f"zsched  {ours:7.0f} jobs/s   (median of {', '.join(f'{jobs / s:.0f}' for s in seconds)})")
    print(f"xargs   {theirs:7.0f} jobs/s   (before {jobs / before:.0f}, after {jobs / after:.0f})")
    print(f"ratio   {ours / theirs:7.2f}")
    total = ROUNDS * jobs
    for name, cpu_s in sorted(parts.items()):
        print(f"  CPU µs per job, {name:10} {cpu_s / total * 1e6:7.0f}")
    print(f"  CPU µs per job, whole machine {busy / total * 1e6:.0f}")


def planned(folder: Path, slots: int, url: str | None) -> Plan:
    """A cluster of one worker. `url`: of its database; None: SQLite."""
    plan = private(folder, 1, slots)
    if url is None:
        return plan
    flags = [f"--db={url}" if flag.startswith("--db=") else flag for flag in plan.scheduler]
    return replace(plan, scheduler=[*flags, f"--data-dir={plan.socket.parent}"])


def run(cluster: Cluster, jobs: int) -> float:
    """Submit so many jobs and wait for their end; returns the seconds."""
    began = time.monotonic()
    for first in range(0, jobs, CHUNK_JOBS):
        count = min(CHUNK_JOBS, jobs - first)
        cluster.client.submit_all([{"name": "bench", "command": "true"}] * count)
    # Looking costs both of us CPU: what can't be over yet is not looked at. The end is seen to 10 ms all the same.
    while left := unfinished(cluster):
        time.sleep(max(LOOK_S, left / JOBS_PER_S_MAX))
    seconds = time.monotonic() - began
    assert not cluster.client.stats()["tasks"]["failed"]
    return seconds


def unfinished(cluster: Cluster) -> int:
    """How many jobs have not ended."""
    tasks = cluster.client.stats()["tasks"]
    return int(tasks["pending"]) + int(tasks["running"])


def xargs(jobs: int, slots: int) -> float:
    """The seconds that xargs takes for the same."""
    began = time.monotonic()
    subprocess.run(f"seq {jobs} | xargs -P{slots} -I{{}} sh -c true", shell=True, check=True)
    return time.monotonic() - began


def machine_cpu_s() -> float:
    """Seconds of CPU that the whole machine has spent, not counting idle, waiting for disks and stolen time."""
    fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields) - fields[3] - fields[4] - fields[7]) * TICK_S


def processes() -> dict[str, float]:
    """The CPU seconds so far of scheduler, guard, agent and of all jobs that have ended."""
    spent: dict[str, float] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            user, system, ended_user, ended_system = (
                int(word) for word in (process / "stat").read_text().rpartition(")")[2].split()[11:15]
            )
        except OSError:
            continue
        for name, module in MODULES.items():
            if any(word.startswith(module) for word in words):
                spent[name] = spent.get(name, 0.0) + (user + system) * TICK_S
                if name == "guard":
                    spent["jobs"] = spent.get("jobs", 0.0) + (ended_user + ended_system) * TICK_S
    return spent


if __name__ == "__main__":
    main()
