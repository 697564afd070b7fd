"""The pipes of live runs: their outputs, and their artifacts afterwards. The shell uses this over its host."""

from __future__ import annotations

import logging
from typing import Final

from zsched.model.limits import COLLECTED_BYTES_MAX
from zsched.worker.guard.host import Host
from zsched.worker.guard.life import Process, Run
from zsched.worker.guard.outputs import CapturedOutput
from zsched.worker.process.collected import Collected, read_collected
from zsched.worker.process.spawn import Spawned

# The largest pipe (fs.pipe-max-size): read at most when the last process that could write has ended.
_DRAIN_BYTES_MAX: Final = 1024 * 1024

log = logging.getLogger(__name__)


class Pipes:
    """The open pipes, by descriptor."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._open: dict[int, CapturedOutput] = {}
        # The pipes of each process, by its start; closed ones too.
        self._spawned: dict[int, Spawned] = {}
        # The pipes with artifacts: what came so far.
        self._collecting: dict[int, tuple[Run, bytearray]] = {}
        # Runs whose artifacts are complete, or can't be read.
        self._collected: list[Run] = []
        # A pipe was closed by its writers since this was last reset. Mostly its process has ended too.
        self.any_closed = False

    def watch(self, process: Process, spawned: Spawned) -> None:
        """Read the pipes into the process's outputs from now on."""
        self._spawned[process.start] = spawned
        for fd, output in zip((spawned.stdout, spawned.stderr), process.outputs, strict=True):
            self._open[fd] = output
            self._host.watch(fd)

    def on_readable(self, fd: int) -> bool:
        """Read from a pipe once. False: the descriptor is not that of a pipe."""
        output = self._open.get(fd)
        if output is None:
            if (collecting := self._collecting.get(fd)) is None:
                return False
            self._collect(fd, *collecting)
            return True
        self._read(fd, output)
        return True

    def finish(self, run: Run, *, wanted: bool) -> bool:
        """Read the rest of a run's outputs, close them, and take its notes. No process is left that could write.

        Returns whether its artifacts have to be waited for, if they are `wanted`.
        """
        process = run.live_process
        spawned = self._spawned.pop(process.start)
        process.report, process.message = self._host.take_notes(spawned)
        for fd, output in zip((spawned.stdout, spawned.stderr), process.outputs, strict=True):
            drained = 0
            while self._open.get(fd) is output and drained < _DRAIN_BYTES_MAX and (count := self._read(fd, output)):
                drained += count
            if self._open.get(fd) is output:
                self._close(fd, output)
        try:
            pipe = self._host.tidy(spawned, process.order, collect=wanted)
        except OSError as error:
            log.warning("run %d: its scratch folder is left until the next start: %s", run.number, error.strerror)
            if wanted and process.order.artifacts:
                process.collected = Collected((), 1, f"they can't be read: {error.strerror}")
            return False
        if pipe is None:
            return False
        self._collecting[pipe] = run, bytearray()
        self._host.watch(pipe)
        return True

    def give_up(self, run: Run) -> None:
        """The artifacts of a run come too late: its helper hangs, unless this process stood still."""
        for fd, (waiting, data) in list(self._collecting.items()):
            while waiting is run and fd in self._collecting and self._collect(fd, run, data):
                pass
            if waiting is run and fd in self._collecting:
                self._end_collecting(fd, run, Collected((), 1, "they could not be read in time"), kill=True)

    def take_collected(self) -> list[Run]:
        """The runs whose artifacts need not be waited for any more."""
        runs, self._collected = self._collected, []
        return runs

    def _collect(self, fd: int, run: Run, data: bytearray) -> bool:
        """Read artifacts once. Returns whether more may follow at once."""
        read = self._host.read(fd)
        if read is None:
            return False
        data += read
        if read and len(data) <= COLLECTED_BYTES_MAX:
            return True
        try:
            collected = read_collected(bytes(data))
        except ValueError as error:
            log.warning("run %d: its artifacts are damaged: %s", run.number, error)
            collected = Collected((), 1, "they could not be read")
        self._end_collecting(fd, run, collected, kill=bool(read))
        return False

    def _end_collecting(self, fd: int, run: Run, collected: Collected, *, kill: bool) -> None:
        del self._collecting[fd]
        self._host.end_helper(fd, kill=kill)
        run.live_process.collected = collected
        self._collected.append(run)

    def _read(self, fd: int, output: CapturedOutput) -> int:
        """Returns the number of bytes read: 0 when the pipe is empty, or closed by its writers."""
        data = self._host.read(fd)
        if data is None:
            return 0
        if data:
            output.feed(data)
        else:
            self._close(fd, output)
            self.any_closed = True
        return len(data)

    def _close(self, fd: int, output: CapturedOutput) -> None:
        self._host.close(fd)
        del self._open[fd]
        output.end()
