"""Callers that wait for changes, and the output of running runs: between the loop and the threads of REST.

Each waiting caller has a topic. After a turn only those look again whose topic the turn has changed.

Output is held of watched runs only, WATCHED_RUNS_MAX at most, and of each stream the last OUTPUT_BYTES_MAX. It is a
view, not a store: a run's result has its output, and a scheduler that restarts asks the worker again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from zsched.model.limits import OUTPUT_BYTES_MAX, WAIT_MS_MAX, WAKE_JOBS_MAX, WATCHED_RUNS_MAX
from zsched.model.spans import Spans
from zsched.model.types import JobId, RunId, StreamName
from zsched.protocol import Log
from zsched.store.contract import Changes

# A viewer renews its watch after this time; on the worker a watch lasts much longer (WATCH_MS).
RENEW_S: Final = 1.0

Found = TypeVar("Found")


@dataclass(slots=True)
class _Seen:
    """The last bytes of a stream, which begin at `begin`."""

    begin: int = 0
    data: bytearray = field(default_factory=bytearray)

    @property
    def end(self) -> int:
        return self.begin + len(self.data)

    def add(self, offset: int, data: bytes) -> None:
        if offset > self.end:
            # What lies between was left out on the way.
            self.begin = offset
            self.data.clear()
        self.data += data[self.end - offset :]
        extra = len(self.data) - OUTPUT_BYTES_MAX
        if extra > 0:
            del self.data[:extra]
            self.begin += extra


@dataclass(slots=True)
class _Watched:
    stdout: _Seen = field(default_factory=_Seen)
    stderr: _Seen = field(default_factory=_Seen)
    asked_s: float = 0.0

    def stream(self, name: StreamName) -> _Seen:
        return self.stdout if name == "stdout" else self.stderr


# A change may concern a waiter: it looks again.
Topic = Callable[[Changes], bool]


def of_job(job_id: JobId) -> Topic:
    """The end of a job."""
    return lambda changes: job_id in changes.ended


def of_jobs(ids: Spans) -> Topic:
    """The status of many jobs, and their events. A turn that changes more than WAKE_JOBS_MAX concerns some of them."""
    return lambda changes: len(changes.jobs) > WAKE_JOBS_MAX or any(job_id in ids for job_id in changes.jobs)


def of_run(run_id: RunId) -> Topic:
    """A run's state, and its output while it is watched."""
    return lambda changes: run_id in changes.runs


def of_events() -> Topic:
    """Any event."""
    return lambda changes: changes.events


class _Waiter:
    """A caller that waits, and its wake-up."""

    __slots__ = ("changed", "topic")

    def __init__(self, topic: Topic) -> None:
        self.topic: Final = topic
        self.changed: Final = threading.Event()


class Live:
    """Thread-safe. `feed` and `wake` are for the loop, the rest for callers."""

    def __init__(self, waiters_max: int, on_waiting: Callable[[int], None] = lambda _: None) -> None:
        """`waiters_max`: callers that may wait at the same time; the others are answered at once. `on_waiting` is
        called in the thread of each caller that begins to wait, with the number of waiting callers.
        """
        self.on_waiting = on_waiting
        self._lock = threading.Lock()
        self._runs: dict[int, _Watched] = {}
        self._waiters_max = waiters_max
        self._waiting = 0
        # Callers that wait, and those that look for the first time.
        self._waiters: set[_Waiter] = set()
        self._closed = False

    def feed(self, output: list[Log]) -> None:
        """The loop got output of watched runs."""
        if not output:
            return
        with self._lock:
            for log in output:
                if (watched := self._runs.get(log.run)) is not None:
                    watched.stream(log.stream).add(log.offset, log.data)
        self.wake(Changes(runs={RunId(log.run) for log in output}))

    @property
    def waiting(self) -> int:
        """How many callers wait."""
        return self._waiting

    @property
    def is_awaited(self) -> bool:
        """Whether any caller waits. One that begins to wait now sees what was committed before."""
        return bool(self._waiters)

    def wake(self, changes: Changes) -> None:
        """Something has changed: those that it concerns look again."""
        with self._lock:
            for waiter in self._waiters:
                if waiter.topic(changes):
                    waiter.changed.set()

    def wake_all(self) -> None:
        """All look again: another scheduler makes the changes."""
        with self._lock:
            for waiter in self._waiters:
                waiter.changed.set()

    def close(self) -> None:
        """The scheduler ends: waiting callers are answered with what there is, and no caller waits any more."""
        with self._lock:
            self._closed = True
            for waiter in self._waiters:
                waiter.changed.set()

    def look(self, run: int) -> tuple[int, int] | None:
        """Register a viewer. Returns (stdout, stderr) offsets if the watch must be renewed, else None."""
        now = time.monotonic()
        with self._lock:
            # The run that was looked at last stands last.
            watched = self._runs.pop(run) if run in self._runs else _Watched()
            self._runs[run] = watched
            if len(self._runs) > WATCHED_RUNS_MAX:
                del self._runs[next(iter(self._runs))]
            if now - watched.asked_s < RENEW_S:
                return None
            watched.asked_s = now
            return watched.stdout.end, watched.stderr.end

    def read(self, run: int, stream: StreamName, offset: int) -> tuple[int, bytes]:
        """What is known of a stream from a byte on, and where it begins; empty when nothing is."""
        with self._lock:
            watched = self._runs.get(run)
            if watched is None:
                return offset, b""
            seen = watched.stream(stream)
            begin = max(offset, seen.begin)
            return begin, bytes(seen.data[begin - seen.begin :])

    def hold(
        self,
        look: Callable[[], Found],
        enough: Callable[[Found], bool],
        wait_s: float,
        topic: Topic,
        renew_s: float = WAIT_MS_MAX / 1000,
    ) -> Found:
        """The result of `look`, repeated after each change of the topic until it is enough, or wait_s is over.

        `renew_s`: it is also repeated after this time without a change. When waiters_max callers wait already, that of
        the first look, at once.
        """
        if not wait_s:
            return look()
        until_s = time.monotonic() + wait_s
        waiter = _Waiter(topic)
        # Before the first look, so that no change after it is missed.
        with self._lock:
            self._waiters.add(waiter)
        try:
            found = look()
            if enough(found) or not self._begin_waiting():
                return found
            try:
                while not (enough(found) or self._closed) and (left_s := until_s - time.monotonic()) > 0:
                    waiter.changed.wait(min(left_s, renew_s))
                    waiter.changed.clear()
                    found = look()
            finally:
                with self._lock:
                    self._waiting -= 1
            return found
        finally:
            with self._lock:
                self._waiters.discard(waiter)

    def _begin_waiting(self) -> bool:
        """Take a waiting caller's place, if there is one."""
        with self._lock:
            if self._waiting >= self._waiters_max:
                return False
            self._waiting += 1
            waiting = self._waiting
        self.on_waiting(waiting)
        return True
