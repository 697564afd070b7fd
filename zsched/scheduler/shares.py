"""Shares of the limit of open files: the scheduler's own files, connections of workers, and connections of REST.

Pure, except for one line of the log. The scheduler computes them once, at its start.
"""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass
from typing import Final

from zsched.model.limits import (
    CONNECTIONS_MAX,
    FILES_RESERVED,
    SOCKET_CONNECTIONS_MAX,
    WAITERS_MAX,
    WORKER_CONNECTIONS_MAX,
)

# It has 37 of its own (measured); the rest is for connections that are accepted before they are counted as excess.
_OWN: Final = 64
# A thread of REST reads the database by a connection of its own: the file and its WAL.
_PER_THREAD: Final = 2
# Where the limit is too low for FILES_RESERVED, connections of workers may use this part of it, and at most half of
# what the scheduler's own files leave.
_WORKERS_PART: Final = 4
# Of the remaining files, the Unix socket gets this part, and TCP the rest.
_SOCKET_PART: Final = 4
# A waiting caller may use a connection and the files of a thread: one for this many files of the limit.
_WAITERS_PART: Final = 32
# However low the limit is, each share is at least this.
_LEAST: Final = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Shares:
    """The most connections of the workers' port, and of REST over TCP and by the Unix socket; and the most callers that
    wait.
    """

    workers: int = WORKER_CONNECTIONS_MAX
    tcp: int = CONNECTIONS_MAX
    socket: int = SOCKET_CONNECTIONS_MAX
    waiters: int = WAITERS_MAX


def shares(files_max: int, threads: int) -> Shares:
    """The shares of a limit of open files (RLIMIT_NOFILE), with this many threads of REST for short calls."""
    # Half of the threads may wait; each further waiting caller gets another thread (Server.keep_threads_free).
    spare = threads // 2
    if files_max == resource.RLIM_INFINITY:
        return Shares(waiters=max(spare, WAITERS_MAX))
    waiters = max(spare, min(WAITERS_MAX, files_max // _WAITERS_PART))
    left = files_max - _OWN - _PER_THREAD * (threads + waiters - spare)
    workers = max(files_max - FILES_RESERVED, min(files_max // _WORKERS_PART, left // 2))
    workers = max(_LEAST, min(WORKER_CONNECTIONS_MAX, workers))
    by_socket = (left - workers) // _SOCKET_PART
    tcp = left - workers - by_socket
    return Shares(
        workers,
        max(_LEAST, min(CONNECTIONS_MAX, tcp)),
        max(_LEAST, min(SOCKET_CONNECTIONS_MAX, by_socket)),
        waiters,
    )


def warn_of_few_files(files_max: int, allowed: Shares) -> None:
    """Log, once at the start, that a limit of open files is too low to keep FILES_RESERVED for everything else."""
    if files_max != resource.RLIM_INFINITY and files_max - FILES_RESERVED < files_max // _WORKERS_PART:
        log.warning(
            "the limit of open files is %d: it allows %d workers, and %d connections of REST; set it to %d"
            " (LimitNOFILE= of the unit, or ulimit -n)",
            files_max,
            allowed.workers,
            allowed.tcp + allowed.socket,
            FILES_RESERVED + WORKER_CONNECTIONS_MAX,
        )
