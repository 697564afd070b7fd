"""As which users jobs run. Only the guard uses this.

A worker's setting `users` lists the names. Empty, jobs run as the worker's own user and no other. With names, the
worker must be root's, each job has to name one of them, and a small program becomes that user before the job begins:
setpriv of util-linux (1.3 ms a job), or become.py where there is none that can (25 ms). A job that runs as the worker's
own user goes through neither. become.py is also for jobs with a lease, which die with the guard, and for jobs with
variables of their own where something must be done before those count: the change of user, or limits.
"""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from zsched.worker.process.rlimits import Limits
from zsched.worker.process.sweep import MARK, RUN_MARK, mark_of

# `--`: a command may begin with a sign, and is then no option of the shell.
_SHELL: Final = ("/bin/sh", "-c", "--")
# What the target user's own shell does first: it goes home. The job's command is an argument, never part of this text.
_AT_HOME: Final = ("/bin/sh", "-c", 'cd -- "$HOME" 2>/dev/null || cd /; exec /bin/sh -c -- "$1"', "sh")
_BECOME: Final = Path(__file__).with_name("become.py")
# What become.py makes variables of: VARIABLE0=NAME=VALUE, and so on.
VARIABLE: Final = "ZSCHED_VARIABLE_"
_PROBE: Final = "echo ready; read -r _"
# Far more than the program's own sentence has when it fails.
_SENTENCE_BYTES: Final = 1_000


class UsersError(Exception):
    """The setting `users` can't be followed here. The sentence is for the person who started the worker."""


class NotAllowedError(Exception):
    """This worker runs no such job. The sentence goes into its result."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How a job becomes its user: the words before its command, up to `sh -c --`, and its environment.

    Empty for the worker's own user without limits: then there is nothing between guard and shell.
    """

    argv: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    # Of another user, or with limits: what comes before a command that has variables of its own (see `dressed`).
    dressing: tuple[str, ...] = ()
    # What comes before a command that dies with the guard.
    leash: tuple[str, ...] = ()

    def dressed(self, own: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
        """What comes before the command of a job with variables of its own, and the environment to start it in.

        No program that runs as root, or without the job's limits, may see them under their names: the dynamic linker
        would obey LD_PRELOAD. So become.py gets them under other names, and gives them their own with its execve.
        """
        if not self.dressing:
            return self.argv, {**self.environ, **own}
        return self.dressing, {**self.environ, **_disguised(own)}

    def leashed(self, own: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
        """The same for a job that dies with the guard, with variables of its own or without."""
        return self.leash, {**self.environ, **_disguised(own)}


class Users:
    """The users of one worker, looked up once, at its start."""

    def __init__(self, names: Sequence[str] = (), *, no_new_privs: bool = True, limits: Limits | None = None) -> None:
        """`limits`: those of each job. Raises UsersError when one of the names is unknown, or this process can't become
        that user.
        """
        limits = limits or Limits()
        self._own = _own_name()
        self._names = tuple(names)
        self._guises: dict[str, Credentials] = {}
        self._plain = Credentials(
            argv=(*limits.prlimit, *_SHELL) if limits.prlimit else (),
            dressing=(*_become(0, limits), *_SHELL) if limits.text else (),
            leash=(*_become(os.getpid(), limits), *_SHELL),
        )
        if names and os.geteuid() != 0:
            raise UsersError("only a worker of root can run jobs as other users: start it as root, or set no `users`")
        for name in names:
            self._guises[name] = self._plain if name == self._own else _guise(name, no_new_privs, limits)

    @property
    def as_root(self) -> bool:
        """Whether jobs are root's without anybody having said so."""
        return not self._names and os.geteuid() == 0

    def guise(self, name: str | None) -> Credentials:
        """How a job that names this user is started; None: it names none. Raises NotAllowedError."""
        if not self._names:
            if name not in (None, self._own):
                raise NotAllowedError(f"this worker runs jobs as {self._own} only, not as {name}")
            return self._plain
        # Nobody becomes root by leaving something out.
        found = self._guises.get(self._own if name is None else name)
        if found is None:
            allowed = f"this worker runs jobs as {', '.join(self._names)} only"
            raise NotAllowedError(f"{allowed}, " + (f"not as {name}" if name else "and this one names no user"))
        return found


def _disguised(own: Mapping[str, str]) -> dict[str, str]:
    return {f"{VARIABLE}{place}": f"{name}={value}" for place, (name, value) in enumerate(own.items())}


def _own_name() -> str:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _guise(name: str, no_new_privs: bool, limits: Limits) -> Credentials:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise UsersError(f"there is no user {name} on this host: take the name out of `users`") from None
    if found.pw_uid == 0:
        raise UsersError(f"{name} is root by another name: write root, if that is meant")
    environ = {"HOME": found.pw_dir, "USER": name, "LOGNAME": name}
    dressing = (*_become(0, limits, found), *_AT_HOME)
    leash = (*_become(os.getpid(), limits, found), *_AT_HOME)
    setpriv = _setpriv(found, no_new_privs)
    if setpriv and not _trouble(setpriv):
        return Credentials((*setpriv, *limits.prlimit, *_AT_HOME), environ, dressing, leash)
    if trouble := _trouble(_become(0, Limits(), found)):
        raise UsersError(f"jobs can't be run as {name}: {trouble}")
    return Credentials(dressing, environ, dressing, leash)


def _setpriv(user: pwd.struct_passwd, no_new_privs: bool) -> tuple[str, ...]:
    """setpriv's command line, up to the program that it becomes; empty where there is no setpriv."""
    setpriv = shutil.which("setpriv", path=os.defpath)
    if setpriv is None:
        return ()
    ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--inh-caps=-all")
    bounds = ("--no-new-privs", "--bounding-set=-all") if no_new_privs else ()
    return (setpriv, *ids, *bounds, "--")


def _become(guard: int, limits: Limits, user: pwd.struct_passwd | None = None) -> tuple[str, ...]:
    """become.py's command line, up to the program. `guard`: the process with which that dies; 0: with none."""
    name, uid, gid = (user.pw_name, user.pw_uid, user.pw_gid) if user is not None else ("", 0, 0)
    return (sys.executable, "-I", "-S", str(_BECOME), str(guard), name, str(uid), str(gid), limits.text)


def _trouble(switch: tuple[str, ...]) -> str:
    """Why a program does not do here what it should; empty when it does.

    Also whether we still know a process of that user for ours: else what a job leaves behind would stay.
    """
    mark = os.urandom(16).hex()
    stdin, to_it = os.pipe2(os.O_CLOEXEC)
    from_it, stdout = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.posix_spawn(
            switch[0],
            (*switch, "/bin/sh", "-c", _PROBE),
            {"PATH": os.defpath, MARK: mark, RUN_MARK: mark},
            file_actions=(
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, stdout, 1),
                (os.POSIX_SPAWN_DUP2, stdout, 2),
            ),
        )
        os.close(stdout)
        stdout = -1
        said = os.read(from_it, _SENTENCE_BYTES).decode(errors="replace").strip()
        known = mark_of(pid, mark) == mark
        os.write(to_it, b"\n")
        os.waitpid(pid, 0)
    except OSError as error:
        return f"{switch[0]}: {error.strerror}"
    finally:
        for fd in (stdin, to_it, from_it, stdout):
            if fd >= 0:
                os.close(fd)
    if said != "ready":
        return said.splitlines()[-1] if said else f"{switch[0]} failed"
    if not known:
        return "this root can't look into other users' processes (in a container, add the capability SYS_PTRACE)"
    return ""
