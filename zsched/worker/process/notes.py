"""Message files: a job writes a sentence to $ZSCHED_MESSAGE_FILE, and its run's detail shows it.

The files are in a folder of the guard. A job of the worker's own user makes its file itself. The files of other users
are made before the start, in a folder where they can make none, so that no user can put a link there.
"""

from __future__ import annotations

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
    """The message files of one guard. `shared`: also of jobs of other users, who can't reach the state directory."""

    def __init__(self, state_dir: Path, *, shared: bool) -> None:
        self._folder: Path | None = state_dir / "messages"
        self._shared: Path | None = None
        try:
            # What an earlier guard has left.
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            self._folder = None
            log.warning("jobs get no %s: %s", VARIABLE, error.strerror)
        if shared:
            with suppress(OSError):
                self._shared = Path(tempfile.mkdtemp(prefix="zsched-messages-"))
                self._shared.chmod(0o711)

    def path(self, mark: str, ids: tuple[int, int] | None) -> str:
        """The path of a run's file; empty if it can have none. `ids`: user and group of a job of another user."""
        if ids is None:
            return "" if self._folder is None else f"{self._folder}/{mark}"
        if self._shared is None:
            return ""
        path = f"{self._shared}/{mark}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError:
            return ""
        try:
            os.fchmod(fd, 0o600)
            os.fchown(fd, *ids)
        finally:
            os.close(fd)
        return path

    def take(self, path: str) -> bytes:
        """The beginning of a run's file, which is removed; empty if the job has written none."""
        if not path:
            return b""
        try:
            # A pipe without a writer must not block us.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
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
        if self._shared is not None:
            shutil.rmtree(self._shared, ignore_errors=True)
