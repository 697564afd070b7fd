"""A worker's state directory: its lock, and the mark of its processes.

The directory is the worker's own (mode 0700). The guard holds the lock for its whole life; the lock file's device and
inode prove to the scheduler that an earlier guard of the same directory has ended.
"""

from __future__ import annotations

import logging
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zsched.host import files

# The wait for the lock: an agent that outlived its guard sweeps under it, for a fraction of a second.
_LOCK_WAIT_S: Final = 1.0
_LOCK_RETRY_S: Final = 0.02
_MARK: Final = re.compile("[0-9a-f]{32}")

log = logging.getLogger(__name__)


class StateError(Exception):
    """The state directory can't be used. The sentence is for the operator."""


class StateLockedError(StateError):
    """Another worker holds its lock."""


@dataclass(frozen=True, slots=True)
class State:
    """An open state directory.

    `lock` is the lock file's (device, inode); `lock_fd` stays open until the process ends.
    """

    folder: Path
    spool_id: str
    lock: tuple[int, int]
    lock_fd: int


def open_state(folder: Path) -> State:
    """Create the directory if it does not exist, and lock it.

    Raises StateLockedError when another worker holds the lock, StateError when it is not a private directory of this
    user.
    """
    try:
        folder = files.resolve(folder)
        files.make_folder(folder)
        lock_fd = lock(folder)
        status = os.fstat(lock_fd)
        return State(folder, _spool_id(folder), (status.st_dev, status.st_ino), lock_fd)
    except files.InsecureError as error:
        raise StateError(str(error)) from error
    except OSError as error:
        raise StateError(f"the state directory {folder} can't be used: {error.strerror}") from error


def lock(folder: Path) -> int:
    """Take the lock. Returns its descriptor. Raises StateLockedError when it isn't free within a second.

    Raises StateError unless the directory is this user's alone; OSError.
    """
    try:
        fd = files.open_lock(folder)
    except files.InsecureError as error:
        raise StateError(str(error)) from None
    end = time.monotonic() + _LOCK_WAIT_S
    while not files.try_lock(fd):
        if time.monotonic() > end:
            os.close(fd)
            raise StateLockedError(
                f"another worker uses the state directory {folder}: stop it, or give this one its own -state-dir"
            )
        time.sleep(_LOCK_RETRY_S)
    return fd


def boot_id() -> str:
    """The kernel's random id of this boot; empty if unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _spool_id(folder: Path) -> str:
    """The random mark of this directory, created with it. A damaged one is replaced: no process carries it."""
    path = folder / "spool_id"
    with suppress(FileNotFoundError):
        mark = path.read_text("ascii", errors="replace").strip()
        if _MARK.fullmatch(mark):
            return mark
        log.error("%s is damaged: this worker's processes get a new mark from now on", path)
    spool_id = os.urandom(16).hex()
    files.replace_file(path, f"{spool_id}\n")
    return spool_id
