"""The live runs of this worker: started, watched and ended. Single-threaded; only the guard uses this.

A run is over when its main process has been reaped, not at the end of its output. Its process group is killed before
that, while the zombie keeps the number from being used again. Then its orphans are killed, processes that left the
group. The run is reported only when none of them is left.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from zsched.protocol import RunOrder, RunResult
from zsched.worker.guard.live import LiveRun, Why
from zsched.worker.guard.pipes import Pipes
from zsched.worker.guard.timers import Due, Timers
from zsched.worker.messages import Began
from zsched.worker.process.capture import Capture
from zsched.worker.process.orphans import Orphans
from zsched.worker.process.spawn import NoRoomError, Spawner, SpawnError

# A run that ends earlier reports its start only with its result.
BEGAN_AFTER_MS: Final = 100
# How often processes that were killed and have not ended are killed again.
_AGAIN_MS: Final = 500
# After this long they count as stuck: in uninterruptible sleep, as on a dead network disk, or no longer ours to kill.
STUCK_MS: Final = 10_000

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Happened:
    """Events of runs since the last `take`."""

    began: list[Began] = field(default_factory=list)
    results: list[RunResult] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)
    # Runs that were not started, because the host had no room.
    unstarted: list[int] = field(default_factory=list)
    # Other databases' runs that ended, by key: a result, or None for a dropped run.
    foreign: list[tuple[int, RunResult | None]] = field(default_factory=list)


class Runs:
    """All live runs by key. No method blocks; deadline_ms says when on_tick has something to do."""

    def __init__(self, spawner: Spawner, orphans: Orphans, epoll: select.epoll, wall_ms: Callable[[], int]) -> None:
        self._spawner = spawner
        self._orphans = orphans
        self._wall_ms = wall_ms
        self._pipes = Pipes(epoll)
        self._timers = Timers()
        self._live: dict[int, LiveRun] = {}
        # By main process, until it is reaped.
        self._by_pid: dict[int, LiveRun] = {}
        # Runs whose main process is reaped, and that may still have orphans.
        self._closing: dict[int, LiveRun] = {}
        # Keys by session and by mark. A session's number is its main process's, and is not reused while it exists.
        self._of_session: dict[int, int] = {}
        self._of_mark: dict[str, int] = {}
        self._stuck: set[int] = set()
        self._starts = itertools.count()
        # The last start failed for lack of room, which is logged already.
        self._no_room = False
        self._happened = Happened()

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, run: int) -> bool:
        return run in self._live

    def ids(self) -> tuple[int, ...]:
        return tuple(self._live)

    def stuck(self) -> tuple[int, ...]:
        """Live runs whose processes were killed STUCK_MS ago and have not ended."""
        return tuple(sorted(self._stuck))

    def captures(self, run: int) -> tuple[Capture, Capture] | None:
        """The captured outputs of a live run so far; None when it does not live."""
        live = self._live.get(run)
        return None if live is None else (live.outputs[0].capture, live.outputs[1].capture)

    @property
    def maybe_over(self) -> bool:
        """Whether an output has ended since the last reap. Mostly its process has too, and SIGCHLD is on its way."""
        return self._pipes.any_closed

    def take(self) -> Happened:
        """The events since the last call."""
        happened, self._happened = self._happened, Happened()
        return happened

    def on_readable(self, fd: int) -> bool:
        """Read from an output once. False: the descriptor is not an output's."""
        return self._pipes.on_readable(fd)

    # --- starting and stopping ---------------------------------------------------------------------------------------

    def start(self, order: RunOrder, mono_ms: int) -> None:
        """Start a run. One that can't be started ends at once, as failed with reason `spawn_error`.

        One for which this host has no room now is returned unstarted.
        """
        started_ms = self._wall_ms()
        try:
            spawned = self._spawner.spawn(order)
        except SpawnError as error:
            log.info("run %d of job %d can't start: %s", order.run, order.job, error)
            self._happened.results.append(
                RunResult(order.run, "failed", "spawn_error", finished_ms=started_ms, detail=str(error)[:1024])
            )
            return
        except NoRoomError as error:
            if not self._no_room:
                log.warning("run %d of job %d is returned: no process can be started: %s", order.run, order.job, error)
            self._no_room = True
            self._happened.unstarted.append(order.run)
            return
        self._no_room = False
        outputs = (self._pipes.watch(spawned.stdout, order), self._pipes.watch(spawned.stderr, order))
        live = LiveRun(order.run, order, next(self._starts), spawned.pid, spawned.mark, started_ms, outputs)
        self._live[order.run] = live
        self._by_pid[spawned.pid] = live
        self._of_session[spawned.pid] = self._of_mark[spawned.mark] = order.run
        if order.probation:
            self._happened.began.append(Began(order.run, spawned.pid, started_ms))
        else:
            self._timers.add(mono_ms + BEGAN_AFTER_MS, live, "began")
        if order.timeout_ms is not None:
            self._timers.add(mono_ms + order.timeout_ms, live, "timeout")
        log.debug("run %d of job %d started: process %d", order.run, order.job, spawned.pid)

    def rename(self, keys: Mapping[int, int]) -> None:
        """Give live runs other keys. Runs of another database have negative keys, since each numbers from 1."""
        for runs in (self._live, self._closing):
            renamed = {key: runs.pop(run) for run, key in keys.items() if run in runs}
            runs.update(renamed)
        for run, key in keys.items():
            live = self._live[key]
            live.key = key
            self._of_mark[live.mark] = key
            if self._of_session.get(live.pid) == run:
                self._of_session[live.pid] = key
        self._stuck = {keys.get(run, run) for run in self._stuck}

    def stop(self, run: int, why: Why, mono_ms: int) -> None:
        """TERM to the run's group now, KILL after its grace. A later stop postpones nothing; it can only drop the run,
        so that it has no result.
        """
        live = self._live[run]
        if live.why is not None or live.ended is not None:
            live.why = "dropped" if why == "dropped" else live.why
            return
        live.why = why
        log.info("run %d of job %d: stopping it, %s", live.order.run, live.order.job, why)
        self._signal(live, signal.SIGTERM)
        self._timers.add(mono_ms + live.order.grace_ms, live, "kill")

    def kill(self, run: int, mono_ms: int) -> None:
        """KILL to the run's group now, and again until its main process is reaped."""
        live = self._live[run]
        self._on_killed(live, mono_ms)
        if live.ended is None:
            self._signal(live, signal.SIGKILL)

    def _on_killed(self, live: LiveRun, mono_ms: int) -> None:
        if live.killed_ms is None:
            live.killed_ms = mono_ms
            self._timers.add(mono_ms + _AGAIN_MS, live, "again")

    def _signal(self, live: LiveRun, number: int) -> None:
        """Send to the whole group. Its number is safe until the main process is reaped."""
        # Errors: only the zombie is left, or only processes of another user, which a job may start by setuid.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(live.pid, number)

    # --- timers ------------------------------------------------------------------------------------------------------

    def on_tick(self, mono_ms: int) -> None:
        """Do what is due."""
        while (timer := self._timers.pop(mono_ms)) is not None:
            self._on_due(*timer, mono_ms)

    def deadline_ms(self) -> int | None:
        """When on_tick has something to do, or None."""
        return self._timers.deadline_ms()

    def _on_due(self, live: LiveRun, due: Due, mono_ms: int) -> None:
        if due == "again":
            self._kill_again(live, mono_ms)
        elif due == "began":
            # Also when only orphans that do not die are left of it. The scheduler of a foreign run is not connected,
            # and learns of the start from the next register.
            if live.key > 0:
                self._happened.began.append(Began(live.key, live.pid, live.started_ms))
        elif live.ended is not None:
            return
        elif due == "timeout":
            self.stop(live.key, "timeout", mono_ms)
        elif due == "kill":
            self.kill(live.key, mono_ms)

    def _kill_again(self, live: LiveRun, mono_ms: int) -> None:
        if live.ended is None:
            self._signal(live, signal.SIGKILL)
            left = [live.pid]
        else:
            left = self._finish_clear().get(live.key, [])
        if live.key not in self._live:
            return
        self._timers.add(mono_ms + _AGAIN_MS, live, "again")
        if live.key not in self._stuck and live.killed_ms is not None and mono_ms >= live.killed_ms + STUCK_MS:
            self._stuck.add(live.key)
            log.error(
                "run %d of job %d is stuck: its processes %s were killed and do not end",
                live.order.run,
                live.order.job,
                left,
            )

    # --- reaping -----------------------------------------------------------------------------------------------------

    def reap(self, mono_ms: int) -> list[int]:
        """Reap every child that has ended. Returns those that were not a run's main process: orphans, or the agent."""
        others = []
        while (ended := _ended_child()) is not None:
            live = self._by_pid.get(ended.si_pid)
            if live is None:
                others.append(ended.si_pid)
            else:
                self._signal(live, signal.SIGKILL)
            os.waitpid(ended.si_pid, 0)
            if live is None:
                self._orphans.on_reaped(ended.si_pid)
            else:
                self._on_main_reaped(live, ended.si_code, ended.si_status, mono_ms)
        self._finish_clear()
        self._pipes.any_closed = False
        return others

    def _on_main_reaped(self, live: LiveRun, code: int, status: int, mono_ms: int) -> None:
        del self._by_pid[live.pid]
        live.ended = (code, status)
        live.finished_ms = max(self._wall_ms(), live.started_ms)
        self._closing[live.key] = live
        self._on_killed(live, mono_ms)

    def _finish_clear(self) -> dict[int, list[int]]:
        """Kill the orphans of ended runs, and finish the runs without any. Returns the orphans of the others."""
        if not self._closing and self._by_pid:
            return {}
        living = {live.key for live in self._by_pid.values()}
        orphans = self._orphans.kill(self._by_pid.keys(), living, self._of_session, self._of_mark)
        for live in [live for run, live in self._closing.items() if run not in orphans]:
            self._finish(live)
        return orphans

    def _finish(self, live: LiveRun) -> None:
        for output in live.outputs:
            self._pipes.finish(output)
        run = live.key
        self._timers.forget(live)
        del self._closing[run], self._live[run], self._of_mark[live.mark]
        if self._of_session.get(live.pid) == run:
            del self._of_session[live.pid]
        if run in self._stuck:
            self._stuck.remove(run)
            log.warning("run %d of job %d has ended after all", live.order.run, live.order.job)
        if run < 0:
            self._happened.foreign.append((run, None if live.why == "dropped" else live.result()))
        elif live.why == "dropped":
            self._happened.dropped.append(run)
        else:
            self._happened.results.append(live.result())


def _ended_child() -> os.waitid_result | None:
    """A child that has ended, left as a zombie; None when there is none."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None


def wall_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000
