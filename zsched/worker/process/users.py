"""Run-as users of jobs. Only the guard uses this.

A worker's setting `users` lists the names. Without names, jobs run as the worker's own user and no other. With names,
the worker must run as root, each job must name one of them, and a small program changes the user before the job begins:
setpriv of util-linux, or become.py on hosts where setpriv fails, at twelve times the cost (docs/architecture.md). A job
of the worker's own user needs neither. become.py also starts jobs with a lease, which die with the guard. And it starts
jobs with variables of their own that must not take effect before the change of user, or before limits are set.
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

_BECOME: Final = Path(__file__).with_name("become.py")
# become.py turns ZSCHED_VARIABLE_0=NAME=VALUE, and so on, into variables.
VARIABLE: Final = "ZSCHED_VARIABLE_"
_PROBE: Final = "echo ready; read -r _"
# Longer than the program's error sentence.
_SENTENCE_BYTES: Final = 1_000


class UsersError(Exception):
    """The setting `users` can't be applied on this host. The sentence is for the operator."""


class NotAllowedError(Exception):
    """This worker refuses to run the job. The sentence goes into its result."""


@dataclass(frozen=True, slots=True)
class CommandPrefix:
    """The words before a job's program, and the user's environment, for each kind of job.

    `plain` is empty for the worker's own user without limits. `ids`: the user and group of a job of another user, which
    begins in that user's home folder; None: the worker's own user.
    """

    plain: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    # For a job with variables of its own; empty when `plain` does.
    with_variables: tuple[str, ...] = ()
    # For a job that dies with the guard.
    with_lease: tuple[str, ...] = ()
    ids: tuple[int, int] | None = None

    def of(self, variables: Mapping[str, str], *, leased: bool) -> tuple[tuple[str, ...], dict[str, str]]:
        """The prefix and the environment of a job with these variables of its own. `leased`: it dies with the guard.

        No program that runs as root, or without the job's limits, may see the variables under their names: the dynamic
        linker would obey LD_PRELOAD. So become.py gets them under other names, and sets their own with its execve.
        """
        if leased:
            return self.with_lease, {**self.environ, **_renamed(variables)}
        if variables and self.with_variables:
            return self.with_variables, {**self.environ, **_renamed(variables)}
        return self.plain, {**self.environ, **variables}


class Users:
    """The users of one worker, looked up once, at its start."""

    def __init__(self, names: Sequence[str] = (), *, no_new_privs: bool = True, limits: Limits | None = None) -> None:
        """`limits` of each job. Raises UsersError when a name is unknown, or this process can't change to that user."""
        limits = limits or Limits()
        self._own = _own_name()
        self._names = tuple(names)
        self._prefixes: dict[str, CommandPrefix] = {}
        self._own_prefix = CommandPrefix(
            plain=tuple(limits.prlimit),
            with_variables=_become(0, limits) if limits.text else (),
            with_lease=_become(os.getpid(), limits),
        )
        if names and os.geteuid() != 0:
            raise UsersError("only a worker of root can run jobs as other users: start it as root, or set no `users`")
        for name in names:
            self._prefixes[name] = self._own_prefix if name == self._own else _prefix(name, no_new_privs, limits)

    @property
    def as_root(self) -> bool:
        """Whether jobs run as root without a setting that says so."""
        return not self._names and os.geteuid() == 0

    def prefix(self, name: str | None) -> CommandPrefix:
        """The prefix for a job that names this user; None: it names no user. Raises NotAllowedError."""
        if not self._names:
            if name not in (None, self._own):
                raise NotAllowedError(f"this worker runs jobs as {self._own} only, not as {name}")
            return self._own_prefix
        # A job that names no user does not run as root by that.
        prefix = self._prefixes.get(self._own if name is None else name)
        if prefix is None:
            allowed = f"this worker runs jobs as {', '.join(self._names)} only"
            raise NotAllowedError(f"{allowed}, " + (f"not as {name}" if name else "and this one names no user"))
        return prefix


def _renamed(variables: Mapping[str, str]) -> dict[str, str]:
    return {f"{VARIABLE}{place}": f"{name}={value}" for place, (name, value) in enumerate(variables.items())}


def _own_name() -> str:
    uid = os.geteuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _prefix(name: str, no_new_privs: bool, limits: Limits) -> CommandPrefix:
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise UsersError(f"there is no user {name} on this host: remove the name from `users`") from None
    if user.pw_uid == 0:
        raise UsersError(f"{name} is root by another name: write root, if that is meant")
    environ = {"HOME": user.pw_dir, "USER": name, "LOGNAME": name}
    become = _become(0, limits, user)
    with_lease = _become(os.getpid(), limits, user)
    ids = user.pw_uid, user.pw_gid
    setpriv = _setpriv(user, no_new_privs)
    if setpriv and not _failure(setpriv):
        return CommandPrefix((*setpriv, *limits.prlimit), environ, become, with_lease, ids)
    if failure := _failure(_become(0, Limits(), user)):
        raise UsersError(f"jobs can't be run as {name}: {failure}")
    return CommandPrefix(become, environ, become, with_lease, ids)


def _setpriv(user: pwd.struct_passwd, no_new_privs: bool) -> tuple[str, ...]:
    """setpriv's command line, up to the program to execute; empty on a host without setpriv."""
    setpriv = shutil.which("setpriv", path=os.defpath)
    if setpriv is None:
        return ()
    ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--inh-caps=-all")
    bounds = ("--no-new-privs", "--bounding-set=-all") if no_new_privs else ()
    return (setpriv, *ids, *bounds, "--")


def _become(guard: int, limits: Limits, user: pwd.struct_passwd | None = None) -> tuple[str, ...]:
    """become.py's command line, up to the program to execute. `guard`: the process to die with, or 0."""
    name, uid, gid = (user.pw_name, user.pw_uid, user.pw_gid) if user is not None else ("", 0, 0)
    return (sys.executable, "-I", "-S", str(_BECOME), str(guard), name, str(uid), str(gid), limits.text)


def _failure(switch: tuple[str, ...]) -> str:
    """Why a program can't change the user here; empty when it can.

    Also checks that we can read the mark of a process of that user: else a job's orphans would survive.
    """
    mark = os.urandom(16).hex()
    stdin, to_child = os.pipe2(os.O_CLOEXEC)
    from_child, stdout = os.pipe2(os.O_CLOEXEC)
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
        output = os.read(from_child, _SENTENCE_BYTES).decode(errors="replace").strip()
        known = mark_of(pid, mark) == mark
        os.write(to_child, b"\n")
        os.waitpid(pid, 0)
    except OSError as error:
        return f"{switch[0]}: {error.strerror}"
    finally:
        for fd in (stdin, to_child, from_child, stdout):
            if fd >= 0:
                os.close(fd)
    if output != "ready":
        return output.splitlines()[-1] if output else f"{switch[0]} failed"
    if not known:
        return "this root can't look into other users' processes (in a container, add the capability SYS_PTRACE)"
    return ""
