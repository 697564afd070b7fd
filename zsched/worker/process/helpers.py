"""The helper processes that read artifacts and remove scratch folders: collect.py, as the job's user. Only the guard
uses this.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import KeysView, Sequence
from pathlib import Path
from typing import Final

from zsched.model.limits import (
    COLLECT_ENTRIES_MAX,
    COLLECT_S_MAX,
    FILE_PATH_BYTES_MAX,
    FILES_BYTES_MAX,
    FILES_MAX,
    HELPERS_MAX,
    REMOVE_S_MAX,
)
from zsched.protocol import RunOrder
from zsched.worker.process.sweep import MARK
from zsched.worker.process.users import Users

_COLLECT: Final = str(Path(__file__).with_name("collect.py"))
_BOUNDS: Final = (
    f"files={FILES_MAX},bytes={FILES_BYTES_MAX},path_bytes={FILE_PATH_BYTES_MAX},entries={COLLECT_ENTRIES_MAX},"
    f"seconds={COLLECT_S_MAX},remove={REMOVE_S_MAX}"
)

log = logging.getLogger(__name__)


class Helpers:
    """The helpers of one guard. Each is a child of the guard."""

    def __init__(self, spool_id: str, users: Users) -> None:
        self._environ = {"PATH": os.defpath, MARK: spool_id}
        self._users = users
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        # The folder of each helper that has not been reaped; and the helpers by the pipes that are read.
        self._folders: dict[int, str] = {}
        self._of_pipe: dict[int, int] = {}

    @property
    def pids(self) -> KeysView[int]:
        """The helpers that have not been reaped."""
        return self._folders.keys()

    @property
    def full(self) -> bool:
        """Whether no more helpers may be needed now."""
        return len(self._folders) >= HELPERS_MAX

    def remove(self, folder: str) -> None:
        """Remove a folder that an earlier guard has left, with the guard's own rights. Raises OSError."""
        self._start(folder, ("", 0, 0), (), self._null)

    def tidy(self, folder: str, order: RunOrder, *, collect: bool) -> int | None:
        """Remove the scratch folder of a run whose processes are gone. `collect`: before that, read its artifacts.
        Returns the pipe to read them from, which does not block; None without. Raises OSError.
        """
        ids = self._users.prefix(order.user).ids
        user = ("", 0, 0) if ids is None else (order.user or "", *ids)
        if not collect or not order.artifacts:
            self._start(folder, user, (), self._null)
            return None
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            self._of_pipe[reading] = self._start(folder, user, order.artifacts, writing)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        os.set_blocking(reading, False)
        return reading

    def _start(self, folder: str, user: tuple[str, int, int], patterns: Sequence[str], out: int) -> int:
        name, uid, gid = user
        words = (sys.executable, "-I", "-S", _COLLECT, name, str(uid), str(gid), _BOUNDS, folder, *patterns)
        pid = os.posix_spawn(
            sys.executable,
            words,
            self._environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((self._null, out, self._null))],
            setsid=True,
            setsigmask=(),
        )
        self._folders[pid] = folder
        return pid

    def end(self, pipe: int, *, kill: bool) -> None:
        """Nobody reads this pipe any more. `kill`: its helper hangs, so it gets no time for the removal."""
        pid = self._of_pipe.pop(pipe)
        if kill and pid in self._folders:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def on_reaped(self, pid: int) -> None:
        """A child of the guard has been reaped. The folder of a helper is empty then: only we may remove it."""
        folder = self._folders.pop(pid, None)
        if folder is None:
            return
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("%s is left until the next start: %s", folder, error.strerror)
