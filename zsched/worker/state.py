"""A worker's state directory: its lock, its mark, and who this start of it is. Only the guard opens it to stay.

The directory is the worker's own (mode 0700). The lock is held for as long as the guard lives; its place in the file
system proves to the scheduler that an earlier guard of the same directory has ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# An agent that outlived its guard sweeps under the lock, for a fraction of a second.
_LOCK_WAIT_S: Final = 1.0
_LOCK_RETRY_S: Final = 0.02


class StateError(Exception):
    """The state directory can't be used. The sentence is for the person who started the worker."""


class StateLockedError(StateError):
    """Another worker has it."""


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
    """Make the directory if there is none, and lock it.

    Raises StateLockedError when another worker holds it, StateError when it is no private directory of this user.
    """
    try:
        make_folder(folder)
        _demand_private(folder)
        lock_fd = lock(folder)
        found = os.fstat(lock_fd)
        return State(folder, _spool_id(folder), (found.st_dev, found.st_ino), lock_fd)
    except OSError as error:
        raise StateError(f"the state directory {folder} can't be used: {error.strerror}") from error


def make_folder(folder: Path) -> None:
    """Make it if there is none, and what is missing above it, so that a power cut doesn't take it. Raises OSError."""
    if not folder.parent.is_dir():
        make_folder(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    # One may write into a folder and not read it.
    with contextlib.suppress(PermissionError):
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """What was made or renamed in it is on the disk. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def lock(folder: Path) -> int:
    """The descriptor that holds the lock. Raises StateLockedError when it isn't free within a second; OSError."""
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > end:
                os.close(fd)
                raise StateLockedError(
                    f"another worker uses the state directory {folder}: stop it, or give this one its own -state-dir"
                ) from None
            time.sleep(_LOCK_RETRY_S)


def boot_id() -> str:
    """The kernel's random name of this boot, or an empty word where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def _demand_private(folder: Path) -> None:
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise StateError(f"the state directory {folder} belongs to user {found.st_uid}: give another -state-dir")
    if found.st_mode & 0o077:
        raise StateError(f"others may enter the state directory {folder}: chmod 700 it, or give another -state-dir")


def _spool_id(folder: Path) -> str:
    """The random mark of this directory, made with it. Written aside and renamed, so that no half mark is ever read."""
    path = folder / "spool_id"
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        spool_id = os.urandom(16).hex()
        fresh = folder / "spool_id.new"
        fresh.write_text(f"{spool_id}\n", "ascii")
        fresh.replace(path)
        return spool_id
