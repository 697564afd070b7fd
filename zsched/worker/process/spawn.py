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
from dataclasses import dataclass
from typing import Final

from zsched.host import standard
from zsched.model.names import VARIABLE_NAME
from zsched.protocol import RunOrder
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


@dataclass(frozen=True, slots=True)
class Spawned:
    """A started process, its mark, and the reading ends of its pipes, which do not block."""

    pid: int
    mark: str
    stdout: int
    stderr: int


class Spawner:
    """Starts jobs. Create it after the guard has set its signal handlers: jobs get defaults for ignored signals.

    Create it before the guard raises its limit of descriptors, which jobs do not get, and before it closes its /proc.
    """

    def __init__(self, worker: str, spool_id: str, users: Users | None = None) -> None:
        """`users`: the run-as users; None: jobs run as this process's user."""
        self._users = users or Users()
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
        self._low = os.dup(self._null), os.dup(self._null)
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
        fds: list[int] = []
        try:
            fds += os.pipe2(os.O_CLOEXEC)
            fds += os.pipe2(os.O_CLOEXEC)
            mark = os.urandom(_MARK_BYTES).hex()
            with self._oom:
                pid = self._spawn_limited(order, prefix, mark, fds[1], fds[3])
            # Only our ends: a job inherits its own, and its writes would fail.
            os.set_blocking(fds[0], False)
            os.set_blocking(fds[2], False)
        # ValueError: a NUL; its subclass UnicodeEncodeError: a lone surrogate. Of OSError only E2BIG is the command's
        # fault, not EAGAIN, EMFILE, ENFILE or ENOMEM.
        except (OSError, ValueError) as error:
            for fd in fds:
                os.close(fd)
            if isinstance(error, OSError) and error.errno != errno.E2BIG:
                raise NoRoomError(error.strerror) from error
            raise SpawnError(_sentence(error)) from error
        os.close(fds[1])
        os.close(fds[3])
        return Spawned(pid, mark, fds[0], fds[2])

    def _spawn_limited(self, order: RunOrder, prefix: CommandPrefix, mark: str, stdout: int, stderr: int) -> int:
        """posix_spawn can't set limits, so we have the job's limit while it starts. Our descriptors stay open.

        But glibc refuses descriptors above the limit, so the outputs get low ones meanwhile. This costs 3 us of 700.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == self._descriptors_max:
            return self._spawn(order, prefix, mark, stdout, stderr)
        os.dup2(stdout, self._low[0], inheritable=False)
        os.dup2(stderr, self._low[1], inheritable=False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(self._descriptors_max, hard), hard))
        try:
            return self._spawn(order, prefix, mark, *self._low)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for low in self._low:
                os.dup2(self._null, low, inheritable=False)

    def _spawn(self, order: RunOrder, prefix: CommandPrefix, mark: str, stdout: int, stderr: int) -> int:
        variables = order.variables
        before, own_environ = prefix.of(variables, leased=order.lease_ms is not None)
        environ = {
            **self._environ,
            **own_environ,
            **self._marks,
            RUN_MARK: mark,
            "ZSCHED_RUN_ID": str(order.run),
            "ZSCHED_JOB_ID": str(order.job),
            "ZSCHED_TASK": str(order.task),
            "ZSCHED_ATTEMPT": str(order.attempt),
        }
        return os.posix_spawn(
            before[0] if before else "/bin/sh",
            (*before, order.command) if before else ("sh", "-c", "--", order.command),
            environ,
            file_actions=(
                (os.POSIX_SPAWN_DUP2, self._null, 0),
                (os.POSIX_SPAWN_DUP2, stdout, 1),
                (os.POSIX_SPAWN_DUP2, stderr, 2),
            ),
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
