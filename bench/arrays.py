"""An array of a million tasks through loop, dispatcher and store, with workers that answer at once.

Usage: python -m bench.arrays [--db=URL] [--each] [TASKS] [RUNS]      (1000000 tasks, of which 200000 run, by default)

--db: URL of a PostgreSQL server, with a role that can create databases. Default: SQLite. --each: the array has an
entry of 100 bytes for each task, packed before the submit.

As bench/dispatch.py, but the tasks are one job. It prints the seconds until the submit is acked and until the first
result, the memory of this process, runs a second, how long lists of tasks take meanwhile, the seconds until a cancel of
the rest is acked, and the longest turn.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing

import zmq

from bench.databases import Place, place
from bench.dispatch import answer
from bench.machine import facts
from zsched.model.access import Caller
from zsched.model.arrays import parse_array
from zsched.model.entries import pack
from zsched.model.types import JobId, JobSpec, RunStatus
from zsched.scheduler.dispatcher import Dispatcher, Settings
from zsched.scheduler.dispatcher.commands import Cancel, Made, Submit
from zsched.scheduler.inbox import Inbox
from zsched.scheduler.loop import Loop, clock
from zsched.scheduler.port import Port
from zsched.store.reader import EngineReader

WORKERS, SLOTS = 8, 8
CALLER = Caller(owner="user:bench", actor="bench", all_jobs=True)
ENTRY = "x" * 90


def main() -> None:
    words = sys.argv[1:]
    url = next((word.removeprefix("--db=") for word in words if word.startswith("--db=")), None)
    each = "--each" in words
    numbers = [int(word) for word in words if not word.startswith("--")]
    tasks, runs = [*numbers, *[1_000_000, 200_000][len(numbers) :]][:2]
    print(facts())
    with place(url) as database:
        measure(database, tasks, runs, each=each)


class TimedLoop(Loop):
    """Notes its longest turn, and when its thread began it."""

    longest_s = 0.0

    def _turn(self, *, last: bool = False) -> None:
        began = time.monotonic()
        super()._turn(last=last)
        self.longest_s = max(self.longest_s, time.monotonic() - began)


def measure(database: Place, tasks: int, runs: int, *, each: bool) -> None:
    store = database.open_writer(clock().wall_ms)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    port, inbox = Port(context, "127.0.0.1", 0), Inbox(callers_max=2)
    tokens = iter(range(1_000_000))
    dispatcher = Dispatcher(store, Settings(epoch=1, timeout_ms=30_000, new_token=lambda: f"s{next(tokens)}"), clock())
    loop = TimedLoop(store, dispatcher, port, inbox)
    endpoint = f"tcp://127.0.0.1:{port.number}"
    fakes = multiprocessing.get_context("spawn").Process(target=answer, args=(endpoint, WORKERS, SLOTS), daemon=True)
    fakes.start()
    caller = threading.Thread(target=lambda: call(database, loop, inbox, tasks, runs, each=each))
    caller.start()
    loop.run()
    caller.join()
    fakes.terminate()
    fakes.join()
    port.close()
    context.term()
    store.close()


def call(database: Place, loop: TimedLoop, inbox: Inbox, tasks: int, runs: int, *, each: bool) -> None:
    """Be the callers, in another thread."""
    with closing(database.open_reader()) as reader:
        time.sleep(2)  # until the workers have registered
        entries = pack(f"{number:>10}{ENTRY}" for number in range(tasks)) if each else None
        spec = JobSpec(name="bench", command="true", array=parse_array(f"0-{tasks - 1}"), each=entries)
        print(f"memory before {resident_mib():.0f} MiB")
        loop.longest_s, began = 0.0, time.monotonic()
        made = inbox.call(Submit((spec,), CALLER))
        assert isinstance(made, Made)
        print(f"submit of {tasks} tasks acked after {time.monotonic() - began:.3f} s, turn {longest(loop)}")
        job = made.ids[0]
        wait(lambda: reader.totals()[RunStatus.SUCCESS] > 0)
        print(f"first result after {time.monotonic() - began:.3f} s")
        half = runs // 2
        wait(lambda: reader.totals()[RunStatus.SUCCESS] >= half)
        print(f"{half} runs after {time.monotonic() - began:.2f} s: {half / (time.monotonic() - began):.0f} runs/s")
        look(reader, job, half, tasks)
        wait(lambda: reader.totals()[RunStatus.SUCCESS] >= runs)
        print(f"memory meanwhile {resident_mib():.0f} MiB, turn {longest(loop)}")
        began = time.monotonic()
        inbox.call(Cancel(job, CALLER))
        print(f"cancel of the rest acked after {time.monotonic() - began:.3f} s, turn {longest(loop)}")
        wait(lambda: reader.status(job) is RunStatus.CANCELLED)
        print(f"ended after {time.monotonic() - began:.3f} s: {reader.totals()}")
    loop.stop()


def look(reader: EngineReader, job_id: JobId, middle: int, tasks: int) -> None:
    """How long lists take while tasks run."""
    job = reader.job(job_id)
    assert job is not None
    for name, first, status in (
        ("the first tasks", 0, None),
        ("tasks that run", middle, None),
        ("tasks without a run", tasks * 9 // 10, None),
        ("failed ones among 100000", 0, RunStatus.FAILED),
    ):
        last = first + (99_999 if status else 999)
        began = time.monotonic()
        found = sum(1 for _ in reader.tasks(job, first, last, status))
        print(f"list of {name}: {found} in {(time.monotonic() - began) * 1e3:.1f} ms")


def longest(loop: TimedLoop) -> str:
    """The longest turn since the last call."""
    seconds, loop.longest_s = loop.longest_s, 0.0
    return f"{seconds * 1e3:.0f} ms at most"


def wait(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.005)


def resident_mib() -> float:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


if __name__ == "__main__":
    main()
