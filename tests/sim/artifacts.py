"""Artifacts of jobs: what each run leaves, how a helper reads it on a host, and what the judge holds against it.

The content names the run, so that artifacts of another run, or of an earlier attempt, are seen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from tests.sim.kernel import Pipe, Process
from tests.sim.scheduler import Scheduler
from tests.sim.violation import Violation
from zsched.model.limits import FILES_BYTES_MAX

if TYPE_CHECKING:
    from tests.sim.judge import Row
    from tests.sim.machine import Machine

# The pattern that jobs ask for, which is also the name of the file.
PATTERN: Final = "out"
# The share of a client's jobs that have artifacts, of helpers that hang, and of those that die.
SHARE: Final = 0.08
_HANGS: Final = 0.03
_DIES: Final = 0.03
# How long a helper takes at most.
_READ_MS: Final = 40
# Of so many runs, one leaves more than fits a frame.
_LARGE: Final = 5

_STORED: Final = "SELECT listing, data FROM artifacts WHERE run_id = ?"
_ASKED: Final = "SELECT artifacts FROM jobs JOIN runs USING (job_id) WHERE run_id = ?"
_LEFT_OUT: Final = "SELECT count(*) FROM events WHERE became = 'artifacts_left_out' AND detail LIKE ?"
# The reasons of ends that a worker has reported, and that nothing else can have.
_REPORTED: Final = ("exit", "signal")


def content_of(run: int) -> bytes:
    """What a run leaves, by its number in its own database."""
    line = b"left by run %d\n" % run
    return line * (FILES_BYTES_MAX // len(line) if run % _LARGE == 0 else 1)


class Helpers:
    """The helper processes of one guard. `spoiled`: the runs whose artifacts they could not read."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._chance = Random(repr(machine.chance.getstate()) + "leaves")
        self._of_pipe: dict[int, Process] = {}
        self.pids: set[int] = set()

    def start(self, run: int) -> int:
        """Read the artifacts of a run. Returns the pipe."""
        machine, kernel = self._machine, self._machine.kernel
        helper = kernel.start(kernel.guard)
        pipe = kernel.pipe(helper)
        self.pids.add(helper.pid)
        self._of_pipe[pipe.fd] = helper
        luck = self._chance.random()
        if luck < _HANGS + _DIES:
            machine.spoiled.add(run)
        if luck >= _HANGS:
            dies = luck < _HANGS + _DIES
            machine.timeline.after(self._chance.randint(0, _READ_MS), lambda: self._end(helper, pipe, run, dies=dies))
        return pipe.fd

    def _end(self, helper: Process, pipe: Pipe, run: int, *, dies: bool) -> None:
        kernel = self._machine.kernel
        data = content_of(run)
        header = json.dumps({"files": [[PATTERN, len(data), 0o644]], "left_out": 0, "why": []}).encode()
        kernel.write(pipe, helper, (len(header).to_bytes(4, "big") + header + data)[: 7 if dies else None])
        kernel.exit(helper, 0)

    def close(self, fd: int, *, kill: bool) -> None:
        helper = self._of_pipe.pop(fd)
        if kill:
            self._machine.kernel.exit(helper, -9)

    def reap(self, pid: int) -> None:
        self.pids.discard(pid)


class Artifacts:
    """The judge's part: a run has its own artifacts, whole, once it has ended by itself; no other run has any."""

    def __init__(self, scheduler: Scheduler, machines: Mapping[str, Machine]) -> None:
        self._scheduler = scheduler
        self._machines = machines

    def check(self, row: Row) -> None:
        """A run has ended."""
        look = self._scheduler.engine.look
        stored = look(_STORED, row.run)
        asked = any(patterns is not None for (patterns,) in look(_ASKED, row.run))
        spoiled = any(row.run in machine.spoiled for machine in self._machines.values())
        if not stored:
            if asked and row.reason in _REPORTED and not spoiled:
                raise Violation(f"run {row.run} has ended by {row.reason}, and its artifacts are lost")
            if asked and row.reason in _REPORTED and not look(_LEFT_OUT, f"run {row.run}:%")[0][0]:
                raise Violation(f"run {row.run} has no artifacts, and no event says so")
            return
        [(listing, data)] = stored
        expected = content_of(row.run)
        if not asked or bytes(data) != expected or json.loads(listing) != [[PATTERN, len(expected), 0o644]]:
            raise Violation(f"run {row.run} has artifacts that it did not leave: {listing}, {bytes(data)[:30]!r}")
        if row.reason == "worker_lost":
            raise Violation(f"run {row.run} was lost, and has artifacts")
