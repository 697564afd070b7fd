"""The live runs of this worker: watched and ended. Pure; the core calls it, and the shell does what it decides.

A run is over when its main process has been reaped, not at the end of its output. Its process group is killed before
that, while the zombie keeps the number from being used again. Then its orphans are killed, processes that left the
group. The run ends only when none of them is left.
"""

from __future__ import annotations

import itertools
import logging
import signal
from collections.abc import Collection, Iterable, KeysView
from typing import Final

from msgspec import structs

from zsched.model.limits import COLLECT_MS_MAX
from zsched.protocol import RunResult
from zsched.worker.guard import outcome
from zsched.worker.guard.effects import Effects, Orphan
from zsched.worker.guard.life import Event, Exit, Phase, Process, Run, Why
from zsched.worker.guard.outputs import CapturedOutput
from zsched.worker.guard.timers import Due, Timers

# A run that ends earlier reports its start only with its result.
BEGAN_AFTER_MS: Final = 100
# How often processes that were killed and have not ended are killed again.
_AGAIN_MS: Final = 500
# After this long they count as stuck: in uninterruptible sleep, as on a dead network disk, or no longer ours to kill.
STUCK_MS: Final = 10_000
# The phases of runs whose main process has ended.
_ENDED: Final = (Phase.CLOSING, Phase.COLLECTING)

log = logging.getLogger(__name__)


class Runs:
    """All live runs of all databases. `began`: runs whose start the agent has to know; the core empties it."""

    def __init__(self, effects: Effects) -> None:
        self.began: list[Run] = []
        self._effects = effects
        self._timers = Timers()
        # By main process, until it is reaped; and the runs whose main process is reaped.
        self._mains: dict[int, Run] = {}
        self._closing: dict[int, Run] = {}
        # By session and by mark. A session's number is its main process's.
        self._of_session: dict[int, Run] = {}
        self._of_mark: dict[str, Run] = {}
        # The marks of orphans that were killed and are not reaped: an exiting process has no environment any more.
        self._killed_marks: dict[int, str] = {}
        self._starts = itertools.count()
        self._stuck: dict[int, Run] = {}
        self._stuck_changed = False
        # Closing runs whose orphans were to be killed again.
        self._unchecked: list[Run] = []
        self._scan = False

    def __len__(self) -> int:
        return len(self._mains) + len(self._closing)

    @property
    def mains(self) -> KeysView[int]:
        """The main processes that are not reaped."""
        return self._mains.keys()

    @property
    def stuck(self) -> Collection[Run]:
        """Runs whose processes were killed STUCK_MS ago and have not ended."""
        return self._stuck.values()

    def take_stuck_changed(self) -> bool:
        """Whether `stuck` has changed since the last call."""
        changed, self._stuck_changed = self._stuck_changed, False
        return changed

    @property
    def scan_due(self) -> bool:
        """Whether the shell must look for orphans, and report them with on_orphans."""
        return self._scan and (bool(self._closing) or not self._mains)

    # --- starting and stopping ---------------------------------------------------------------------------------------

    def on_spawned(self, run: Run, pid: int, mark: str, started_ms: int, now_ms: int) -> Process:
        """The main process of a run exists. `started_ms`: the wall clock before its start."""
        order = run.order
        assert order is not None
        if order.stdin is not None or order.files:
            # The job has them: kept for the time of each run, inputs and files would take 2 MiB a slot.
            files = tuple(structs.replace(file, data=b"") for file in order.files)
            order = run.order = structs.replace(order, stdin=None, files=files)
        outputs = CapturedOutput(order), CapturedOutput(order)
        process = run.process = Process(order, next(self._starts), pid, mark, started_ms, outputs)
        run.move(Event.SPAWNED)
        self._mains[pid] = self._of_session[pid] = self._of_mark[mark] = run
        if order.probation:
            self.began.append(run)
        else:
            self._timers.add(now_ms + BEGAN_AFTER_MS, run, "began")
        if order.signal is not None:
            self._timers.add(now_ms + order.signal_ms, run, "signal")
        if order.timeout_ms is not None:
            self._timers.add(now_ms + order.timeout_ms, run, "timeout")
        log.debug("run %d of job %d started: process %d", order.run, order.job, pid)
        return process

    def stop(self, run: Run, why: Why | None, now_ms: int) -> None:
        """TERM to a running run's group now, KILL after its grace. A later stop changes nothing."""
        if run.phase is not Phase.RUNNING:
            return
        process, order = run.live_process, run.live_process.order
        run.move(Event.STOP)
        process.why = why
        log.info("run %d of job %d: stopping it, %s", order.run, order.job, why or run.fate.value)
        self._effects.signals.append((process.pid, signal.SIGTERM))
        self._timers.add(now_ms + order.grace_ms, run, "kill")

    def kill(self, run: Run, now_ms: int) -> None:
        """KILL to a stopped run's group now, and again until its main process is reaped."""
        if run.phase is Phase.ENDING:
            run.move(Event.KILL)
            self._on_killed(run, run.live_process, now_ms)
            self._effects.signals.append((run.live_process.pid, signal.SIGKILL))

    def _on_killed(self, run: Run, process: Process, now_ms: int) -> None:
        if process.killed_ms is None:
            process.killed_ms = now_ms
            self._timers.add(now_ms + _AGAIN_MS, run, "again")

    # --- timers ------------------------------------------------------------------------------------------------------

    def on_tick(self, now_ms: int) -> None:
        """Do what is due."""
        while (timer := self._timers.pop(now_ms)) is not None:
            self._on_due(*timer, now_ms)

    def deadline_ms(self) -> int | None:
        """When on_tick has something to do, or None."""
        return self._timers.deadline_ms()

    def _on_due(self, run: Run, due: Due, now_ms: int) -> None:
        if run.phase is Phase.COLLECTING and due not in ("began", "collect"):
            # It has no process.
            return
        match due:
            case "collect":
                self._effects.late.append(run)
            case "began":
                # Also when only orphans that do not die are left of it.
                self.began.append(run)
            case "signal":
                self._warn(run)
            case "timeout":
                self.stop(run, "timeout", now_ms)
            case "kill":
                self.kill(run, now_ms)
            case "again":
                self._kill_again(run, now_ms)

    def _warn(self, run: Run) -> None:
        """Send the job's own signal to the main process of a run that has not been stopped."""
        order = run.order
        if run.phase is Phase.RUNNING and order is not None and order.signal is not None:
            log.debug("run %d of job %d: signal %d before its timeout", order.run, order.job, order.signal)
            self._effects.warnings.append((run.live_process.pid, order.signal))

    def _kill_again(self, run: Run, now_ms: int) -> None:
        process = run.live_process
        self._timers.add(now_ms + _AGAIN_MS, run, "again")
        if run.phase is Phase.CLOSING:
            self._unchecked.append(run)
            self._scan = True
        else:
            self._effects.signals.append((process.pid, signal.SIGKILL))
            self._check_stuck(run, [process.pid], now_ms)

    def _check_stuck(self, run: Run, left: list[int], now_ms: int) -> None:
        process, order = run.live_process, run.live_process.order
        if not process.stuck and process.killed_ms is not None and now_ms >= process.killed_ms + STUCK_MS:
            process.stuck = self._stuck_changed = True
            self._stuck[process.start] = run
            log.error(
                "run %d of job %d is stuck: its processes %s were killed and do not end", order.run, order.job, left
            )

    # --- reaping -----------------------------------------------------------------------------------------------------

    def on_exit(self, ended: Exit, wall_ms: int, now_ms: int) -> None:
        """A child has been reaped. If it was a main process, its group was killed before that."""
        run = self._mains.pop(ended.pid, None)
        if run is None:
            self._killed_marks.pop(ended.pid, None)
            return
        process = run.live_process
        run.move(Event.EXIT)
        process.exit = ended
        process.finished_ms = max(wall_ms, process.started_ms)
        self._closing[process.start] = run
        self._on_killed(run, process, now_ms)

    def on_reaped(self) -> None:
        """All ended children have been reported."""
        self._scan = True

    def is_unknown(self, pid: int, session: int) -> bool:
        """Whether only the orphan's mark can identify its run. Reading a mark blocks while the process hangs."""
        return pid not in self._killed_marks and session not in self._mains

    def on_orphans(self, orphans: Iterable[Orphan], now_ms: int) -> list[Run]:
        """Kill the orphans of all runs but those whose main process lives. Returns the runs of which none is left.

        An orphan with an unknown mark has forged it, and is killed at once; one without any mark is killed when no main
        process lives. The caller reads the rest of the outputs of the returned runs, and removes them.
        """
        self._scan = False
        left: dict[int, list[int]] = {}
        for orphan in orphans:
            mark = self._killed_marks.get(orphan.pid) or orphan.mark
            # The mark first: a session's number is used again once its main process is reaped and nobody is in it.
            run = self._of_mark.get(mark or "") or self._of_session.get(orphan.session)
            if (run is None and mark is None and self._mains) or (run is not None and run.phase not in _ENDED):
                continue
            if run is not None and run.process is not None:
                left.setdefault(run.process.start, []).append(orphan.pid)
            if mark:
                self._killed_marks[orphan.pid] = mark
            self._effects.kills.append(orphan.pid)
            # At level debug, since this is repeated each half second. A run that does not end is logged as stuck.
            log.debug("killing process %d: an orphan of run %s", orphan.pid, None if run is None else run.number)
        for run in self._unchecked:
            if run.process is not None and run.process.start in left:
                self._check_stuck(run, left[run.process.start], now_ms)
        self._unchecked.clear()
        return [run for start, run in self._closing.items() if start not in left and run.phase is not Phase.COLLECTING]

    def on_collecting(self, run: Run, now_ms: int) -> None:
        """None of a run's processes is left, and its artifacts are being read."""
        run.move(Event.COLLECT)
        self._timers.add(now_ms + COLLECT_MS_MAX, run, "collect")

    def remove(self, run: Run) -> RunResult:
        """None of a run's processes is left, and its outputs are complete. Returns its result."""
        process, order = run.live_process, run.live_process.order
        self._timers.forget(process.start)
        del self._closing[process.start], self._of_mark[process.mark]
        if self._of_session.get(process.pid) is run:
            del self._of_session[process.pid]
        if process.stuck:
            self._stuck_changed = True
            del self._stuck[process.start]
            log.warning("run %d of job %d has ended after all", order.run, order.job)
        # The order has secrets, and the result may wait for days.
        run.process = run.order = None
        return outcome.result_of(run.number, process)
