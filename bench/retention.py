"""Retention at work: a large database of old jobs is brought to its limits while callers submit.

Usage: python -m bench.lists fill PATH [JOBS]
       python -m bench.retention PATH [RATE]      (500 submits a second, if not said)

Starts a real scheduler on the database, whose jobs are older than its limits, and submits at the rate through its Unix
socket until no old job is left. Prints how long that takes, the times of the submits, and the size of the file before
and after. Then `zsched db check` has to agree.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from bench.machine import facts
from zsched.client.client import Client
from zsched.host.files import resolve
from zsched.store.sqlite.engine import FREE_PAGES_KEPT, SqliteEngine

THREADS = 10
LOOK_S = 2.0


def main() -> None:
    path, rate = resolve(Path(sys.argv[1])), int((sys.argv[2:] or ["500"])[0])
    print(facts())
    old = count(path)
    before = path.stat().st_size
    command = [sys.executable, "-P", "-m", "zsched.commands.scheduler", "--db", str(path), "--port=0", "--zmq-port=0"]
    scheduler = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        seconds, times = work(f"unix:{path}.d/api.sock", path, rate, old)
    finally:
        scheduler.send_signal(signal.SIGTERM)
        scheduler.wait()
    times.sort()
    shown = ", ".join(f"p{share} {times[len(times) * share // 100] * 1000:.1f} ms" for share in (50, 95, 99))
    print(f"{old} old jobs removed in {seconds:.0f} s: {old / seconds:.0f} a second")
    print(f"{len(times)} submits: {shown}, most {times[-1] * 1000:.1f} ms")
    print(f"file: {before / 2**20:.0f} MiB before, {path.stat().st_size / 2**20:.0f} MiB after")
    check = [sys.executable, "-P", "-m", "zsched.commands.zsched", "db", "check", "--db", str(path)]
    print(f"db check exits {subprocess.call(check)}")


def count(path: Path) -> int:
    """Number of the jobs that have ended."""
    engine = SqliteEngine(path, read_only=True)
    (found,) = engine.execute("SELECT count(*) FROM jobs WHERE status IN ('success', 'failed')")[0]
    engine.close()
    return int(found)


def left(path: Path, jobs: int) -> bool:
    """Whether the last event of these jobs is left, or space that retention gives back."""
    engine = SqliteEngine(path, read_only=True)
    found = engine.execute("SELECT 1 FROM events WHERE event_id = ?", (3 * jobs,))
    (unused,) = engine.execute("PRAGMA freelist_count")[0]
    engine.close()
    return bool(found) or unused > FREE_PAGES_KEPT


def work(url: str, path: Path, rate: int, old: int) -> tuple[float, list[float]]:
    """Submit at a rate until all is removed. Returns the seconds until the last job, and those of submits."""
    times: list[float] = []
    done = threading.Event()
    with Client(url) as client:
        while True:
            try:
                client.stats()
                break
            except Exception:
                time.sleep(0.05)
    begin = time.monotonic()
    threads = [threading.Thread(target=submit, args=(url, rate / THREADS, times, done)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    while count(path):
        time.sleep(LOOK_S)
    seconds = time.monotonic() - begin
    while left(path, old):
        time.sleep(LOOK_S)
    print(f"events and unused space gone after {time.monotonic() - begin:.0f} s")
    done.set()
    for thread in threads:
        thread.join()
    return seconds, times


def submit(url: str, rate: float, times: list[float], done: threading.Event) -> None:
    """Submit at a rate, and note how long each submit takes."""
    with Client(url) as client:
        due = time.monotonic()
        while not done.is_set():
            due += 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            client.submit("true", name=f"new-{os.getpid()}")
            times.append(time.monotonic() - began)


if __name__ == "__main__":
    main()
