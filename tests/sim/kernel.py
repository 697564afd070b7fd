"""A host's operating system as far as a worker knows it: processes, groups, sessions, zombies, signals and pipes.

Process ids and descriptors are given out as low as possible, so that a number is used again as soon as Linux might.
The guard is the subreaper of its jobs: what loses its parent becomes the guard's child, or init's when it is dead.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Final

from tests.sim.jobs import Child
from tests.sim.timeline import Timeline

# The first numbers that this host gives out.
_PID_MIN: Final = 100
_FD_MIN: Final = 10
# How long a signal takes to end a process, at most.
_DEATH_MS: Final = 30


class Pipe:
    """A pipe whose reading end is the guard's. `writers`: processes with the other end open."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.data = bytearray()
        self.writers: set[Process] = set()

    @property
    def readable(self) -> bool:
        return bool(self.data) or not self.writers


class Process:
    """One process. `parent` None: init, which reaps at once. `status`: exit code or signal, once it has ended; it is
    a zombie until its parent has reaped it. `clings_ms`: how long it outlives a KILL.
    """

    def __init__(self, pid: int, parent: Process | None, mark: str) -> None:
        self.pid = self.group = self.session = pid
        self.parent = parent
        self.mark = mark
        self.deaf = False
        self.clings_ms = 0
        self.clinging = False
        # It is exiting, and has no environment any more.
        self.fading = False
        self.status: tuple[int | None, int | None] | None = None
        self.on_end: Callable[[int], None] = lambda code: None
        self.on_signal: Callable[[int], None] = lambda number: None
        self.on_warning: Callable[[int], None] = lambda number: None

    @property
    def alive(self) -> bool:
        return self.status is None


class Kernel:
    """`on_child` is called when a child of the guard has ended, `on_data` when a pipe may have become readable.
    `healed`: KILL ends everything.
    """

    def __init__(self, timeline: Timeline, chance: Random) -> None:
        self._timeline = timeline
        self._chance = chance
        self._processes: dict[int, Process] = {}
        self._pipes: dict[int, Pipe] = {}
        self.guard: Process | None = None
        self.healed = False
        self.on_child: Callable[[], None] = lambda: None
        self.on_data: Callable[[], None] = lambda: None

    def __iter__(self) -> Iterator[Process]:
        """Living processes."""
        return iter([process for process in self._processes.values() if process.alive])

    # --- a worker's processes ----------------------------------------------------------------------------------------

    def start(self, parent: Process | None, mark: str = "") -> Process:
        """A new process in a session of its own."""
        process = Process(self._free_pid(), parent, mark)
        self._processes[process.pid] = process
        return process

    def fork(self, parent: Process, child: Child) -> Process:
        """A child of a job's process, with its mark, its outputs, and its own life."""
        process = self.start(parent, parent.mark)
        if child.place in ("group", "left"):
            process.session = parent.session
        if child.place == "group":
            process.group = parent.group
        process.deaf, process.clings_ms = child.deaf, child.sticks_ms
        for pipe in self._pipes.values():
            if child.holds and parent in pipe.writers:
                pipe.writers.add(process)
        if child.place == "daemon":
            process.parent = self._reaper(parent)
        self._timeline.after(child.lasts_ms, lambda: self.exit(process, 0))
        return process

    def exit(self, process: Process, code: int) -> None:
        """`code`: negative for a signal. What sticks does not end by itself either."""
        if not process.alive or (process.clinging and not self.healed and code != -signal.SIGKILL):
            return
        process.status = (code, None) if code >= 0 else (None, -code)
        for pipe in self._pipes.values():
            pipe.writers.discard(process)
        for child in [one for one in self._processes.values() if one.parent is process]:
            child.parent = self._reaper(process)
            if not child.alive:
                self._bury(child)
        own = process.parent is not None and process.parent is self.guard
        if not own:
            self._bury(process)
        process.on_end(code)
        if own:
            self.on_child()
        self.on_data()

    def kill_guard(self) -> None:
        """Its children are init's, its descriptors are closed."""
        guard, self.guard = self.guard, None
        self._pipes.clear()
        for process in list(self._processes.values()):
            if process.parent is guard:
                process.parent = None
                if not process.alive:
                    self._bury(process)
        if guard is not None:
            self._bury(guard)

    def _reaper(self, process: Process) -> Process | None:
        """Who gets the children of a process that ends."""
        return self.guard if self.guard is not None and self._descends(process) else None

    def _descends(self, process: Process) -> bool:
        """Whether a process is the guard's child, or a child's child."""
        parent: Process | None = process
        while parent is not None and parent is not self.guard:
            parent = parent.parent
        return parent is not None

    def _bury(self, process: Process) -> None:
        self._processes.pop(process.pid, None)

    def _free_pid(self) -> int:
        used = {number for one in self._processes.values() for number in (one.pid, one.group, one.session)}
        return next(pid for pid in count(_PID_MIN) if pid not in used)

    # --- signals -----------------------------------------------------------------------------------------------------

    def signal(self, process: Process, number: int) -> None:
        """A process gets a signal."""
        if not process.alive:
            return
        if number == signal.SIGKILL and process.clings_ms and not self.healed:
            if not process.clinging:
                process.clinging = True
                self._timeline.after(process.clings_ms, lambda: self.exit(process, -signal.SIGKILL))
        elif number == signal.SIGKILL or not process.deaf:
            process.fading |= self._chance.random() < 0.5
            gap_ms = self._chance.randint(0, _DEATH_MS)
            self._timeline.after(gap_ms, lambda: self.exit(process, -number))

    def die(self, process: Process) -> None:
        """KILL from somebody else than the guard: it ends at once, if it can."""
        if process.clings_ms and not self.healed:
            self.signal(process, signal.SIGKILL)
        else:
            self.exit(process, -signal.SIGKILL)

    # --- what the guard calls ----------------------------------------------------------------------------------------

    def killpg(self, group: int, number: int) -> None:
        """Raises ProcessLookupError."""
        members = [one for one in self._processes.values() if one.group == group]
        if not members:
            raise ProcessLookupError
        for process in members:
            self._send(process, number)

    def has_living(self, group: int) -> bool:
        """Whether a process of that group lives."""
        return any(one.group == group and one.alive for one in self._processes.values())

    def kill(self, pid: int, number: int) -> None:
        """Raises ProcessLookupError."""
        if pid not in self._processes:
            raise ProcessLookupError
        self._send(self._processes[pid], number)

    def warn(self, pid: int, number: int) -> None:
        """A signal that a job has asked for: it ends nothing here. Raises ProcessLookupError."""
        if pid not in self._processes:
            raise ProcessLookupError
        if self._processes[pid].alive:
            self._processes[pid].on_warning(number)

    def _send(self, process: Process, number: int) -> None:
        if process.alive:
            process.on_signal(number)
            self.signal(process, number)

    def children(self) -> list[int]:
        """The guard's, also those that have ended and are not reaped."""
        return [one.pid for one in self._processes.values() if one.parent is self.guard]

    def ended_child(self) -> Process | None:
        """A zombie of the guard's."""
        ended = (one for one in self._processes.values() if one.parent is self.guard and not one.alive)
        return next(ended, None)

    def reap(self, pid: int) -> None:
        assert not self._processes[pid].alive
        del self._processes[pid]

    def session(self, pid: int) -> int:
        """0 without such a process."""
        return self._processes[pid].session if pid in self._processes else 0

    def mark_of(self, pid: int) -> str | None:
        """The mark in its environment; what is exiting has none any more."""
        process = self._processes.get(pid)
        return process.mark if process is not None and process.alive and not process.fading else None

    # --- pipes -------------------------------------------------------------------------------------------------------

    def pipe(self, writer: Process) -> Pipe:
        fd = next(fd for fd in count(_FD_MIN) if fd not in self._pipes)
        pipe = self._pipes[fd] = Pipe(fd)
        pipe.writers.add(writer)
        return pipe

    def write(self, pipe: Pipe, writer: Process, data: bytes) -> bool:
        """Returns whether it can be read: the writer has not closed its end, nor the guard the other one."""
        if writer not in pipe.writers or self._pipes.get(pipe.fd) is not pipe:
            return False
        pipe.data += data
        self.on_data()
        return True

    def mute(self, writer: Process) -> None:
        """It closes its outputs."""
        for pipe in self._pipes.values():
            if writer in pipe.writers:
                pipe.writers.discard(writer)
                self.on_data()

    def readable(self) -> list[int]:
        return [pipe.fd for pipe in self._pipes.values() if pipe.readable]

    def read(self, fd: int, most: int) -> bytes | None:
        """None: nothing is there now; b"": all writers have closed it."""
        pipe = self._pipes[fd]
        if not pipe.data and pipe.writers:
            return None
        data = bytes(pipe.data[:most])
        del pipe.data[:most]
        return data

    def close(self, fd: int) -> None:
        del self._pipes[fd]
