"""Identifying a worker's job processes by their environment, and killing those of an earlier guard. Linux: /proc.

Each job process carries ZSCHED_SPOOL, the worker's mark, and ZSCHED_MARK, the random mark of its run. Only processes
with the worker's mark are ever touched. The guard uses this for a run's orphans, and both processes after the end of a
guard.

A job can change both marks for the processes that it starts. But it can't guess the mark of another run: it would have
to read it in the environment of a process of that run, which must belong to the same user.
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

# A process that is being started has its mark a moment later, so the sweep repeats until it finds nothing twice.
_LOOK_AGAIN_S: Final = 0.02

log = logging.getLogger(__name__)


def mark_of(pid: int, spool_id: str) -> str | None:
    """The run mark of a process of this worker, empty without one.

    None: the process is not this worker's, has ended, or can't be read.
    """
    marks = _marks(pid)
    return marks.get(RUN_MARK, "") if marks.get(MARK) == spool_id else None


def sweep(spool_id: str) -> int:
    """Kill all processes of this worker's jobs on this host, until none is found twice in a row. Returns their number.

    Takes at least 20 ms and at most 10 s; processes that do not end by then are logged and left.
    """
    killed: set[int] = set()
    quiet = 0
    end = time.monotonic() + SWEEP_S_MAX
    while quiet < 2:
        pids = _marked(spool_id)
        quiet = 0 if pids else quiet + 1
        for pid in pids:
            _kill(pid)
        killed.update(pids)
        if time.monotonic() > end:
            log.error("left behind: processes %s were killed and do not end", sorted(pids))
            break
        if quiet < 2:
            time.sleep(_LOOK_AGAIN_S)
    return len(killed)


def _marked(spool_id: str) -> list[int]:
    # A job may have started this worker, even a job with its own mark; it does not kill itself.
    own = {os.getpid(), os.getppid()}
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return [pid for pid in pids if pid not in own and _marks(pid).get(MARK) == spool_id]


def _marks(pid: int) -> dict[str, str]:
    """ZSCHED_SPOOL and ZSCHED_MARK from the environment that the process was started with. Empty for a zombie."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    marks = {}
    for entry in environ.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name in (b"ZSCHED_SPOOL", b"ZSCHED_MARK"):
            marks[name.decode()] = value.decode(errors="replace")
    return marks


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        log.warning("left behind: no permission to kill process %d", pid)
