"""The runs that live on this worker: started, watched, captured, ended. Single-threaded; only the guard calls it.

A run is over when its main process has been reaped, not at the end of its output. Its process group is killed before
that, while the zombie still keeps the number from being used again; then go its strays, processes that left the
group. Only when none of them is left is the run given out.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from zsched.model.limits import STALE_TIMERS_MAX, STREAM_BYTES_MAX
from zsched.protocol import RunOrder, RunResult
from zsched.worker.messages import Began
from zsched.worker.process.capture import Capture
from zsched.worker.process.orphans import Orphans
from zsched.worker.process.redact import Redactor, patterns
from zsched.worker.process.spawn import NoRoomError, Spawner, SpawnError

# The start of a run that ends earlier is in its result only.
BEGAN_AFTER_MS: Final = 100
# Bytes read from a pipe at a time: what the pipe holds. A job that writes without end gets one read a turn, like all
# others.
_READ_BYTES: Final = 64 * 1024
# The most a pipe can hold (fs.pipe-max-size): what is drained from it after the last process that could write has
# ended.
_DRAIN_BYTES_MAX: Final = 1024 * 1024
# Processes that were killed and are still there are killed and looked at again.
_AGAIN_MS: Final = 500
# So long after that they count as stuck: in the kernel's hands, as on a dead network disk, or no longer ours to kill.
STUCK_MS: Final = 10_000

log = logging.getLogger(__name__)

Why = Literal["timeout", "cancelled", "dropped", "lease_stop"]
Due = Literal["began", "timeout", "kill", "again"]


class Stream:
    """One output of a run: the pipe, None when closed, and what was kept of it. Secrets are taken out on the way."""

    __slots__ = ("_mask", "capture", "fd")

    def __init__(self, fd: int, bytes_max: int, secrets: Collection[str]) -> None:
        self.fd: int | None = fd
        self.capture = Capture(bytes_max)
        self._mask = Redactor(patterns(secrets)) if secrets else None

    def feed(self, data: bytes) -> None:
        self.capture.feed(data if self._mask is None else self._mask.feed(data))

    def end(self) -> None:
        """Nothing more comes."""
        if self._mask is not None:
            self.capture.feed(self._mask.end())


@dataclass(slots=True, eq=False)
class Live:
    """A run from the start of its process until all its processes are gone. `ended` is waitid's code and status.

    `key` is what `Runs` knows it by: the number of its run, or a negative one if that is another database's.
    """

    key: int
    order: RunOrder
    # Which of the guard's starts this was, from 0.
    start: int
    pid: int
    mark: str
    started_ms: int
    streams: tuple[Stream, Stream]
    why: Why | None = None
    ended: tuple[int, int] | None = None
    finished_ms: int = 0
    # When it was killed, or its strays were.
    killed_ms: int | None = None


@dataclass(slots=True)
class Happened:
    """What the guard has to tell since it last asked."""

    began: list[Began] = field(default_factory=list)
    results: list[RunResult] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    # Of these nothing was started, because the host had no room.
    unstarted: list[int] = field(default_factory=list)
    # Ends of other databases' runs, by key: a result, or None for one that was dropped.
    foreign: list[tuple[int, RunResult | None]] = field(default_factory=list)


class Runs:
    """All live runs. Every method returns soon; deadline_ms says when on_tick has something to do."""

    def __init__(self, spawner: Spawner, strays: Orphans, epoll: select.epoll, wall_ms: Callable[[], int]) -> None:
        self._spawner = spawner
        self._strays = strays
        self._epoll = epoll
        self._wall_ms = wall_ms
        self._live: dict[int, Live] = {}
        # By main process, until it is reaped.
        self._by_pid: dict[int, Live] = {}
        # Reaped, but not yet free of strays.
        self._closing: dict[int, Live] = {}
        # By session, which has the number of its main process, and keeps it from being used again; and by mark.
        self._of_session: dict[int, int] = {}
        self._of_mark: dict[str, int] = {}
        # Killed a good while ago, and still there.
        self._stuck: set[int] = set()
        self._streams: dict[int, Stream] = {}
        # When, of which start, which run, what.
        self._due: list[tuple[int, int, int, Due]] = []
        self._starts = itertools.count()
        # The last start failed for want of room, and that has been logged.
        self._no_room = False
        # An output has ended since the last reap. Mostly its process has too, and the signal is still on its way.
        self.maybe_over = False
        self.happened = Happened()

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, run: int) -> bool:
        return run in self._live

    def ids(self) -> tuple[int, ...]:
        return tuple(self._live)

    def stuck(self) -> tuple[int, ...]:
        """The live runs whose processes were killed for STUCK_MS and do not end."""
        return tuple(sorted(self._stuck))

    def captures(self, run: int) -> tuple[Capture, Capture] | None:
        """What is kept so far of a live run's output; None when it does not live."""
        live = self._live.get(run)
        return None if live is None else (live.streams[0].capture, live.streams[1].capture)

    def take(self) -> Happened:
        """What happened since the last call."""
        happened, self.happened = self.happened, Happened()
        return happened

    def start(self, order: RunOrder, mono_ms: int) -> None:
        """Start a run. One that can't be started has ended by that, as failed with reason `spawn_error`.

        One for which this host has no room now is given back unstarted.
        """
        started_ms = self._wall_ms()
        try:
            spawned = self._spawner.spawn(order)
        except SpawnError as error:
            log.info("run %d of job %d can't start: %s", order.run, order.job, error)
            self.happened.results.append(
                RunResult(order.run, "failed", "spawn_error", finished_ms=started_ms, detail=str(error)[:1024])
            )
            return
        except NoRoomError as error:
            if not self._no_room:
                log.warning("run %d of job %d goes back: no process can be started: %s", order.run, order.job, error)
            self._no_room = True
            self.happened.unstarted.append(order.run)
            return
        self._no_room = False
        streams = (self._watch(spawned.stdout, order), self._watch(spawned.stderr, order))
        live = Live(order.run, order, next(self._starts), spawned.pid, spawned.mark, started_ms, streams)
        self._live[order.run] = live
        self._by_pid[spawned.pid] = live
        self._of_session[spawned.pid] = self._of_mark[spawned.mark] = order.run
        if order.probation:
            self.happened.began.append(Began(order.run, spawned.pid, started_ms))
        else:
            self._put(mono_ms + BEGAN_AFTER_MS, live, "began")
        if order.timeout_ms is not None:
            self._put(mono_ms + order.timeout_ms, live, "timeout")
        log.debug("run %d of job %d started: process %d", order.run, order.job, spawned.pid)

    def rename(self, keys: Mapping[int, int]) -> None:
        """Know live runs by other keys: those of another database have negative ones, since each counts from 1."""
        starts = {self._live[run].start: key for run, key in keys.items()}
        for runs in (self._live, self._closing):
            moved = {key: runs.pop(run) for run, key in keys.items() if run in runs}
            runs.update(moved)
        for run, key in keys.items():
            live = self._live[key]
            live.key = key
            self._of_mark[live.mark] = key
            if self._of_session.get(live.pid) == run:
                self._of_session[live.pid] = key
        self._stuck = {keys.get(run, run) for run in self._stuck}
        self._due = [(at_ms, start, starts.get(start, run), due) for at_ms, start, run, due in self._due]
        heapq.heapify(self._due)

    def stop(self, run: int, why: Why, mono_ms: int) -> None:
        """TERM to the run's group now, KILL when its grace is over.

        Again for a run that is ending: only `dropped` counts.
        """
        live = self._live[run]
        if live.why is not None or live.ended is not None:
            live.why = "dropped" if why == "dropped" else live.why
            return
        live.why = why
        log.info("run %d of job %d: stopping it, %s", live.order.run, live.order.job, why)
        self._signal(live, signal.SIGTERM)
        self._put(mono_ms + live.order.grace_ms, live, "kill")

    def kill(self, run: int, mono_ms: int) -> None:
        """KILL to the run's group now, and again until its main process is reaped."""
        live = self._live[run]
        if live.killed_ms is None:
            live.killed_ms = mono_ms
            self._put(mono_ms + _AGAIN_MS, live, "again")
        if live.ended is None:
            self._signal(live, signal.SIGKILL)

    def on_readable(self, fd: int) -> bool:
        """Take what a pipe holds, one read at most. False: no pipe of a run."""
        stream = self._streams.get(fd)
        if stream is None:
            return False
        self._read(stream)
        return True

    def reap(self, mono_ms: int) -> list[int]:
        """Take every child that has ended. Returns those that were no run's main process: strays, or the agent."""
        others = []
        while (ended := _ended_child()) is not None:
            live = self._by_pid.get(ended.si_pid)
            if live is None:
                others.append(ended.si_pid)
                self._strays.spared.discard(ended.si_pid)
            else:
                self._signal(live, signal.SIGKILL)
            os.waitpid(ended.si_pid, 0)
            if live is not None:
                self._on_main_reaped(live, ended.si_code, ended.si_status, mono_ms)
        self._clear()
        self.maybe_over = False
        return others

    def on_tick(self, mono_ms: int) -> None:
        """Do what is due."""
        while self._due and self._due[0][0] <= mono_ms:
            _, start, run, due = heapq.heappop(self._due)
            if self._lives(start, run):
                self._on_due(self._live[run], due, mono_ms)

    def deadline_ms(self) -> int | None:
        """When on_tick has something to do, or None. Entries of runs that have ended are thrown away on the way."""
        if len(self._due) > 4 * len(self._live) + STALE_TIMERS_MAX:
            self._due = [entry for entry in self._due if self._lives(*entry[1:3])]
            heapq.heapify(self._due)
        while self._due and not self._lives(*self._due[0][1:3]):
            heapq.heappop(self._due)
        return self._due[0][0] if self._due else None

    def _put(self, at_ms: int, live: Live, due: Due) -> None:
        heapq.heappush(self._due, (at_ms, live.start, live.key, due))

    def _lives(self, start: int, run: int) -> bool:
        """Whether the run of that start lives. Its number alone is no proof: each database counts from 1."""
        live = self._live.get(run)
        return live is not None and live.start == start

    def _on_due(self, live: Live, due: Due, mono_ms: int) -> None:
        if due == "again":
            self._kill_again(live, mono_ms)
        elif due == "began":
            # Also when all that is left of it are strays that do not die. The scheduler of a foreign run is not there,
            # and learns of the start from the next register.
            if live.key > 0:
                self.happened.began.append(Began(live.key, live.pid, live.started_ms))
        elif live.ended is not None:
            return
        elif due == "timeout":
            self.stop(live.key, "timeout", mono_ms)
        elif due == "kill":
            self.kill(live.key, mono_ms)

    def _kill_again(self, live: Live, mono_ms: int) -> None:
        run = live.key
        if live.ended is None:
            self._signal(live, signal.SIGKILL)
            left = [live.pid]
        else:
            left = self._clear().get(run, [])
        if run not in self._live:
            return
        self._put(mono_ms + _AGAIN_MS, live, "again")
        if run not in self._stuck and live.killed_ms is not None and mono_ms >= live.killed_ms + STUCK_MS:
            self._stuck.add(run)
            log.error(
                "run %d of job %d is stuck: its processes %s were killed and do not end",
                live.order.run,
                live.order.job,
                left,
            )

    def _on_main_reaped(self, live: Live, code: int, status: int, mono_ms: int) -> None:
        del self._by_pid[live.pid]
        live.ended = (code, status)
        live.finished_ms = max(self._wall_ms(), live.started_ms)
        self._closing[live.key] = live
        if live.killed_ms is None:
            live.killed_ms = mono_ms
            self._put(mono_ms + _AGAIN_MS, live, "again")

    def _clear(self) -> dict[int, list[int]]:
        """Kill the strays of runs that have ended, and give out those without. Returns the strays of the others."""
        if not self._closing and self._by_pid:
            return {}
        living = {live.key for live in self._by_pid.values()}
        haunted = self._strays.kill(self._by_pid.keys(), living, self._of_session, self._of_mark)
        for live in [live for run, live in self._closing.items() if run not in haunted]:
            self._finish(live)
        return haunted

    def _signal(self, live: Live, number: int) -> None:
        """To the whole group. Its number is safe as long as the main process is not reaped."""
        # Errors: only the zombie is left, or only processes of another user, which a job may start by setuid.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(live.pid, number)

    def _watch(self, fd: int, order: RunOrder) -> Stream:
        stream = self._streams[fd] = Stream(
            fd, min(order.output_bytes_max, STREAM_BYTES_MAX), order.secret_env.values()
        )
        self._epoll.register(fd, select.EPOLLIN)
        return stream

    def _read(self, stream: Stream) -> int:
        """Bytes read; 0 when there is nothing now, or never again."""
        assert stream.fd is not None
        try:
            data = os.read(stream.fd, _READ_BYTES)
        except BlockingIOError:
            return 0
        if data:
            stream.feed(data)
        else:
            self._close(stream)
            self.maybe_over = True
        return len(data)

    def _close(self, stream: Stream) -> None:
        assert stream.fd is not None
        # Before the close: a child being spawned can hold the pipe for a moment, and its events would go on.
        self._epoll.unregister(stream.fd)
        os.close(stream.fd)
        del self._streams[stream.fd]
        stream.fd = None
        stream.end()

    def _finish(self, live: Live) -> None:
        for stream in live.streams:
            drained = 0
            while stream.fd is not None and drained < _DRAIN_BYTES_MAX and (count := self._read(stream)):
                drained += count
            if stream.fd is not None:
                self._close(stream)
        run = live.key
        del self._closing[run], self._live[run], self._of_mark[live.mark]
        if self._of_session.get(live.pid) == run:
            del self._of_session[live.pid]
        if run in self._stuck:
            self._stuck.remove(run)
            log.warning("run %d of job %d is gone after all", live.order.run, live.order.job)
        if run < 0:
            self.happened.foreign.append((run, None if live.why == "dropped" else result_of(live)))
        elif live.why == "dropped":
            self.happened.dropped.append(run)
        else:
            self.happened.results.append(result_of(live))


def _ended_child() -> os.waitid_result | None:
    """A child that has ended, left as a zombie; None when there is none."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None


def result_of(live: Live) -> RunResult:
    """How a run ended, once its main process is reaped."""
    assert live.ended is not None
    code, status = live.ended
    exit_code = status if code == os.CLD_EXITED else None
    stdout, stderr = (stream.capture.output() for stream in live.streams)
    natural: Literal["exit", "signal"] = "signal" if exit_code is None else "exit"
    # Nobody asks for the result of a dropped run.
    reason = natural if live.why is None or live.why == "dropped" else live.why
    detail = ""
    if live.why == "lease_stop" and live.order.lease_ms is not None:
        detail = f"its worker could not reach the scheduler: ended within its lease of {live.order.lease_ms / 1000:g} s"
    return RunResult(
        run=live.order.run,
        status="success" if exit_code == 0 and live.why is None else "failed",
        reason=reason,
        finished_ms=live.finished_ms,
        started_ms=live.started_ms,
        exit_code=exit_code,
        signal=status if exit_code is None else None,
        detail=detail,
        stdout=stdout,
        stderr=stderr,
    )


def wall_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000
