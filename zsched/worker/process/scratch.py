"""Scratch folders: where a run's small files are put, and where its artifacts are read. Only the guard uses this.

Only runs with files or artifacts have one. Those of the worker's own user are in its state directory. Those of other
users are in a folder under /tmp where only root can make entries, so that no user can put a link there. What is in a
scratch folder is a job's doing, so the guard never looks into it: collect.py reads and removes it, as the job's user.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from zsched.model.files import File, path_fault

VARIABLE: Final = "ZSCHED_SCRATCH"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

log = logging.getLogger(__name__)


class Scratch:
    """The scratch folders of one guard."""

    def __init__(self, state_dir: Path) -> None:
        self._own = state_dir / "scratch"
        self._link = state_dir / "scratch.shared"
        self._shared = ""

    def left(self) -> list[str]:
        """Folders with what an earlier guard has left, to be removed. Before the first `make`."""
        old = self._own.with_name("scratch.old")
        with contextlib.suppress(OSError):
            self._own.rmdir()
        for place in (old, old / os.urandom(8).hex()):
            with contextlib.suppress(OSError):
                self._own.rename(place)
        return [folder for folder in (str(old), *self._linked()) if os.path.isdir(folder)]

    def _linked(self) -> list[str]:
        """The shared folder of an earlier guard, if it is ours alone."""
        try:
            path = os.readlink(self._link)
            status = os.lstat(path)
        except OSError:
            return []
        ours = status.st_uid == os.geteuid() and stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o022
        return [path] if ours else []

    def make(self, mark: str, ids: tuple[int, int] | None, files: Iterable[File]) -> str:
        """A new folder with these files, and its path. `ids`: user and group of a job of another user. Raises OSError.

        Nothing is left after an error.
        """
        parent = self._parent(ids)
        path = f"{parent}/{mark}"
        os.mkdir(path, 0o700)
        try:
            top = os.open(path, _FOLDER)
            try:
                _fill(top, ids, files)
            finally:
                os.close(top)
        except BaseException:
            self.unmake(path)
            raise
        return path

    def _parent(self, ids: tuple[int, int] | None) -> str:
        if ids is None:
            self._own.mkdir(mode=0o700, exist_ok=True)
            return str(self._own)
        if not os.path.isdir(self._shared):
            path = f"{tempfile.gettempdir()}/zsched-scratch-{os.urandom(8).hex()}"
            # Before the folder, so that none is forgotten when the disk of the link is full.
            self._link.unlink(missing_ok=True)
            self._link.symlink_to(path)
            os.mkdir(path, 0o700)
            Path(path).chmod(0o711)
            # systemd-tmpfiles leaves a locked folder alone, however old its files are.
            lock = os.open(path, _FOLDER)
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            self._shared = path
        return self._shared

    @staticmethod
    def unmake(path: str) -> None:
        """Remove a folder in which no job has run: it has at most the files that the guard itself has made. It may be
        another user's by then, so each part is opened without following a link.
        """
        shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Remove what is empty. The next guard removes the rest."""
        for folder in (self._shared, str(self._own)):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _fill(top: int, ids: tuple[int, int] | None, files: Iterable[File]) -> None:
    """Write files below an open folder. The folder is the job's user's at the end, not before."""
    for file in files:
        if fault := path_fault(file.path):
            raise ValueError(f"invalid path in its files: {fault}")
        *folders, name = file.path.split("/")
        folder = os.dup(top)
        try:
            for part in folders:
                inner = _enter(folder, part, ids)
                os.close(folder)
                folder = inner
            _write(folder, name, file, ids)
        finally:
            os.close(folder)
    if ids is not None:
        os.fchown(top, *ids)


def _enter(folder: int, name: str, ids: tuple[int, int] | None) -> int:
    """Open an inner folder, which is made if it does not exist."""
    try:
        os.mkdir(name, 0o700, dir_fd=folder)
    except FileExistsError:
        return os.open(name, _FOLDER, dir_fd=folder)
    inner = os.open(name, _FOLDER, dir_fd=folder)
    os.fchmod(inner, 0o755)
    if ids is not None:
        os.fchown(inner, *ids)
    return inner


def _write(folder: int, name: str, file: File, ids: tuple[int, int] | None) -> None:
    opened = os.open(name, _NEW, 0o600, dir_fd=folder)
    try:
        data = memoryview(file.data)
        while data:
            data = data[os.write(opened, data) :]
        if ids is not None:
            os.fchown(opened, *ids)
        os.fchmod(opened, file.mode)
    finally:
        os.close(opened)
