"""Strays: processes of a run that left its process group. They become the guard's own children when their parents end.

The guard is their subreaper, so the kernel's list of its children, less those it knows, is the list of strays. Whose
they are stands in the environment they were started with. Only the guard uses this.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
from collections.abc import Collection, Mapping
from typing import Final

from zsched.worker.sweep import run_of

_PR_SET_CHILD_SUBREAPER: Final = 36
_READ_BYTES: Final = 64 * 1024
# A read that is shorter than a page by more than a number was the last one.
_SHORT_BYTES: Final = 4096 - 32

log = logging.getLogger(__name__)


def become_subreaper() -> None:
    """From now on orphans among our descendants become our children. Raises OSError; Linux has this since 3.4."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


class Strays:
    """Finds and kills them. `spared` are children of ours that are no job's: the agent."""

    def __init__(self, spool_id: str) -> None:
        self._spool_id = spool_id
        self.spared: set[int] = set()
        # Kept open, since it is read at each run's end: a third of the cost. The list is whole while it is read,
        # because children leave it only when we reap them.
        self._children = os.open(f"/proc/self/task/{threading.get_native_id()}/children", os.O_RDONLY | os.O_CLOEXEC)

    def kill(
        self, mains: Collection[int], living: Collection[int], of_session: Mapping[int, int]
    ) -> dict[int, list[int]]:
        """Kill the strays of all runs but the living ones, whose main processes are `mains`.

        Returns the runs that still had strays, which are dying now, each with its strays. One whose mark can't be read
        is known by its session (`of_session`: its run). Without either it belongs to somebody unknown: it is killed
        when no run lives.
        """
        haunted: dict[int, list[int]] = {}
        for pid in self._unknown(mains):
            run = run_of(pid, self._spool_id)
            if run is None:
                run = of_session.get(_session(pid))
            if run in living or (run is None and living):
                continue
            if run is not None:
                haunted.setdefault(run, []).append(pid)
            self._kill(pid, run)
        return haunted

    def _unknown(self, mains: Collection[int]) -> list[int]:
        listed = self._listed()
        # Mostly there are none, and counting is enough to know: all that we know are children until we reap them.
        if len(listed) == len(mains) + len(self.spared):
            return []
        return [pid for pid in map(int, listed) if pid not in mains and pid not in self.spared]

    def _listed(self) -> list[bytes]:
        data = part = os.pread(self._children, _READ_BYTES, 0)
        # The kernel gives a page at most, and never half a number.
        while len(part) > _SHORT_BYTES:
            part = os.pread(self._children, _READ_BYTES, len(data))
            data += part
        return data.split()

    def _kill(self, pid: int, run: int | None) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError) as error:
            # Each half second: what is left of a run after a good while is told by those who wait for it.
            log.debug("process %d, a stray of run %s, can't be killed: %s", pid, run, error.strerror)
        else:
            log.debug("process %d killed: a stray of run %s", pid, run)


def _session(pid: int) -> int:
    """0 when the process is gone."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0
