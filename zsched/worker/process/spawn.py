"""Starting one job's main process. Only the guard calls this.

posix_spawn, because its cost does not grow with the guard's memory as fork's does (700 us of CPU a job against 1,970
with a preexec_fn, bench/spawn.py). The job gets /dev/null and two pipes, its own session and process group, default
signals, and an environment made from nothing. Everything else the guard has open is closed to it: Python opens all
with O_CLOEXEC. umask and no_new_privs are the guard's own, which a job inherits at no cost.
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
from zsched.model.units import VARIABLE_NAME
from zsched.protocol import RunOrder
from zsched.worker.process.sweep import MARK, RUN_MARK
from zsched.worker.process.users import Credentials, NotAllowedError, Users

# A job counts with the kernel as if it had half of the memory on top of its own: when there is no more, the largest is
# ended, and that is never the guard.
_OOM_MORE: Final = 500
_OOM_MAX: Final = 1_000

# Of a run's mark, which no other job may guess.
_MARK_BYTES: Final = 8

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

log = logging.getLogger(__name__)


class SpawnError(Exception):
    """The run can't be started anywhere. The sentence goes into its result."""


class NoRoomError(Exception):
    """This host can start no process now: no descriptors, no memory, too many processes. No fault of the run."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """A started process, the mark that it carries, and the reading ends of its pipes, which are not blocking."""

    pid: int
    mark: str
    stdout: int
    stderr: int


class Spawner:
    """Starts jobs. Make it after the guard has set its signals, and before it raises its limit of descriptors.

    What the guard ignores, a job has at its default; and it has the limit that stood then. Make it also before the
    guard closes its /proc.
    """

    def __init__(self, worker: str, spool_id: str, users: Users | None = None) -> None:
        """`users`: as whom jobs may run; None: as us."""
        self._users = users or Users()
        self._environ = {
            "PATH": _PATH,
            "HOME": _home(),
            "LANG": "C.UTF-8",
        }
        # By these we know our processes, so no job has a say in them.
        self._marks = {"ZSCHED_WORKER": worker, MARK: spool_id}
        self._descriptors_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._oom = _Oom()
        # Low numbers, for a job's outputs while it starts (see _spawn_limited).
        self._low = os.dup(self._null), os.dup(self._null)
        # Handlers go at exec by themselves. Ignored signals (Python's SIGPIPE, nohup's SIGHUP) would stay.
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
            guise = self._users.guise(order.user)
        except NotAllowedError as error:
            raise SpawnError(str(error)) from error
        if not all(map(VARIABLE_NAME.fullmatch, order.variables)):
            raise SpawnError("a name in its env is no variable's name")
        fds: list[int] = []
        try:
            fds += os.pipe2(os.O_CLOEXEC)
            fds += os.pipe2(os.O_CLOEXEC)
            mark = os.urandom(_MARK_BYTES).hex()
            with self._oom:
                pid = self._spawn_limited(order, guise, mark, fds[1], fds[3])
            # Only the reading ends: a job's own end would inherit this and its writes would fail.
            os.set_blocking(fds[0], False)
            os.set_blocking(fds[2], False)
        # ValueError: a NUL. UnicodeEncodeError, one of its kinds: a lone surrogate. OSError: E2BIG is the command's
        # fault, and nothing else is: EAGAIN, EMFILE, ENFILE, ENOMEM.
        except (OSError, ValueError) as error:
            for fd in fds:
                os.close(fd)
            if isinstance(error, OSError) and error.errno != errno.E2BIG:
                raise NoRoomError(error.strerror) from error
            raise SpawnError(_sentence(error)) from error
        os.close(fds[1])
        os.close(fds[3])
        return Spawned(pid, mark, fds[0], fds[2])

    def _spawn_limited(self, order: RunOrder, guise: Credentials, mark: str, stdout: int, stderr: int) -> int:
        """posix_spawn can't set limits, so ours is the job's while it starts. What we have open stays open.

        But glibc takes no number above the limit, so the outputs get low ones meanwhile. All that costs 3 us of 700.
        """
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == self._descriptors_max:
            return self._spawn(order, guise, mark, stdout, stderr)
        os.dup2(stdout, self._low[0], inheritable=False)
        os.dup2(stderr, self._low[1], inheritable=False)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(self._descriptors_max, hard), hard))
        try:
            return self._spawn(order, guise, mark, *self._low)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for low in self._low:
                os.dup2(self._null, low, inheritable=False)

    def _spawn(self, order: RunOrder, guise: Credentials, mark: str, stdout: int, stderr: int) -> int:
        before, own = guise.argv, guise.environ
        variables = order.variables
        if order.lease_ms is not None:
            before, own = guise.leashed(variables)
        elif variables:
            before, own = guise.dressed(variables)
        environ = {
            **self._environ,
            **own,
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
    """While it is entered, what is started counts as larger than the guard when the kernel is out of memory.

    A child inherits the number, so the guard has it for the moment of the start: 1.3 us for both writes, against 15 us
    to write the child's own file. No right is needed to come down again, as long as nobody with such rights has set it.
    """

    def __init__(self) -> None:
        try:
            self._fd: int | None = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
            self._ours = os.pread(self._fd, 16, 0).strip()
            self._jobs = str(min(int(self._ours) + _OOM_MORE, _OOM_MAX)).encode()
            # Tried here once, so that no start fails by it.
            for score in (self._jobs, self._ours):
                os.pwrite(self._fd, score, 0)
        # No /proc that may be written, as in some sandboxes: then jobs and guard count alike.
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
            # Somebody who may has raised it meanwhile. No start fails by it, and none is told to have failed.
            log.warning("jobs can't count as larger than the guard any more: oom_score_adj: %s", error.strerror)
            os.close(self._fd)
            self._fd = None


def keep_standard_fds() -> None:
    """Fill descriptors 0, 1 and 2 if the worker was started without them, so that no pipe ever gets such a number.

    All others that it was started with are its own: no job inherits them.
    """
    standard.fill()
    for name in os.listdir("/proc/self/fd"):
        # One of them is the listing itself, closed by now.
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
    return f"the command can't be a command line: {error}"
