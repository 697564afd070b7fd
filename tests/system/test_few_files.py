"""A scheduler with a low limit of open files says so at its start, and its workers leave some for REST."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import zmq

from tests.system.session import SCHEDULER, Scheduler, until
from tests.system.test_access import introduction
from tests.system.test_port_crowd import descriptors, strangers
from zsched import protocol
from zsched.scheduler.shares import shares
from zsched.security.keys import new_pair

# Many connections and some seconds of them.
pytestmark = pytest.mark.slow

WORKERS = 300
ENROLLING = 8
REGISTER_AGAIN_S = 1.0
WATCHED_S = 8.0
LEAVING = 9


class Fleet:
    """Workers that enrol, connect and register, all at once, and try again until it works."""

    def __init__(self, scheduler: Scheduler, count: int) -> None:
        self._scheduler = scheduler
        self.registered: set[str] = set()
        self._stop = threading.Event()
        # Nobody talks while the list of workers changes.
        self._left = threading.Event()
        self._context = zmq.Context()
        self._ready: list[tuple[str, zmq.Socket[bytes]]] = []
        self._pool = ThreadPoolExecutor(ENROLLING + 1)
        self._talking = self._pool.submit(self._talk)
        self._done = [self._pool.submit(self._enrol, f"w{number}") for number in range(count)]

    def _enrol(self, name: str) -> None:
        pair = new_pair()
        while not self._stop.wait(0.01):
            try:
                place = self._scheduler.post("/workers/enrol", {"worker_id": name, "public_key": pair.public})
            except OSError:
                continue
            dealer = self._context.socket(zmq.DEALER)
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.setsockopt(zmq.IMMEDIATE, 1)
            dealer.setsockopt(zmq.CURVE_SERVERKEY, place["server_key"].encode())
            dealer.setsockopt(zmq.CURVE_PUBLICKEY, pair.public.encode())
            dealer.setsockopt(zmq.CURVE_SECRETKEY, pair.secret.encode())
            dealer.connect(place["endpoint"])
            self._ready.append((name, dealer))
            return

    def _talk(self) -> None:
        """Register each again until it is answered."""
        said: dict[str, float] = {}
        while not self._stop.wait(0.01) and not self._left.is_set():
            for name, dealer in [*self._ready]:
                events = int(dealer.get(zmq.EVENTS))
                if events & zmq.POLLIN and isinstance(
                    protocol.unpack_from_scheduler(dealer.recv()), protocol.Registered
                ):
                    self.registered.add(name)
                elif (
                    events & zmq.POLLOUT
                    and name not in self.registered
                    and time.monotonic() > said.get(name, 0) + REGISTER_AGAIN_S
                ):
                    said[name] = time.monotonic()
                    # The scheduler may have closed the connection since the socket was asked.
                    with suppress(zmq.Again):
                        dealer.send(protocol.pack(introduction(name)), zmq.NOBLOCK)

    def leave(self, count: int) -> None:
        """So many of those that are registered are gone for good."""
        leaving = [one for one in self._ready if one[0] in self.registered][:count]
        self._left.set()
        self._talking.result(30)
        for one in leaving:
            self._ready.remove(one)
            one[1].close()
        self._left.clear()
        self._talking = self._pool.submit(self._talk)

    def close(self) -> None:
        self._stop.set()
        for one in (*self._done, self._talking):
            one.result(30)
        self._pool.shutdown()
        for _, dealer in self._ready:
            dealer.close()
        self._context.term()


@contextmanager
def fleet(scheduler: Scheduler, count: int) -> Iterator[Fleet]:
    with descriptors(10 * count + 500):
        opened = Fleet(scheduler, count)
        try:
            yield opened
        finally:
            opened.close()


def slowest_s(scheduler: Scheduler, seconds: float) -> float:
    """How long the slowest of many calls took: reads, writes, new connections all of them."""
    slowest, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        assert scheduler.get("/workers") is not None
        assert scheduler.submit("true")
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.02)
    return slowest


@pytest.mark.parametrize("files", [150, 1_024])
def test_workers_leave_files_for_rest(tmp_path: Path, files: int) -> None:
    argv = ("prlimit", f"--nofile={files}:{files}", *SCHEDULER)
    places = shares(files, threads=16).workers
    with Scheduler(tmp_path, "-db", str(tmp_path / "s.db"), argv=argv) as scheduler, fleet(scheduler, WORKERS) as many:
        assert slowest_s(scheduler, WATCHED_S) < 2.0
        assert scheduler.program is not None
        full = f"the workers' port has all the connections that it may have, {places}: further workers wait"
        scheduler.program.wait_for_log(full)
        until(lambda: len(many.registered) >= places)
        log = scheduler.program.log()
        assert f"it allows {places} workers" in log
        assert "Too many open files" not in log
        # Those that wait come in when others leave.
        before = set(many.registered)
        many.leave(LEAVING)
        until(lambda: len(many.registered - before) >= LEAVING)


@pytest.mark.parametrize("files", [150])
def test_idle_callers_leave_files_for_others(tmp_path: Path, files: int) -> None:
    argv = ("prlimit", f"--nofile={files}:{files}", *SCHEDULER)
    with Scheduler(tmp_path, "-db", str(tmp_path / "s.db"), argv=argv) as scheduler:
        with strangers(("127.0.0.1", scheduler.port), 200):
            assert slowest_s(scheduler, 3.0) < 2.0
        assert scheduler.program is not None
        assert "Too many open files" not in scheduler.program.log()
