"""What callers look at while it happens, jobs that end and what running runs write: between the loop, where it
happens, and threads, which wait.

Of output only what somebody looks at is here, the last OUTPUT_BYTES_MAX of each stream, of at most WATCHED_RUNS_MAX
runs. It is a view and no store: what a run wrote is in its result, and a scheduler that restarts asks the worker anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from zsched.model.limits import OUTPUT_BYTES_MAX, WATCHED_RUNS_MAX
from zsched.model.types import StreamName
from zsched.protocol import Log

# Somebody who looks asks for a new watch so often; the worker's own lasts much longer.
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


class Live:
    """Thread-safe. `feed` and `wake` are the loop's, the rest the callers'."""

    def __init__(self, waiters_max: int) -> None:
        """`waiters_max`: callers that may wait at the same time; the others are answered at once."""
        self._changed = threading.Condition()
        self._runs: dict[int, _Watched] = {}
        self._places = threading.Semaphore(waiters_max)
        # Counted, so that who looks and then waits does not miss the turn between.
        self._turns = 0
        self._closed = False

    def feed(self, output: list[Log]) -> None:
        """The loop got output of runs that are looked at."""
        with self._changed:
            for log in output:
                if (watched := self._runs.get(log.run)) is not None:
                    watched.stream(log.stream).add(log.offset, log.data)

    def wake(self) -> None:
        """A turn is over: those who wait look again."""
        with self._changed:
            self._turns += 1
            self._changed.notify_all()

    def close(self) -> None:
        """The scheduler ends: those who wait are answered with what there is, and nobody waits any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def look(self, run: int) -> tuple[int, int] | None:
        """Note that somebody looks at a run. The ends of its streams when the worker is to be asked anew, else None."""
        now = time.monotonic()
        with self._changed:
            # The one looked at last stands last.
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
        with self._changed:
            watched = self._runs.get(run)
            if watched is None:
                return offset, b""
            seen = watched.stream(stream)
            begin = max(offset, seen.begin)
            return begin, bytes(seen.data[begin - seen.begin :])

    def hold(self, look: Callable[[], Found], enough: Callable[[Found], bool], wait_s: float) -> Found:
        """What a look finds: looked for after each turn until it is enough, or wait_s is over.

        When as many wait as may, that of the first look, at once.
        """
        until_s = time.monotonic() + wait_s
        # Read before the look, so that no turn between the two is missed.
        turn = self._turns
        found = look()
        if enough(found) or not wait_s or not self._places.acquire(blocking=False):
            return found
        try:
            while not (enough(found) or self._closed) and (left_s := until_s - time.monotonic()) > 0:
                turn = self._await_turn_after(turn, min(left_s, RENEW_S))
                found = look()
        finally:
            self._places.release()
        return found

    def _await_turn_after(self, turn: int, timeout_s: float) -> int:
        """Wait for a later turn than that one, or so long. Returns the last that is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._turns != turn or self._closed, timeout_s)
            return self._turns
