"""Durable submits a second, by TCP and by the Unix socket: one by one from some keep-alive connections, and in bulk.

Usage: python -m bench.submit [SECONDS]      (3 seconds for each number of connections, if not said)

No worker is connected. Each caller is a process of its own that speaks HTTP by hand, so that it costs little. Every 201
means that the job is on the disk.
"""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.queues
import socket
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from bench.machine import facts
from zsched.client.cluster import Cluster, private

CONNECTIONS = (1, 2, 8, 32)
BULK_JOBS = 10_000
BULK_ROUNDS = 5

# A host and a port, or the path of a Unix socket.
Address = tuple[str, int] | str


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    print(facts())
    with ExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory(prefix="zsched-bench-"))
        plan = private(Path(folder), 0, 1)
        cluster = held.enter_context(Cluster(plan))
        cluster.start()
        for connections in CONNECTIONS:
            for way, address in ways(plan.url, Path(folder)).items():
                times = sorted(crowd(address, connections, seconds))
                p50, p95 = (times[int(len(times) * share)] * 1e3 for share in (0.5, 0.95))
                rate = len(times) / seconds
                print(f"{connections:3} connections, {way:6} {rate:6.0f} jobs/s   p50 {p50:.2f} ms   p95 {p95:.2f} ms")
        began = time.monotonic()
        for _ in range(BULK_ROUNDS):
            cluster.client.submit_all([{"name": "bench", "command": "true"}] * BULK_JOBS)
        print(f"in bulk, {BULK_JOBS} a request: {BULK_ROUNDS * BULK_JOBS / (time.monotonic() - began):6.0f} jobs/s")


def ways(url: str, folder: Path) -> dict[str, Address]:
    """Where a scheduler is called: by TCP, and by the socket beside its database."""
    parts = urlsplit(url)
    return {"TCP": (parts.hostname or "", parts.port or 0), "socket": str(folder / "scheduler.db.d" / "api.sock")}


def connect(address: Address) -> socket.socket:
    if isinstance(address, str):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(address)
        return connection
    connection = socket.create_connection(address)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def crowd(address: Address, connections: int, seconds: float) -> list[float]:
    """The seconds that each submit took."""
    answers: multiprocessing.Queue[list[float]] = multiprocessing.Queue()
    callers = [multiprocessing.Process(target=call, args=(address, seconds, answers)) for _ in range(connections)]
    for caller in callers:
        caller.start()
    times = [took for _ in callers for took in answers.get()]
    for caller in callers:
        caller.join()
    return times


def call(address: Address, seconds: float, answers: multiprocessing.Queue[list[float]]) -> None:
    body = json.dumps({"name": "bench", "command": "true"}).encode()
    request = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    times = []
    with connect(address) as connection:
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            connection.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer or not answer.endswith(b"}"):
                part = connection.recv(65_536)
                assert part, "the connection was closed"
                answer += part
            assert answer.startswith(b"HTTP/1.1 201"), answer
            times.append(time.monotonic() - began)
    answers.put(times)


if __name__ == "__main__":
    main()
