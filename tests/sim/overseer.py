"""Judges each worker by its own deeds: what it says and hears, and what it does to its processes. Leases, and runs that
can't be ended; docs/protocol.md has the rules.

Times are those of the worker's own host. Of a lease it knows from the wire when the last frame was sent of which the
worker knows that the scheduler got it, and never more than the worker.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from tests.sim.execution import Execution
from tests.sim.guard import SimGuard
from tests.sim.jobs import WORLD, world_of
from tests.sim.machine import Machine, SimAgent
from tests.sim.timeline import Timeline
from tests.sim.violation import Violation
from tests.sim.witness import Life, Witness
from zsched.model.limits import BACKLOG_WAIT_MS_MAX, LEASE_MARGIN_MS
from zsched.protocol import (
    Dispatch,
    Error,
    Heartbeat,
    HeartbeatAck,
    Ready,
    Register,
    Registered,
    RunOrder,
    SchedulerFrame,
    WorkerFrame,
)
from zsched.worker.guard.runs import STUCK_MS

# Between a deadline and the deed: two wake-ups, and the moment until a killed process is gone.
_LATE_MS: Final = 50
# Until an agent that is refused has ended.
_REFUSED_MS: Final = 200
# Until the guard's look at what it has killed has become a word of its agent.
_TOLD_MS: Final = 3_000


class Overseer:
    """Part of the judge. `excused`: how often two runs of a task lived side by side as documented, which no worker can
    prevent: its guard stood still, or a process does not die.
    """

    def __init__(self, timeline: Timeline, witness: Witness, machines: Mapping[str, Machine]) -> None:
        self.excused = 0
        self._timeline = timeline
        self._witness = witness
        self._machines = machines
        # When registers were sent, by connection; how many have arrived; and, by session, which of them it answers.
        self._registers: dict[bytes, list[int]] = defaultdict(list)
        self._arrived: dict[bytes, int] = defaultdict(int)
        self._answered: dict[str, int] = {}
        # The world of the scheduler's database now, and that of each session; see elsewhere.py.
        self.world = 0
        self._worlds: dict[str, int] = {}
        # When each heartbeat of a session was sent.
        self._beats: dict[tuple[str, int], int] = {}
        # By host and world: until when its leases count from, and since when its guard has known it for an acked
        # heartbeat.
        self._renewed: dict[tuple[str, int], int] = {}
        self._acked: dict[tuple[str, int], tuple[int, int]] = {}
        # When an agent heard of each run last, by host.
        self._heard: dict[tuple[str, int], int] = {}
        # The last heartbeat or register of each agent: which of them, and when, by the timeline.
        self._spoke: dict[SimAgent, tuple[type, int]] = {}

    # --- the wire ----------------------------------------------------------------------------------------------------

    def on_say(self, agent: SimAgent, frame: WorkerFrame) -> None:
        """An agent sends a frame, or would if it were connected."""
        machine = agent.machine
        if isinstance(frame, Heartbeat | Ready | Register) and frame.leaving and machine.agent is agent:
            self._check_leaving(machine)
        if isinstance(frame, Heartbeat | Register):
            self._check_pace(agent, frame)
            self._spoke[agent] = (type(frame), self._timeline.now_ms)
        if isinstance(frame, Heartbeat):
            self._beats[frame.s, frame.seq] = machine.clock.mono_ms
            self._check_stuck(agent, frame)
        elif isinstance(frame, Register) and agent.connection is not None:
            self._registers[agent.connection.peer].append(machine.clock.mono_ms)

    def _check_leaving(self, machine: Machine) -> None:
        """Only who was told to end announces it."""
        if machine.guard is not None and not machine.guard.ending:
            raise Violation(f"{machine.name} announces its end, but was not told to end")

    def on_arrival(self, peer: bytes, frame: Mapping[str, Any]) -> None:
        if frame.get("t") == "register":
            self._arrived[peer] += 1

    def on_send(self, peer: bytes, frame: Mapping[str, Any]) -> None:
        """A register is answered: at most the last that has arrived."""
        if frame["t"] == "registered":
            self._worlds[frame["s"]] = self.world
        if frame["t"] == "registered" and self._registers[peer]:
            self._answered[frame["s"]] = self._registers[peer][self._arrived[peer] - 1]

    def on_hear(self, agent: SimAgent, frame: SchedulerFrame) -> None:
        """An agent has read a frame. One that is refused for good ends."""
        machine = agent.machine
        if isinstance(frame, Error) and frame.fatal:
            self._timeline.after(_REFUSED_MS, lambda: self._check_refused(agent))
        if isinstance(frame, Registered):
            self._spoke.pop(agent, None)
            self._renew(machine, self._worlds[frame.s], self._answered[frame.s])
        elif isinstance(frame, HeartbeatAck) and (frame.s, frame.seq) in self._beats:
            sent_ms = self._beats[frame.s, frame.seq]
            world = self._worlds[frame.s]
            self._renew(machine, world, sent_ms)
            if agent.agent is not None and agent.agent.registered:
                self._acked[machine.name, world] = sent_ms, machine.clock.mono_ms
        elif isinstance(frame, Dispatch):
            first = WORLD * self._worlds[frame.s]
            self._heard.update(((machine.name, first + order.run), machine.clock.mono_ms) for order in frame.runs)

    def _check_refused(self, agent: SimAgent) -> None:
        if agent.alive and self._timeline.now_ms - agent.still_ms > _REFUSED_MS:
            raise Violation(f"{agent.name} goes on, but its scheduler has refused it for good")

    def world_of_session(self, session: str) -> int:
        """The world of the database that its scheduler had."""
        return self._worlds[session]

    def _renew(self, machine: Machine, world: int, sent_ms: int) -> None:
        for execution in machine.executions.values():
            self._check_late(machine, execution)
        place = machine.name, world
        self._renewed[place] = max(self._renewed.get(place, sent_ms), sent_ms)

    def _check_pace(self, agent: SimAgent, frame: Heartbeat | Register) -> None:
        """While a run with a lease lives, heartbeats come each tenth of it, and registers each twentieth."""
        before, since_ms = self._spoke.get(agent, (None, 0))
        guard = agent.machine.guard
        stood_still = agent.still_ms >= since_ms or guard is None or guard.still_ms >= since_ms
        if before is not type(frame) or stood_still:
            return
        clock = agent.machine.clock
        gap_ms = clock.mono_ms - clock.at(since_ms)
        for execution in agent.machine.executions.values():
            lease_ms = execution.order.lease_ms
            if lease_ms is None or not agent.machine.guards(execution):
                continue
            home = agent.agent is not None and world_of(agent.agent._holdings.db) == execution.script.world
            if not home or execution.dropped:
                # Nobody renews the lease of a run of another database.
                continue
            most_ms = max(50, lease_ms // (10 if isinstance(frame, Heartbeat) else 20)) + _LATE_MS
            if gap_ms > most_ms and self._witness.lives[execution.ident].started_ms <= since_ms:
                raise Violation(
                    f"{agent.name} holds run {execution.order.run} with a lease of {lease_ms} ms, but sends a"
                    f" {type(frame).__name__.lower()} {gap_ms} ms after the last"
                )

    # --- leases ------------------------------------------------------------------------------------------------------

    def on_start(self, machine: Machine, execution: Execution, *, alone: bool) -> None:
        """A process has started. `alone`: no other of its task may live. Nothing starts that has waited for longer than
        two seconds since the agent heard of it, on the way to the guard and there.
        """
        order = execution.order
        heard_ms = machine.clock.mono_ms - self._heard[machine.name, execution.ident]
        if heard_ms > 2 * BACKLOG_WAIT_MS_MAX:
            raise Violation(f"run {order.run} starts on {machine.name} {heard_ms} ms after it was heard of")
        if alone:
            if order.lease_ms is None:
                raise Violation(f"run {order.run} stops at a disconnect, but starts on {machine.name} without a lease")
            for life in self._witness.alive_of(order.job + WORLD * execution.script.world):
                if life.run == execution.ident:
                    continue
                if self._machines[life.host].executions[life.run].order.task == order.task:
                    self._check_overlap(machine, order, life)
            self._check_leftovers(machine, execution)
        if order.lease_ms is None:
            return
        since_ms = machine.clock.mono_ms - self._renewed[machine.name, execution.script.world]
        if since_ms >= order.lease_ms * 7 // 10:
            raise Violation(f"run {order.run} starts on {machine.name} {since_ms} ms after its lease began to count")

    def _check_overlap(self, machine: Machine, order: RunOrder, life: Life) -> None:
        """Never two runs of a task that stops at a disconnect at once, whatever happens to its workers; but for a
        process that no KILL ends, and for a guard that stands still from before it had to kill.
        """
        other = self._machines[life.host]
        execution = other.executions[life.run]
        assert execution.order.lease_ms is not None
        margin_ms = max(LEASE_MARGIN_MS, execution.order.lease_ms // 30)
        if execution.main.clinging or stands_still(other.guard, self._timeline.now_ms, margin_ms):
            self.excused += 1
            return
        raise Violation(
            f"run {order.run} of job {order.job} starts on {machine.name}, but run {life.run} of the same task lives on"
            f" {life.host}"
        )

    def _check_leftovers(self, machine: Machine, execution: Execution) -> None:
        """Nor beside what an earlier run of the task has left, unless its guard stands still, or is dead."""
        task = execution.order.job, execution.order.task, execution.script.world
        for other in self._machines.values():
            for left in other.leftovers.values():
                lasting = [process for process in left.alive if not process.clinging]
                if (
                    (left.order.job, left.order.task, left.script.world) != task
                    or not lasting
                    or not other.guards(left)
                ):
                    continue
                if not stands_still(other.guard, self._timeline.now_ms, LEASE_MARGIN_MS):
                    raise Violation(
                        f"run {execution.order.run} starts on {machine.name}, but a process that run {left.order.run}"
                        f" has left lives on {other.name}"
                    )

    def on_signal(self, machine: Machine, execution: Execution, number: int) -> None:
        """A guard sends a signal to a process, which has not noted it yet."""
        self._check_late(machine, execution)
        if execution.lease_over and number == signal.SIGTERM:
            self._check_early(machine, execution)

    def on_end(self, machine: Machine, execution: Execution) -> None:
        """A process is about to end."""
        self._check_late(machine, execution)

    def _check_late(self, machine: Machine, execution: Execution) -> None:
        """A run is told to end at 0.7 of its lease, and killed at 0.9."""
        lease_ms, guard = execution.order.lease_ms, machine.guard
        if lease_ms is None or guard is None or not machine.guards(execution):
            return
        clock = machine.clock
        renewed_ms = self._renewed[machine.name, execution.script.world]
        told_ms, killed_ms = execution.told_ms, execution.killed_ms
        for done_ms, what, share in ((told_ms, "told to end", 7), (killed_ms, "killed", 9)):
            due_ms = max(renewed_ms + lease_ms * share // 10, clock.at(guard.still_ms))
            late_ms = clock.mono_ms - due_ms
            if done_ms is None and late_ms > _LATE_MS:
                raise Violation(
                    f"run {execution.order.run} on {machine.name} should have been {what} {late_ms} ms ago by its lease"
                )

    def _check_early(self, machine: Machine, execution: Execution) -> None:
        """No lease ends while the scheduler is reached."""
        guard, now_ms = machine.guard, machine.clock.mono_ms
        sent_ms, known_ms = self._acked.get((machine.name, execution.script.world), (0, now_ms))
        assert guard is not None
        assert execution.order.lease_ms is not None
        if now_ms - known_ms <= _LATE_MS or self._timeline.now_ms - guard.still_ms <= _LATE_MS:
            return
        if now_ms < sent_ms + execution.order.lease_ms * 7 // 10:
            heard = f"{machine.name} was heard {now_ms - sent_ms} ms ago"
            raise Violation(f"run {execution.order.run} is ended by its lease, but {heard}")

    # --- what does not end -------------------------------------------------------------------------------------------

    def _check_stuck(self, agent: SimAgent, frame: Heartbeat) -> None:
        """Of what a heartbeat lists it names those that were killed long ago, and no more is taken meanwhile."""
        machine = agent.machine
        guard, now_ms = machine.guard, self._timeline.now_ms
        if frame.window and self._disk_fails(agent):
            raise Violation(f"the disk of {agent.name} fails, but it takes {frame.window}")
        if frame.stuck and frame.window:
            raise Violation(f"{agent.name} can't end runs {frame.stuck}, but takes {frame.window}")
        stood_still = guard is None or now_ms - max(guard.still_ms, agent.still_ms, agent.up_ms) < _TOLD_MS
        if stood_still or machine.agent is not agent or agent.agent is None or agent.agent._holdings.changing:
            return
        for run in {held.run for held in frame.runs}.difference(frame.stuck):
            ident = run + WORLD * self._worlds[frame.s]
            execution = machine.executions.get(ident) or machine.leftovers.get(ident)
            if execution is None or not execution.sticks or not machine.guards(execution):
                continue
            # Orphans are killed when their run ends.
            killed_ms = execution.killed_ms if execution.ended_ms is None else execution.ended_ms
            assert killed_ms is not None
            since_ms = machine.clock.mono_ms - machine.clock.at(killed_ms)
            if since_ms > STUCK_MS + _TOLD_MS:
                raise Violation(f"{agent.name} says nothing of run {run}, which it killed {since_ms} ms ago")

    def _disk_fails(self, agent: SimAgent) -> bool:
        """Whether an agent must know by now that its guard can't keep results."""
        machine, now_ms = agent.machine, self._timeline.now_ms
        guard = machine.guard
        if guard is None or machine.agent is not agent or guard.failed_ms is None:
            return False
        return now_ms - max(guard.still_ms, agent.still_ms, agent.up_ms, guard.failed_ms) > _LATE_MS


def stands_still(guard: SimGuard | None, now_ms: int, margin_ms: int) -> bool:
    """Whether it has stood still for so long, until now or until a moment ago."""
    return guard is not None and guard.still_since_ms + margin_ms <= now_ms <= guard.still_ms + _LATE_MS
