"""Judges what a guard does to the processes of its runs, and what it keeps on its disk. Part of the judge.

It looks at processes and files, never at what the guard believes, and forgives a guard that stands still.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final

from tests.sim.execution import Execution
from tests.sim.guard import SimGuard
from tests.sim.jobs import WORLD, world_of
from tests.sim.kernel import Process
from tests.sim.machine import Machine, SimAgent
from tests.sim.timeline import Timeline
from tests.sim.violation import Violation
from zsched.model.limits import AGENT_SILENT_MS_MAX
from zsched.protocol import Output, RunResult
from zsched.worker.guard.life import Phase
from zsched.worker.guard.spool import RETRY_MS
from zsched.worker.messages import Ended, Hello, Message, Snapshot

# Between a deadline and the deed, by the slowest clock: some wake-ups, and the moment until a killed process is gone.
_LATE_MS: Final = 60
# Orphans that were killed once and live are killed again after half a second.
_ORPHANS_MS: Final = 1_200
# Until the guard has noticed that none of a run's processes is left.
_NOTICED_MS: Final = 700
# The longest time for which a guard waits for the helper that reads artifacts, and until it looks.
_COLLECTED_MS: Final = 16_000
# The longest silence that an agent may announce, and the time until its guard looks, twice.
_STOPPED_MS: Final = AGENT_SILENT_MS_MAX + 10_500


class Inspector:
    """Part of the judge."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        # What each run has written, by the witness's number.
        self._written: dict[int, bytearray] = {}
        # Since when each host's disk is well, and its guard has not written a new file.
        self._well_ms: dict[str, int] = {}

    # --- signals -----------------------------------------------------------------------------------------------------

    def on_start(self, machine: Machine, execution: Execution) -> None:
        """At most as many runs live as there are slots. One that takes longer than its timeout is told to end."""
        live = [one for one in (*machine.executions.values(), *machine.leftovers.values()) if machine.guards(one)]
        if len(live) >= machine.habits.slots:
            raise Violation(f"run {execution.order.run} starts on {machine.name} beside {len(live)} others")
        self._written[execution.ident] = execution.written
        if (timeout_ms := execution.order.timeout_ms) is not None:
            clock = machine.clock
            due_ms = clock.moment(clock.mono_ms + timeout_ms) + _LATE_MS
            self._look_at(due_ms, machine, lambda: self._check_timeout(machine, execution))

    def _check_timeout(self, machine: Machine, execution: Execution) -> None:
        if execution.code is None and execution.told_ms is None and machine.guards(execution):
            order = execution.order
            raise Violation(f"run {order.run} on {machine.name} goes on after its timeout of {order.timeout_ms} ms")

    def on_signal(self, machine: Machine, execution: Execution, number: int) -> None:
        """A guard signals a living main process, which has not noted it yet. TERM comes first, KILL after the grace."""
        order, clock = execution.order, machine.clock
        if number == signal.SIGTERM and execution.told_ms is None:
            due_ms = clock.moment(clock.mono_ms + order.grace_ms) + _LATE_MS
            self._look_at(due_ms, machine, lambda: self._check_killed(machine, execution))
        elif number == signal.SIGKILL and order.lease_ms is None and execution.killed_ms is None:
            told_ms = execution.told_ms
            if told_ms is None or clock.mono_ms < clock.at(told_ms) + order.grace_ms:
                raise Violation(f"run {order.run} on {machine.name} gets KILL at once, not after {order.grace_ms} ms")

    def _check_killed(self, machine: Machine, execution: Execution) -> None:
        if execution.code is None and execution.killed_ms is None and machine.guards(execution):
            late_ms, grace_ms = self._timeline.now_ms - (execution.told_ms or 0), execution.order.grace_ms
            when = f"TERM {late_ms} ms ago, and no KILL after its grace of {grace_ms} ms"
            raise Violation(f"run {execution.order.run} on {machine.name} got {when}")

    def on_child_signal(self, machine: Machine, execution: Execution, process: Process) -> None:
        """A guard signals a process that a job has started: not while the job runs and nobody ends it."""
        if execution.code is None and execution.told_ms is None:
            raise Violation(
                f"process {process.pid} of run {execution.order.run} on {machine.name} is killed, but its run goes on"
            )

    # --- the end of a run --------------------------------------------------------------------------------------------

    def on_main_end(self, machine: Machine, execution: Execution) -> None:
        """What a job leaves does not live on."""
        if machine.guards(execution) and len(execution.members) > 1:
            due_ms = self._timeline.now_ms + _ORPHANS_MS
            self._look_at(due_ms, machine, lambda: self._check_orphans(machine, execution))

    def _check_orphans(self, machine: Machine, execution: Execution) -> None:
        left = [process.pid for process in execution.alive if not process.clinging]
        if left and machine.guards(execution):
            gap_ms = self._timeline.now_ms - (execution.ended_ms or 0)
            raise Violation(
                f"processes {left} of run {execution.order.run} live on {machine.name} {gap_ms} ms after its end"
            )

    def on_over(self, machine: Machine, execution: Execution) -> None:
        """None of a run's processes is left: the guard notices, whatever holds the run's outputs."""
        if machine.guards(execution):
            due_ms = self._timeline.now_ms + _NOTICED_MS
            self._look_at(due_ms, machine, lambda: self._check_noticed(machine, execution))

    def _check_noticed(self, machine: Machine, execution: Execution, *, late: bool = False) -> None:
        if not machine.guards(execution) or (run := execution.record) is None:
            return
        if run.phase is Phase.COLLECTING and execution.order.artifacts and not late:
            # A helper reads its artifacts, which may hang.
            due_ms = self._timeline.now_ms + _COLLECTED_MS
            self._look_at(due_ms, machine, lambda: self._check_noticed(machine, execution, late=True))
        else:
            raise Violation(f"run {execution.order.run} is over on {machine.name}, but its guard does not report it")

    def on_report(self, machine: Machine, message: Message) -> None:
        """A guard tells its agent how runs have ended: none of their processes lives, and their output is complete."""
        match message:
            case Ended() | Snapshot():
                results, gone = message.results, message.gone if isinstance(message, Ended) else ()
            case Hello():
                results, gone = message.snapshot.results, ()
            case _:
                return
        assert machine.guard is not None
        first = WORLD * world_of(machine.guard.db)
        for result in results:
            self._check_output(result, first)
        for run in (*(result.run for result in results), *gone):
            self._check_gone(machine, first + run)

    def _check_gone(self, machine: Machine, ident: int) -> None:
        execution = machine.executions.get(ident) or machine.leftovers.get(ident)
        if execution is not None and machine.guards(execution):
            left = [process.pid for process in execution.alive]
            raise Violation(f"{machine.name} reports the end of run {execution.order.run}, but processes {left} live")

    def _check_output(self, result: RunResult, first: int) -> None:
        written = self._written.get(first + result.run)
        if result.started_ms is None or written is None:
            return
        kept: Output = result.stdout
        if kept.head + kept.tail != written:
            raise Violation(f"run {result.run} has written {bytes(written)!r}, but its result has {kept}")

    # --- the agent ---------------------------------------------------------------------------------------------------

    def on_agent_stopped(self, agent: SimAgent) -> None:
        """A signal stops an agent: its guard replaces it, unless it goes on before that."""
        since_ms = agent.stopped_ms
        self._timeline.after(_STOPPED_MS, lambda: self._check_replaced(agent, since_ms))

    def _check_replaced(self, agent: SimAgent, since_ms: int) -> None:
        machine, now_ms = agent.machine, self._timeline.now_ms
        guard = machine.guard
        if guard is None or machine.agent is not agent or not agent.stopped or agent.stopped_ms != since_ms:
            return
        if now_ms < guard.still_ms + _STOPPED_MS:
            # A guard that stood still gives its agent the whole time again.
            self._timeline.at(guard.still_ms + _STOPPED_MS, lambda: self._check_replaced(agent, since_ms))
            return
        raise Violation(f"the agent of {machine.name} stands still for {now_ms - since_ms} ms, and is not replaced")

    # --- the disk ----------------------------------------------------------------------------------------------------

    def turned(self, machine: Machine, guard: SimGuard) -> None:
        """A guard has taken a turn. Soon after a disk is well again it has all results that were reported."""
        disk, now_ms = machine.disk, self._timeline.now_ms
        if disk.trouble is not None:
            self._well_ms.pop(machine.name, None)
        elif disk.failed:
            since_ms = max(self._well_ms.setdefault(machine.name, now_ms), guard.still_ms, guard.began_ms)
            if now_ms - since_ms > RETRY_MS + _LATE_MS + RETRY_MS // 20:
                raise Violation(f"the disk of {machine.name} is well, but its guard has not written a new file")
        elif self._well_ms.pop(machine.name, None) is not None:
            for run in guard.results:
                if not disk.holds(run):
                    raise Violation(f"the disk of {machine.name} is well, but does not have the result of run {run}")

    def check_acked(self, machine: Machine) -> None:
        """When all is quiet: what the scheduler has acked is no longer on disk."""
        guard, disk = machine.guard, machine.disk
        if guard is None or disk.ever_failed:
            return
        if left := disk.kept().difference(guard.results):
            raise Violation(f"the disk of {machine.name} keeps results of runs {sorted(left)}, which were acked")

    # --- when --------------------------------------------------------------------------------------------------------

    def _look_at(self, due_ms: int, machine: Machine, check: Callable[[], None]) -> None:
        """At that moment, or a moment after the guard has gone on."""

        def look() -> None:
            guard, now_ms = machine.guard, self._timeline.now_ms
            if guard is not None and guard.still_ms + _NOTICED_MS > now_ms and guard.still_ms >= due_ms - _ORPHANS_MS:
                self._timeline.at(guard.still_ms + _NOTICED_MS, look)
            else:
                check()

        self._timeline.at(due_ms, look)
