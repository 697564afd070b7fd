"""The outputs of live runs: which pipe belongs to which output. The shell uses this over its host."""

from __future__ import annotations

from typing import Final

from zsched.worker.guard.host import Host
from zsched.worker.guard.life import Process
from zsched.worker.guard.outputs import CapturedOutput
from zsched.worker.process.spawn import Spawned

# The largest pipe (fs.pipe-max-size): read at most when the last process that could write has ended.
_DRAIN_BYTES_MAX: Final = 1024 * 1024


class Pipes:
    """The open output pipes, by descriptor."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._open: dict[int, CapturedOutput] = {}
        # The pipes of each process, by its start; closed ones too.
        self._spawned: dict[int, Spawned] = {}
        # A pipe was closed by its writers since this was last reset. Mostly its process has ended too.
        self.any_closed = False

    def watch(self, process: Process, spawned: Spawned) -> None:
        """Read the pipes into the process's outputs from now on."""
        self._spawned[process.start] = spawned
        for fd, output in zip((spawned.stdout, spawned.stderr), process.outputs, strict=True):
            self._open[fd] = output
            self._host.watch(fd)

    def on_readable(self, fd: int) -> bool:
        """Read from a pipe once. False: the descriptor is not an output's."""
        output = self._open.get(fd)
        if output is None:
            return False
        self._read(fd, output)
        return True

    def finish(self, process: Process) -> None:
        """Read the rest of a process's pipes, close them, and take its notes. No process is left that could write."""
        spawned = self._spawned.pop(process.start)
        process.report, process.message = self._host.take_notes(spawned)
        for fd, output in zip((spawned.stdout, spawned.stderr), process.outputs, strict=True):
            drained = 0
            while self._open.get(fd) is output and drained < _DRAIN_BYTES_MAX and (count := self._read(fd, output)):
                drained += count
            if self._open.get(fd) is output:
                self._close(fd, output)

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
