"""Message files: a job writes a sentence to $ZSCHED_MESSAGE_FILE, and its run's detail shows it.

The files are in a folder of the guard. A job of the worker's own user makes its file itself. The files of other users
are made before the start, in a folder where they can make none, so that no user can put a link there.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from zsched.model.limits import MESSAGE_BYTES_MAX

VARIABLE: Final = "ZSCHED_MESSAGE_FILE"

log = logging.getLogger(__name__)


class Notes:
    """The message files of one guard. Jobs of other users can't reach the state directory: theirs are elsewhere."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = str(state_dir / "messages")
        # Of the folder; None before the first job.
        self._fd: int | None = None
        # What an earlier guard has left.
        shutil.rmtree(self._folder, ignore_errors=True)
        self._shared = _Shared(state_dir / "messages.shared")
        # The last file could not be made, which is logged already.
        self._failed = False

    def path(self, mark: str, ids: tuple[int, int] | None) -> str:
        """The path of a run's file; empty if it can have none. `ids`: user and group of a job of another user."""
        try:
            if ids is not None:
                path = self._shared.create(mark, ids)
            else:
                # A job may have removed the folder. This look takes 1 us, and a mkdir that fails takes 10.
                if self._fd is None or not os.fstat(self._fd).st_nlink:
                    self._make()
                path = f"{self._folder}/{mark}"
        except OSError as error:
            if not self._failed:
                log.warning("jobs get no %s: %s", VARIABLE, error.strerror)
            self._failed = True
            return ""
        self._failed = False
        return path

    def _make(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        with suppress(FileExistsError):
            os.mkdir(self._folder, 0o700)
        self._fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def take(self, path: str) -> bytes:
        """The beginning of a run's file, which is removed; empty if the job has written none."""
        # Most jobs write none, and an open that fails takes five times as long.
        if not path or not os.access(path, os.F_OK, follow_symlinks=False):
            return b""
        try:
            # A pipe without a writer must not block us.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            # A link or a socket, or too many open files.
            return self._remove(path)
        try:
            text = os.read(fd, MESSAGE_BYTES_MAX) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
        except OSError:
            text = b""
        finally:
            os.close(fd)
        self._remove(path)
        return text

    @staticmethod
    def _remove(path: str) -> bytes:
        # A folder, at worst: the next start of the worker removes it.
        with suppress(OSError):
            os.unlink(path)
        return b""

    def close(self) -> None:
        """Remove the files of other users."""
        self._shared.remove()
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class _Shared:
    """The folder for the files of other users, made for the first of them. A link in the state directory names it, so
    that the next guard removes what a killed one has left.
    """

    def __init__(self, link: Path) -> None:
        self._link = link
        self._path = ""
        self._fd: int | None = None
        self.remove()

    def create(self, mark: str, ids: tuple[int, int]) -> str:
        """Make an empty file for a user and group. Returns its path. Raises OSError."""
        try:
            fd = self._open(mark)
        except FileNotFoundError:
            # The first one; or another program has tidied the folder away.
            self._make()
            fd = self._open(mark)
        try:
            os.fchmod(fd, 0o600)
            os.fchown(fd, *ids)
        finally:
            os.close(fd)
        return f"{self._path}/{mark}"

    def _open(self, mark: str) -> int:
        if self._fd is None:
            raise FileNotFoundError
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(mark, flags, 0o600, dir_fd=self._fd)

    def _make(self) -> None:
        self.remove()
        self._path = f"{tempfile.gettempdir()}/zsched-messages-{os.urandom(8).hex()}"
        self._link.symlink_to(self._path)
        os.mkdir(self._path, 0o700)
        self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.fchmod(self._fd, 0o711)
        # systemd-tmpfiles leaves a locked folder alone, however old its files are.
        fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def remove(self) -> None:
        """Remove the folder, also that of an earlier guard."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        with suppress(OSError):
            shutil.rmtree(self._link.readlink(), ignore_errors=True)
            self._link.unlink()
