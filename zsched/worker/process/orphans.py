"""Orphans: processes that left their run's process group. When their parents end, they become the guard's own children.

The guard is their subreaper, so the kernel's list of its children, without those it started, is the list of orphans. An
orphan in its run's session is known by that: no other process can join a session. The run of any other stands in the
environment that it was started with (sweep.py). `runs` decides about them. Only the guard uses this.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection
from typing import Final

_READ_BYTES: Final = 64 * 1024
# The kernel returns at most a page, in whole numbers. A read this short was the last.
_SHORT_BYTES: Final = 4096 - 32


class Children:
    """The kernel's list of this thread's children."""

    def __init__(self) -> None:
        # Kept open, since it is read at each run's end: that saves a third of the cost. A read is complete, because
        # children leave the list only when we reap them.
        self._fd = os.open(f"/proc/self/task/{threading.get_native_id()}/children", os.O_RDONLY | os.O_CLOEXEC)

    def strays(self, mains: Collection[int], agent: int | None) -> list[int]:
        """All children but these, which must be children that are not reaped."""
        listed = self._listed()
        # Mostly there are none, which the count shows: all known processes are children until we reap them.
        if len(listed) == len(mains) + (agent is not None):
            return []
        return [pid for pid in map(int, listed) if pid not in mains and pid != agent]

    def _listed(self) -> list[bytes]:
        data = part = os.pread(self._fd, _READ_BYTES, 0)
        while len(part) > _SHORT_BYTES:
            part = os.pread(self._fd, _READ_BYTES, len(data))
            data += part
        return data.split()


def session_of(pid: int) -> int:
    """The session of a process; 0 when it is gone."""
    try:
        return os.getsid(pid)
    except OSError:
        return 0
