"""Starting one job's main process. Only the guard calls this.

posix_spawn, because its cost does not grow with the guard's memory as fork's does (700 us of CPU a job against 1,970
with a preexec_fn, bench/spawn.py). The job gets /dev/null and two pipes, its own session and process group, default
signals, and a new environment. It inherits no other descriptor of the guard: Python opens all with O_CLOEXEC. It
inherits the guard's umask and no_new_privs, at no cost.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import pwd
import resource
import signal
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from zsched.host import standard
from zsched.model.names import VARIABLE_NAME
from zsched.protocol import RunOrder
from zsched.worker.process import notes, program, scratch
from zsched.worker.process.notes import Notes
from zsched.worker.process.scratch import Scratch
from zsched.worker.process.sweep import MARK, RUN_MARK
from zsched.worker.process.users import CommandPrefix, NotAllowedError, Users

# oom_score_adj of a job relative to the guard: a job counts as if it used half of the memory more. So the kernel, when
# it is out of memory, kills a job and never the guard.
_OOM_MORE: Final = 500
_OOM_MAX: Final = 1_000

# The length of a run's mark, which no other job may guess.
_MARK_BYTES: Final = 8

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

log = logging.getLogger(__name__)


class SpawnError(Exception):
    """The run can't be started on any host. The sentence goes into its result."""


class NoRoomError(Exception):
    """This host can start no process now: it is out of descriptors, memory or processes. The run is not at fault."""


# A Struct: it is made for each run, and a frozen dataclass takes five times as long to make.
class Spawned(Struct, frozen=True, gc=False):
    """A started process, its mark, and the reading ends of its pipes, which do not block.

    `report`: the pipe of the shell in front of a job with a folder. `message` and `scratch`: the paths of its message
    file and of its scratch folder, or empty.
    """

    pid: int
    mark: str
    stdout: int
    stderr: int
    report: int | None = None
    message: str = ""
    scratch: str = ""


class Spawner:
    """Starts jobs. Create it after the guard has set its signal handlers: jobs get defaults for ignored signals.

    Create it before the guard raises its limit of descriptors, which jobs do not get, and before it closes its /proc.
    """

    def __init__(
        self,
        worker: str,
        spool_id: str,
        users: Users | None = None,
        notes: Notes | None = None,
        folders: Scratch | None = None,
    ) -> None:
        """`users`: the run-as users; None: jobs run as this process's user. `notes`: None: jobs get no message file.
        `folders`: None: jobs get no scratch folder.
        """
        self._users = users or Users()
        self._notes = notes
        self._folders = folders
        self._environ = {
            "PATH": _PATH,
            "HOME": _home(),
            "LANG": "C.UTF-8",
        }
        # We identify our processes by these, so a job can't set them.
        self._marks = {"ZSCHED_WORKER": worker, MARK: spool_id}
        self._descriptors_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._oom = _Oom()
        # Low descriptors, for a job's outputs while it starts (see _spawn_limited).
        self._low = tuple(os.dup(self._null) for _ in range(4))
        # An exec resets handlers. Ignored signals (Python's SIGPIPE, nohup's SIGHUP) would stay ignored.
        self._defaults = [
            number
            for number in signal.valid_signals()
            if signal.getsignal(number) is signal.SIG_IGN and number not in (signal.SIGKILL, signal.SIGSTOP)
        ]

    def spawn(self, order: RunOrder) -> Spawned:
        """Start the run's command.

        Raises SpawnError or NoRoomError, and then nothing was started and nothing stays open.
        """
        try:
            prefix = self._users.prefix(order.user)
        except NotAllowedError as error:
            raise SpawnError(str(error)) from error
        if not all(map(VARIABLE_NAME.fullmatch, order.variables)):
            raise SpawnError("invalid variable name in its env: use letters, digits and _, with no digit first")
        ours: list[int] = []
        given: list[int] = []
        mark = os.urandom(_MARK_BYTES).hex()
        message = "" if self._notes is None else self._notes.path(mark, prefix.ids)
        folder = ""
        try:
            folder = self._make_folder(order, mark, prefix.ids)
            given.append(self._null if order.stdin is None else _input(order.stdin))
            for _ in range(3 if program.reports(order) else 2):
                reading, writing = os.pipe2(os.O_CLOEXEC)
                ours.append(reading)
                given.append(writing)
            with self._oom:
                own = {notes.VARIABLE: message, scratch.VARIABLE: folder, RUN_MARK: mark}
                pid = self._spawn_limited(given, *self._words(order, prefix, own), program.umask(order))
            # Only our ends: a job inherits its own, and its writes would fail.
            for fd in ours:
                os.set_blocking(fd, False)
        # ValueError: a NUL; its subclass UnicodeEncodeError: a lone surrogate. Of OSError only E2BIG is the command's
        # fault, not EAGAIN, EMFILE, ENFILE or ENOMEM.
        except (OSError, ValueError) as error:
            for fd in ours:
                os.close(fd)
            self.take_message(message)
            if folder:
                scratch.Scratch.unmake(folder)
            if isinstance(error, OSError) and error.errno not in (errno.E2BIG, errno.ENAMETOOLONG):
                raise NoRoomError(error.strerror) from error
            raise SpawnError(_sentence(error)) from error
        finally:
            for fd in given:
                if fd != self._null:
                    os.close(fd)
        return Spawned(pid, mark, ours[0], ours[1], ours[2] if len(ours) > 2 else None, message, folder)

    def _make_folder(self, order: RunOrder, mark: str, ids: tuple[int, int] | None) -> str:
        """The path of a new scratch folder, empty for a run without one. Raises OSError, ValueError."""
        if self._folders is None or not order.has_scratch:
            return ""
        return self._folders.make(mark, ids, order.files)

    def take_message(self, path: str) -> bytes:
        """The beginning of a message file, which is removed; empty without one."""
        return b"" if self._notes is None else self._notes.take(path)

    def _spawn_limited(
        self, given: list[int], words: tuple[str, ...], environ: Mapping[str, str], umask: int | None
    ) -> int:
        """posix_spawn can't set limits and umask, so we have the job's while it starts. Our descriptors stay open.

        But glibc refuses descriptors above the limit: when the job has such a descriptor, all of them get low numbers
        meanwhile. `given`: the job's descriptors, from 0 on.
        """
        before = None if umask is None else os.umask(umask)
        try:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            if soft == self._descriptors_max:
                return self._spawn(given, words, environ)
            limit = min(self._descriptors_max, hard)
            low = self._low[: len(given)] if max(given) >= limit else ()
            for fd, place in zip(given, low, strict=False):
                os.dup2(fd, place, inheritable=False)
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            try:
                return self._spawn(low or given, words, environ)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for place in low:
                    os.dup2(self._null, place, inheritable=False)
        finally:
            if before is not None:
                os.umask(before)

    def _words(
        self, order: RunOrder, prefix: CommandPrefix, own: Mapping[str, str]
    ) -> tuple[tuple[str, ...], dict[str, str]]:
        """The words that execute a job, the path of the program first, and its environment. `own`: variables of this
        run; empty ones are left out.
        """
        before, own_environ = prefix.of(order.variables, leased=order.lease_ms is not None)
        environ = {
            **self._environ,
            **own_environ,
            **self._marks,
            **{name: value for name, value in own.items() if value},
            "ZSCHED_RUN_ID": str(order.run),
            "ZSCHED_JOB_ID": str(order.job),
            "ZSCHED_TASK": str(order.task),
            "ZSCHED_ATTEMPT": str(order.attempt),
        }
        if order.entry is not None:
            environ["ZSCHED_ENTRY"] = order.entry
        words = program.words(order, own[scratch.VARIABLE], at_home=prefix.ids is not None)
        return (*before, *words), environ

    def _spawn(self, given: Sequence[int], words: tuple[str, ...], environ: Mapping[str, str]) -> int:
        path, *arguments = words
        return os.posix_spawn(
            path,
            # A shell that is started directly has its usual name.
            ("sh" if path == "/bin/sh" else path, *arguments),
            environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(given)],
            setsid=True,
            setsigmask=(),
            setsigdef=self._defaults,
        )


class _Oom:
    """Context in which a started process gets the oom_score_adj of jobs.

    A child inherits the score, so the guard has it during the start: 1.3 us for both writes, against 15 us to write the
    child's own file. Lowering it again needs no right, unless a process with CAP_SYS_RESOURCE has set it.
    """

    def __init__(self) -> None:
        try:
            self._fd: int | None = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            self._ours = os.pread(self._fd, 16, 0).strip()
            self._jobs = str(min(int(self._ours) + _OOM_MORE, _OOM_MAX)).encode()
            # Tried once here, so that no start fails by it.
            for score in (self._jobs, self._ours):
                os.pwrite(self._fd, score, 0)
        # /proc is not writable, as in some sandboxes: jobs and guard then count alike.
        except OSError:
            self._fd = None

    def __enter__(self) -> None:
        self._write(self._jobs)

    def __exit__(self, *_: object) -> None:
        self._write(self._ours)

    def _write(self, score: bytes) -> None:
        if self._fd is None:
            return
        try:
            os.pwrite(self._fd, score, 0)
        except OSError as error:
            # A privileged process has raised it meanwhile. The start itself succeeds.
            log.warning("oom_score_adj of jobs can't be set any more: %s", error.strerror)
            os.close(self._fd)
            self._fd = None


def keep_standard_fds() -> None:
    """Open descriptors 0, 1 and 2 if the worker was started without them, so that no pipe gets such a number.

    No job inherits any other descriptor that the worker was started with.
    """
    standard.fill()
    for name in os.listdir("/proc/self/fd"):
        # The listing's own descriptor is closed by now.
        with contextlib.suppress(OSError):
            if int(name) > 2:
                os.set_inheritable(int(name), False)


def _input(text: str) -> int:
    """A descriptor from which a job reads a text. It is in memory, so that nobody has to feed a pipe."""
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        data = memoryview(text.encode())
        while data:
            data = data[os.write(fd, data) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _home() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        return "/"


def _sentence(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "the command is not valid Unicode"
    if isinstance(error, OSError):
        return f"the process could not be started: {error.strerror}"
    return f"invalid command: {error}"
