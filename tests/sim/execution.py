"""A run on a host: its processes as they really are, from the start of the main one until none is left."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from tests.sim.jobs import FOREVER, WORLD, Child, Script, script
from tests.sim.kernel import Pipe, Process
from tests.sim.violation import Violation
from zsched.protocol import RunOrder
from zsched.worker.guard.life import Fate, Run

if TYPE_CHECKING:
    from tests.sim.machine import Machine


# The guard's turn may have begun a little before the process.
_TURN_MS: Final = 5


class Execution:
    """It outlives its guard, until somebody sweeps it away. Its end, for the witness, is that of its main process."""

    def __init__(self, machine: Machine, order: RunOrder, mark: str) -> None:
        self.order = order
        self.script: Script = script(order.command)
        # Its run, as the witness knows it.
        self.ident = order.run + WORLD * self.script.world
        self.code: int | None = None
        # When the main process first got a signal, and KILL, and when it ended, on the timeline.
        self.told_ms: int | None = None
        self.killed_ms: int | None = None
        self.ended_ms: int | None = None
        self._machine = machine
        self._kernel = kernel = machine.kernel
        self.main = kernel.start(kernel.guard, mark)
        self.main.deaf, self.main.clings_ms = self.script.deaf, self.script.sticks_ms
        self.main.on_signal, self.main.on_end = self._on_signal, self._on_end
        self.main.on_warning = self._on_warning
        # When it began, by its host's clock; and whether it has got the signal that its job asked for.
        self.begun_mono_ms = machine.clock.mono_ms
        self.warned = False
        self.members = [self.main]
        self.outputs: tuple[Pipe, Pipe] = kernel.pipe(self.main), kernel.pipe(self.main)
        # All that its processes have written to the first output.
        self.written = bytearray()

    def begin(self) -> None:
        """The command is executed."""
        timeline, one = self._machine.timeline, self.script
        self._machine.on_start(self)
        self._machine.executions[self.ident] = self
        self._write(self.main, b"%d begins\n" % self.ident)
        for child in one.children:
            self._fork(child)
        timeline.after(one.lasts_ms, self._come_to_its_end)
        if one.mutes_ms < FOREVER:
            timeline.after(one.mutes_ms, lambda: self._kernel.mute(self.main))

    def _fork(self, child: Child) -> None:
        process = self._kernel.fork(self.main, child)
        place = {"group": "in its group", "left": "in a group of its own"}.get(child.place, "in a session of its own")
        self._tell("starts process %d, %s", process.pid, place)
        self.members.append(process)
        process.on_end = lambda code: self._on_child_end(process)
        process.on_signal = lambda number: self._machine.child_signal_seen(self._machine, self, process)

    def _write(self, writer: Process, data: bytes) -> None:
        if self._kernel.write(self.outputs[0], writer, data):
            self.written += data

    def _come_to_its_end(self) -> None:
        if self.main.alive and not self.main.clinging:
            if self.script.kills is None:
                self._write(self.main, b"%d ends\n" % self.ident)
                self._kernel.exit(self.main, self.script.code_of(self.order.task, self.order.attempt))
            else:
                self._machine.on_poison(self.order, self.script.kills)

    # --- what the judge sees -----------------------------------------------------------------------------------------

    @property
    def sticks(self) -> bool:
        """It was killed, and lives on."""
        return any(process.clinging and process.alive and not self._kernel.healed for process in self.members)

    @property
    def alive(self) -> list[Process]:
        """Its living processes."""
        return [process for process in self.members if process.alive]

    @property
    def record(self) -> Run | None:
        """What the living guard has of it."""
        guard = self._machine.guard
        return None if guard is None else guard.record_of(self.main.mark)

    @property
    def dropped(self) -> bool:
        """Whether its guard ends it without a result."""
        return self.record is not None and self.record.fate is not Fate.WANTED

    @property
    def lease_over(self) -> bool:
        """Whether its guard ends it for its lease."""
        run = self.record
        return run is not None and run.process is not None and run.process.why == "lease_stop"

    # --- what happens ------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        """Its guard sends it a signal."""
        self._machine.signal_seen(self._machine, self, number)
        self.check_warned(number)
        self.note(number)

    def _on_warning(self, number: int) -> None:
        """The signal that a job asked for comes once, before the run is stopped, and not too early."""
        lived_ms = self._machine.clock.mono_ms - self.begun_mono_ms
        wrong = number != self.order.signal or self.warned or self.told_ms is not None
        if wrong or lived_ms < self.order.signal_ms - _TURN_MS:
            raise Violation(f"run {self.ident} gets signal {number} after {lived_ms} ms: {self.order.signal_ms} ms")
        self.warned = True

    def check_warned(self, number: int) -> None:
        """A run that is stopped at its timeout has got the signal that its job asked for."""
        run = self.record
        at_timeout = run is not None and run.process is not None and run.process.why == "timeout"
        if at_timeout and self.order.signal is not None and not self.warned:
            raise Violation(f"run {self.ident} gets signal {number} at its timeout, but not {self.order.signal} before")

    def note(self, number: int) -> None:
        """It gets a signal, from anybody."""
        now_ms = self._machine.timeline.now_ms
        self.told_ms = now_ms if self.told_ms is None else self.told_ms
        if number == signal.SIGKILL and self.killed_ms is None:
            self.killed_ms = now_ms

    def _on_end(self, code: int) -> None:
        machine = self._machine
        machine.end_seen(machine, self)
        self.code, self.ended_ms = code, machine.timeline.now_ms
        machine.executions.pop(self.ident, None)
        machine.witness.end(self.ident, code)
        self._on_member_end()

    def _on_child_end(self, process: Process) -> None:
        self._tell("process %d ends", process.pid)
        self._on_member_end()

    def _tell(self, what: str, *facts: object) -> None:
        self._machine.story.tell(self._machine.name, f"run %d: {what}", self.ident, *facts)

    def _on_member_end(self) -> None:
        self._machine.member_ended(self)
