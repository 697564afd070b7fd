"""Which processes belong to a worker's jobs, told by their environment, and how to end those that nobody watches.

Each job's processes carry ZSCHED_SPOOL, the worker's own mark, and ZSCHED_MARK, a random one of their run. Only
processes with the worker's mark are ever touched. Used by the guard for strays of a run, by both processes for what an
ended guard left behind. Linux: reads /proc.

A job can change both for what it starts. But it can't guess the mark of another run; it would have to read it in the
environment of a process of that run, which must be of the same user.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import Final

from zsched.model.limits import SWEEP_S_MAX

MARK: Final = "ZSCHED_SPOOL"
RUN_MARK: Final = "ZSCHED_MARK"

# A process that is being started has its mark a moment later: so the sweep looks again, and has to find nothing twice.
_LOOK_AGAIN_S: Final = 0.02

log = logging.getLogger(__name__)


def mark_of(pid: int, spool_id: str) -> str | None:
    """What a process carries as the mark of its run, empty for nothing.

    None: no process of this worker, or already gone, or another user's.
    """
    marks = _marks(pid)
    return marks.get(RUN_MARK, "") if marks.get(MARK) == spool_id else None


def sweep(spool_id: str) -> int:
    """Kill every process of this worker's jobs on this host, until none is found twice in a row. Returns how many.

    Takes at least 20 ms and at most 10 s; what does not die until then is logged and left.
    """
    killed: set[int] = set()
    quiet = 0
    end = time.monotonic() + SWEEP_S_MAX
    while quiet < 2:
        found = _marked(spool_id)
        quiet = 0 if found else quiet + 1
        for pid in found:
            _kill(pid)
        killed.update(found)
        if time.monotonic() > end:
            log.error("left behind: processes %s do not die", sorted(found))
            break
        if quiet < 2:
            time.sleep(_LOOK_AGAIN_S)
    return len(killed)


def _marked(spool_id: str) -> list[int]:
    # A worker may itself have been started by a job, even by one of its own mark; it does not kill itself.
    own = {os.getpid(), os.getppid()}
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return [pid for pid in pids if pid not in own and _marks(pid).get(MARK) == spool_id]


def _marks(pid: int) -> dict[str, str]:
    """ZSCHED_SPOOL and ZSCHED_MARK in the environment that the process was started with. Empty for a zombie."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    found = {}
    for entry in environ.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name in (b"ZSCHED_SPOOL", b"ZSCHED_MARK"):
            found[name.decode()] = value.decode(errors="replace")
    return found


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        log.warning("left behind: process %d may not be killed", pid)
