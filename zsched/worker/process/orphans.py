"""Orphans: processes of a run that left its process group. They become the guard's own children when their parents end.

The guard is their subreaper, so the kernel's list of its children, less those it knows, is the list of strays. A
process that is still in its run's session is known by that: no other process can join it. The run of any other stands
in the environment it was started with. Only the guard uses this.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import threading
from collections.abc import Collection, Mapping
from typing import Final

from zsched.worker.process.sweep import mark_of

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


class Orphans:
    """Finds and kills them. `spared` are children of ours that are no job's: the agent."""

    def __init__(self, spool_id: str) -> None:
        self._spool_id = spool_id
        self.spared: set[int] = set()
        # Kept open, since it is read at each run's end: a third of the cost. The list is whole while it is read,
        # because children leave it only when we reap them.
        self._children = os.open(f"/proc/self/task/{threading.get_native_id()}/children", os.O_RDONLY | os.O_CLOEXEC)

    def kill(
        self, mains: Collection[int], living: Collection[int], of_session: Mapping[int, int], of_mark: Mapping[str, int]
    ) -> dict[int, list[int]]:
        """Kill the strays of all runs but the living ones, whose main processes are `mains`.

        Returns the runs that still had strays, which are dying now, each with its strays. `of_session` and `of_mark`
        have the run of each session and mark. A stray with the mark of no run has a forged one, and is killed at once;
        one without any mark is killed when no run lives.
        """
        haunted: dict[int, list[int]] = {}
        for pid in self._unknown(mains):
            mark = None
            run = of_session.get(_session(pid))
            if run is None:
                mark = mark_of(pid, self._spool_id)
                run = of_mark.get(mark or "")
            if run in living or (run is None and mark is None and living):
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
