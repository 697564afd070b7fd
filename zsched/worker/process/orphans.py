"""Orphans: processes that left their run's process group. When their parents end, they become the guard's own children.

The guard is their subreaper, so the kernel's list of its children, without those it started, is the list of orphans. An
orphan in its run's session is known by that: no other process can join a session. The run of any other stands in the
environment that it was started with. Only the guard uses this.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Collection, Mapping
from typing import Final

from zsched.worker.process.sweep import mark_of

_READ_BYTES: Final = 64 * 1024
# The kernel returns at most a page, in whole numbers. A read this short was the last.
_SHORT_BYTES: Final = 4096 - 32

log = logging.getLogger(__name__)


class Orphans:
    """Finds and kills orphans. `spared` are children that no job started: the agent."""

    def __init__(self, spool_id: str) -> None:
        self._spool_id = spool_id
        self.spared: set[int] = set()
        # The marks of orphans that were killed and are not reaped: an exiting process has no environment any more.
        self._killed_marks: dict[int, str] = {}
        # Kept open, since it is read at each run's end: that saves a third of the cost. A read is complete, because
        # children leave the list only when we reap them.
        self._children = os.open(f"/proc/self/task/{threading.get_native_id()}/children", os.O_RDONLY | os.O_CLOEXEC)

    def kill(
        self, mains: Collection[int], living: Collection[int], of_session: Mapping[int, int], of_mark: Mapping[str, int]
    ) -> dict[int, list[int]]:
        """Kill the orphans of all runs but the living ones, whose main processes are `mains`.

        Returns the runs that still have orphans, with these; they are dying now. `of_session` and `of_mark` have the
        run of each session and mark. An orphan with an unknown mark has forged it, and is killed at once; one without
        any mark is killed when no run lives.
        """
        orphans: dict[int, list[int]] = {}
        for pid in self._unknown(mains):
            mark = None
            run = of_session.get(_session(pid))
            if run is None:
                mark = self._killed_marks.get(pid) or mark_of(pid, self._spool_id)
                run = of_mark.get(mark or "")
            if run in living or (run is None and mark is None and living):
                continue
            if run is not None:
                orphans.setdefault(run, []).append(pid)
            if mark:
                self._killed_marks[pid] = mark
            self._kill(pid, run)
        return orphans

    def on_reaped(self, pid: int) -> None:
        """A child that was not a run's main process has been reaped."""
        self.spared.discard(pid)
        self._killed_marks.pop(pid, None)

    def _unknown(self, mains: Collection[int]) -> list[int]:
        listed = self._listed()
        # Mostly there are none, which the count shows: all known processes are children until we reap them.
        if len(listed) == len(mains) + len(self.spared):
            return []
        return [pid for pid in map(int, listed) if pid not in mains and pid not in self.spared]

    def _listed(self) -> list[bytes]:
        data = part = os.pread(self._children, _READ_BYTES, 0)
        while len(part) > _SHORT_BYTES:
            part = os.pread(self._children, _READ_BYTES, len(data))
            data += part
        return data.split()

    def _kill(self, pid: int, run: int | None) -> None:
        try:
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError) as error:
            # At level debug, since this is repeated each half second. A run that does not end is logged as stuck.
            log.debug("process %d, an orphan of run %s, can't be killed: %s", pid, run, error.strerror)
        else:
            log.debug("process %d killed: an orphan of run %s", pid, run)


def _session(pid: int) -> int:
    """The session of a process; 0 when it is gone."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0
