"""The exclusive lock on a folder of keys and socket, so that one process at a time uses them.

The lock's file holds the pid of that process.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from zsched.host import files
from zsched.store.contract import StoreError, StoreLocked, StoreLoose

Inode = tuple[int, int]


class FolderLock:
    """An flock on the file `lock` in a folder, held until `close` or the process's end. `folder` has no links."""

    def __init__(self, folder: Path) -> None:
        """Take it. Creates the folder (0700) if it is missing. Raises StoreLocked, StoreLoose, StoreError."""
        self.folder = folder
        try:
            self.folder = files.resolve(folder)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            self._lock = files.open_lock(self.folder)
        except files.InsecureError as error:
            raise StoreLoose(str(error)) from None
        except OSError as error:
            raise StoreError(f"can't use the folder {self.folder}: {error.strerror}") from None
        try:
            _hold(self._lock, self.folder)
        except BaseException:
            self.close()
            raise

    def keep(self) -> bool:
        """Create the folder and its lock again if they were removed; returns whether they were.

        Raises StoreLocked, InsecureError, OSError.
        """
        if displaced(self.folder / "lock", inode_of(os.fstat(self._lock))) is None:
            return False
        self.folder.mkdir(mode=0o700, exist_ok=True)
        lock = files.open_lock(self.folder)
        try:
            _hold(lock, self.folder)
        except BaseException:
            os.close(lock)
            raise
        before, self._lock = self._lock, lock
        os.close(before)
        return True

    def close(self) -> None:
        os.close(self._lock)


def _hold(lock: int, folder: Path) -> None:
    """Take the lock of a folder, by its open file, and write our pid into it. Raises StoreLocked."""
    if not files.try_lock(lock):
        holder = os.read(lock, 32).decode(errors="replace").strip()
        raise StoreLocked(f"another scheduler (process {holder or 'unknown'}) holds {folder / 'lock'}") from None
    # Only a message needs it, and the disk may be full.
    with suppress(OSError):
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())


def inode_of(status: os.stat_result) -> Inode:
    """What a file is, whatever its name."""
    return status.st_dev, status.st_ino


def displaced(path: Path, inode: Inode) -> str | None:
    """What happened to a file's name, as a predicate; None while it names this inode."""
    try:
        return None if inode_of(path.lstat()) == inode else "was replaced"
    except (FileNotFoundError, NotADirectoryError):
        return "was deleted or moved"
    except OSError:
        # The folder can't be searched at the moment, which proves nothing about the file.
        return None
