"""Arrays of many tasks, by range and by lines of 100 bytes: submit, first start, rate, lists, kill -9, cancel.

Usage: python -m bench.array_jobs [TASKS] [SECONDS]      (1,000,000 tasks that run for 10 seconds, if not said)

A scheduler and two workers with two slots each; each task writes its index into a file. For each kind of array, prints
how long the submit takes until its answer, when the first task starts, how many tasks end a second, and how long lists
of tasks take meanwhile. Then the scheduler is killed and started again: how long until tasks end again. Then the rest
is cancelled while it runs. In the end each task must be there once, as the file has it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random

from bench.machine import facts
from zsched.client.client import Client, Job
from zsched.client.cluster import SCHEDULER, Cluster, private
from zsched.host import prctl

LINE_BYTES = 100
PAUSE_S = 0.005
ROOT = Path(__file__).parents[1]


def main() -> None:
    numbers = [int(word) for word in sys.argv[1:]]
    tasks, run_s = [*numbers, *[1_000_000, 10][len(numbers) :]][:2]
    print(facts())
    for kind in ("range", "lines"):
        with tempfile.TemporaryDirectory(prefix="zsched-bench-") as name, Timed(Path(name)) as cluster:
            cluster.start()
            print(f"\n{tasks:,} tasks by {kind}; before: {cluster.memory()}")
            measure(cluster, kind, tasks, run_s)
            print(f"scheduler: {cluster.memory()}; files: {megabytes(Path(name))}; {cluster.longest_turn()}")
            cluster.stop()
            print(f"db check: {checked(Path(name) / 'scheduler.db')}")


class Timed(Cluster):
    """A cluster whose scheduler notes its longest turn, and can be killed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(private(folder, 2, 2))
        self.folder = folder
        self.pid = 0

    def _spawn(self, name: str, program: str, flags: Sequence[str]) -> None:
        if name != SCHEDULER:
            super()._spawn(name, program, flags)
            return
        words = [sys.executable, "-P", "-m", "bench.turns", str(self.folder / "turns"), *flags]
        with (self.folder / "scheduler.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                words,
                cwd=self.folder,
                env={**self._plan.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=partial(prctl.die_with, os.getpid(), signal.SIGTERM),  # noqa: PLW1509
            )
        self.pid = self._processes[name].pid

    def kill(self) -> None:
        """kill -9 of the scheduler."""
        process = self._processes.pop(SCHEDULER)
        process.kill()
        process.wait()

    def restart(self) -> None:
        """Start the scheduler again, and wait until it is ready."""
        self._spawn(SCHEDULER, "scheduler", self._plan.scheduler)
        self._wait(self._scheduler_ready, time.monotonic() + 60)

    def longest_turn(self) -> str:
        """The longest turn since the scheduler's start."""
        return f"longest turn {float((self.folder / 'turns').read_text('ascii')) * 1e3:.0f} ms"

    def memory(self) -> str:
        """The scheduler's memory now, and at most."""
        status = Path(f"/proc/{self.pid}/status").read_text("utf-8")
        now, peak = (int(re.findall(rf"{name}:\s+(\d+)", status)[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return f"{now:.0f} MiB, {peak:.0f} MiB at most"


def measure(cluster: Timed, kind: str, tasks: int, run_s: float) -> None:
    """Print the figures of one array."""
    client, witness = cluster.client, cluster.folder / "witness"
    command = f"echo $ZSCHED_TASK >> {witness}"
    with Turns(client) as turns:
        began = time.monotonic()
        starts = threading.Thread(target=lambda: say_start(witness, began))
        starts.start()
        if kind == "range":
            job = client.submit(command, array=f"0-{tasks - 1}")
        else:
            job = client.submit_lines({"name": "bench", "command": command}, lines(tasks))
        print(f"submit: answer after {time.monotonic() - began:.2f} s")
        starts.join()
        show_rate(job, run_s)
        show_lists(client, job)
        print(f"{cluster.memory()}; {cluster.longest_turn()}; longest wait of another caller {turns.longest_s:.2f} s")
    show_restart(cluster, client.get(job.id))
    show_rate(job, run_s)
    with Turns(cluster.client) as turns:
        show_lists(cluster.client, job)
        began = time.monotonic()
        job.cancel()
        print(f"cancel: answer after {(time.monotonic() - began) * 1e3:.0f} ms")
        job.wait()
        print(f"ended {time.monotonic() - began:.2f} s after the cancel: {job.counts}")
        print(f"longest wait of another caller {turns.longest_s:.2f} s")
    print(verdict(job, witness, tasks))


def say_start(witness: Path, began: float) -> None:
    wait(lambda: witness.exists() and witness.stat().st_size > 0)
    print(f"first task starts {time.monotonic() - began:.2f} s after the begin of the submit")


def show_rate(job: Job, run_s: float) -> None:
    before, began = ended(job.refresh()), time.monotonic()
    time.sleep(run_s)
    print(f"{(ended(job.refresh()) - before) / (time.monotonic() - began):.0f} tasks/s")


def show_lists(client: Client, job: Job) -> None:
    for status in ("", "&status=success", "&status=pending"):
        began = time.monotonic()
        rows = client.ask("GET", f"/jobs/{job.id}/tasks?limit=1000{status}").json()
        print(f"page of {len(rows)} tasks{status}: {(time.monotonic() - began) * 1e3:.0f} ms")


def show_restart(cluster: Timed, job: Job) -> None:
    cluster.kill()
    before, began = ended(job), time.monotonic()
    cluster.restart()
    ready_s = time.monotonic() - began
    # What the workers held ends first, so this waits for more than that.
    more = before + 4 * 100
    job = cluster.client.get(job.id)
    after = ended(job)
    wait(lambda: ended(job.refresh()) > after)
    next_s = time.monotonic() - began
    wait(lambda: ended(job.refresh()) > more)
    print(
        f"kill -9 with {before} ended: ready after {ready_s:.2f} s, the next task ended after {next_s:.2f} s,"
        f" {ended(job) - before} more after {time.monotonic() - began:.2f} s; {cluster.longest_turn()}"
    )


def verdict(job: Job, witness: Path, tasks: int) -> str:
    """Whether each task is there, and has run once if it is a success and not otherwise."""
    ran = Counter(int(line) for line in witness.read_text("ascii").splitlines())
    twice = sum(count > 1 for count in ran.values())
    stored = {task.index for task in job.tasks(status="success")}
    cancelled = {task.index for task in job.tasks(status="cancelled")}
    # What was running when the rest was cancelled may have written its line.
    lost, never = tasks - len(stored | cancelled), len(stored - ran.keys())
    wrong = lost or never or stored & cancelled or not job.counts or job.counts["success"] != len(stored)
    return (
        f"{'WRONG' if wrong else 'right'}: {len(stored)} successes, {len(cancelled)} cancelled, {lost} lost,"
        f" {never} without a line, {twice} ran twice"
    )


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
        while not self._over.wait(PAUSE_S):
            began = time.monotonic()
            job.hold()
            self.longest_s = max(self.longest_s, time.monotonic() - began)


def lines(tasks: int) -> Iterator[str]:
    """Entries of 100 bytes with their quotes and line ends, half of which are random."""
    random = Random(1)
    for place in range(tasks):
        text = f"/data/set-{place // 1000}/{random.getrandbits(200):050x}"
        yield text.ljust(LINE_BYTES - 3, "x")


def ended(job: Job) -> int:
    counts = job.counts or {}
    return sum(counts[status] for status in ("success", "failed", "cancelled"))


def wait(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(PAUSE_S)


def megabytes(folder: Path) -> str:
    return ", ".join(
        f"{path.name} {path.stat().st_size / 2**20:.0f} MiB"
        for path in sorted(folder.glob("scheduler.db*"))
        if path.is_file()
    )


def checked(db: Path) -> str:
    words = [sys.executable, "-P", "-m", "zsched.commands.zsched", "db", "check", "--db", str(db)]
    began = time.monotonic()
    done = subprocess.run(
        words, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    return f"exit {done.returncode} after {time.monotonic() - began:.1f} s: {(done.stdout + done.stderr).strip()}"


if __name__ == "__main__":
    main()
