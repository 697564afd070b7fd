"""Runs a second through loop, dispatcher and store, with workers that answer at once.

Usage: python -m bench.dispatch [--db=URL] [RUNS] [WORKERS] [SLOTS]      (100000 runs, 8 workers of 8 slots by default)

--db: URL of a PostgreSQL server, with a role that can create databases. Default: SQLite.

The scheduler's real loop on a real ROUTER socket and a real database that syncs each commit to disk, events on. The
workers are fakes in one other process: they answer each run frame with its results and execute nothing. So this is what
the scheduler itself can do; what jobs cost is in bench/jobs.py.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import threading
import time

import zmq

from bench.databases import Place, place
from bench.machine import facts
from zsched import protocol
from zsched.model.types import JobSpec, RunStatus
from zsched.scheduler.dispatcher import Dispatcher, Settings
from zsched.scheduler.inbox import Inbox
from zsched.scheduler.loop import Loop, clock
from zsched.scheduler.port import Port
from zsched.store.writer import Writer

ROUNDS = 3
CHUNK_JOBS = 10_000


def main() -> None:
    url, numbers = None, sys.argv[1:]
    if numbers and numbers[0].startswith("--db="):
        url = numbers.pop(0).removeprefix("--db=")
    runs, workers, slots = ([int(word) for word in numbers] + [100_000, 8, 8][len(numbers) :])[:3]
    print(facts())
    rates = []
    for _ in range(ROUNDS):
        with place(url) as database:
            seconds = measure(database, runs, workers, slots)
        rates.append(runs / seconds)
        print(f"{runs} runs in {seconds:.2f} s: {runs / seconds:.0f} runs/s")
    print(f"median {statistics.median(rates):.0f} runs/s with {workers} workers of {slots} slots")


def measure(database: Place, runs: int, workers: int, slots: int) -> float:
    """Seconds from the first run that was handed out to the last result stored."""
    store = database.open_writer(clock().wall_ms)
    fill(store, runs)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    port = Port(context, "127.0.0.1", 0)
    tokens = iter(range(1_000_000))
    dispatcher = Dispatcher(store, Settings(epoch=1, timeout_ms=30_000, new_token=lambda: f"s{next(tokens)}"), clock())
    loop = Loop(store, dispatcher, port, Inbox(callers_max=1))
    watch = Watch(database, runs, loop)
    watch.start()
    endpoint = f"tcp://127.0.0.1:{port.number}"
    fakes = multiprocessing.get_context("spawn").Process(target=answer, args=(endpoint, workers, slots), daemon=True)
    fakes.start()
    loop.run()
    watch.join()
    fakes.terminate()
    fakes.join()
    port.close()
    context.term()
    store.close()
    return watch.seconds


class Watch(threading.Thread):
    """Looks at the counters from outside, and ends the loop when all is done."""

    def __init__(self, database: Place, runs: int, loop: Loop) -> None:
        super().__init__()
        self._database = database
        self._runs = runs
        self._loop = loop
        self.seconds = 0.0

    def run(self) -> None:
        reader = self._database.open_reader()
        while reader.totals()[RunStatus.PENDING] == self._runs:
            time.sleep(0.001)
        began = time.monotonic()
        while reader.totals()[RunStatus.SUCCESS] < self._runs:
            time.sleep(0.005)
        self.seconds = time.monotonic() - began
        reader.close()
        self._loop.stop()


def fill(store: Writer, runs: int) -> None:
    spec = JobSpec(name="bench", command="true")
    for first in range(0, runs, CHUNK_JOBS):
        count = min(CHUNK_JOBS, runs - first)
        store.begin()
        store.submit([spec] * count, [None] * count, "bench", 1)
        store.flush_counters(1)
        store.commit()


def answer(endpoint: str, workers: int, slots: int) -> None:
    """Be all the workers."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    poller = zmq.Poller()
    sockets = {}
    for number in range(workers):
        dealer = context.socket(zmq.DEALER)
        dealer.connect(endpoint)
        dealer.send(protocol.pack(introduction(number, slots)))
        poller.register(dealer, zmq.POLLIN)
        sockets[dealer] = ""
    while True:
        for dealer, _ in poller.poll():
            frame = protocol.unpack_from_scheduler(dealer.recv())
            if isinstance(frame, protocol.Registered):
                sockets[dealer] = frame.s
                dealer.send(protocol.pack(protocol.Ready(s=frame.s, window=10 * slots, ahead=9 * slots)))
            elif isinstance(frame, protocol.Dispatch):
                results = tuple(
                    protocol.RunResult(order.run, "success", "exit", finished_ms=2, started_ms=1, exit_code=0)
                    for order in frame.runs
                )
                dealer.send(protocol.pack(protocol.Result(s=frame.s, results=results)))


def introduction(number: int, slots: int) -> protocol.Register:
    return protocol.Register(
        versions=protocol.VERSIONS,
        worker=f"fake-{number}",
        incarnation=f"i{number}",
        boot_id="b",
        lock=(1, number + 1),
        slots=slots,
        heartbeat_ms=10_000,
        can=("entry",),
    )


if __name__ == "__main__":
    main()
