"""As which users jobs run. Only the guard uses this.

A worker's setting `users` lists the names. Empty, jobs run as the worker's own user and no other. With names, the
worker must be root's, each job has to name one of them, and a small program becomes that user before the job begins:
setpriv of util-linux (1.3 ms a job), or become.py where there is none that can (25 ms). A job that runs as the worker's
own user goes through neither, unless it has a lease: such a job always goes through become.py, which sees to it that it
dies with the guard.
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

from zsched.worker.sweep import MARK, RUN_MARK, run_of

_SHELL: Final = ("/bin/sh", "-c")
# What the target user's own shell does first: it goes home. The job's command is an argument, never part of this text.
_AT_HOME: Final = ("/bin/sh", "-c", 'cd -- "$HOME" 2>/dev/null || cd /; exec /bin/sh -c "$1"', "sh")
_BECOME: Final = Path(__file__).with_name("become.py")
# What become.py makes variables of: VARIABLE0=NAME=VALUE, and so on.
VARIABLE: Final = "ZSCHED_VARIABLE_"
_PROBE: Final = "echo ready; read -r _"
_PROBE_RUN: Final = 1
# Far more than the program's own sentence has when it fails.
_SENTENCE_BYTES: Final = 1_000


class UsersError(Exception):
    """The setting `users` can't be followed here. The sentence is for the person who started the worker."""


class NotAllowedError(Exception):
    """This worker runs no such job. The sentence goes into its result."""


@dataclass(frozen=True, slots=True)
class Guise:
    """How a job becomes its user: what comes before its command, up to `sh -c`'s; and what it finds in its environment.

    Empty for the worker's own user without limits: then there is nothing between guard and shell.
    """

    argv: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    # Of another user: what comes before a command that has variables of its own (see `dressed`).
    dressing: tuple[str, ...] = ()
    # What comes before a command that dies with the guard.
    leash: tuple[str, ...] = ()

    def dressed(self, own: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
        """What comes before the command of a job with variables of its own, and the environment to start it in.

        No program that runs as root may see them under their names: LD_PRELOAD would be obeyed. So become.py gets them
        under others, and gives them their names when it is the user.
        """
        if not self.dressing:
            return self.argv, {**self.environ, **own}
        return self.dressing, {**self.environ, **_disguised(own)}

    def leashed(self, own: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
        """The same for a job that dies with the guard, with variables of its own or without."""
        return self.leash, {**self.environ, **_disguised(own)}


class Users:
    """The users of one worker, looked up once, at its start."""

    def __init__(self, names: Sequence[str] = (), *, no_new_privs: bool = True, bounding: tuple[str, ...] = ()) -> None:
        """`bounding`: what each job goes through before its command. Raises UsersError when one of the names is
        unknown, or this process can't become that user.
        """
        self._own = _own_name()
        self._names = tuple(names)
        self._guises: dict[str, Guise] = {}
        shell = (*bounding, *_SHELL)
        self._plain = Guise(shell if bounding else (), leash=(*_become(os.getpid()), *shell))
        if names and os.geteuid() != 0:
            raise UsersError("only a worker of root can run jobs as other users: start it as root, or set no `users`")
        for name in names:
            self._guises[name] = self._plain if name == self._own else _guise(name, no_new_privs, bounding)

    @property
    def as_root(self) -> bool:
        """Whether jobs are root's without anybody having said so."""
        return not self._names and os.geteuid() == 0

    def guise(self, name: str | None) -> Guise:
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


def _guise(name: str, no_new_privs: bool, bounding: tuple[str, ...]) -> Guise:
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise UsersError(f"there is no user {name} on this host: take the name out of `users`") from None
    if found.pw_uid == 0:
        raise UsersError(f"{name} is root by another name: write root, if that is meant")
    environ = {"HOME": found.pw_dir, "USER": name, "LOGNAME": name}
    trouble = ""
    python, *better = _switches(found, no_new_privs)
    for switch in (*better, python):
        trouble = _trouble(switch)
        if not trouble:
            after = (*bounding, *_AT_HOME)
            leash = (*_become(os.getpid(), found), *after)
            return Guise((*switch, *after), environ, (*python, *after), leash)
    raise UsersError(f"jobs can't be run as {name}: {trouble}")


def _switches(user: pwd.struct_passwd, no_new_privs: bool) -> list[tuple[str, ...]]:
    """Programs that become the user and then what follows: Python's, and a better one if there is one."""
    ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--inh-caps=-all")
    bounds = ("--no-new-privs", "--bounding-set=-all") if no_new_privs else ()
    setpriv = shutil.which("setpriv", path=os.defpath)
    return [_become(0, user), *([(setpriv, *ids, *bounds, "--")] if setpriv else [])]


def _become(guard: int, user: pwd.struct_passwd | None = None) -> tuple[str, ...]:
    """become.py's command line, up to the program. `guard`: the process with which that dies; 0: with none."""
    name, uid, gid = (user.pw_name, user.pw_uid, user.pw_gid) if user is not None else ("", 0, 0)
    return (sys.executable, "-I", "-S", str(_BECOME), str(guard), name, str(uid), str(gid))


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
            {"PATH": os.defpath, MARK: mark, RUN_MARK: str(_PROBE_RUN)},
            file_actions=(
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, stdout, 1),
                (os.POSIX_SPAWN_DUP2, stdout, 2),
            ),
        )
        os.close(stdout)
        stdout = -1
        said = os.read(from_it, _SENTENCE_BYTES).decode(errors="replace").strip()
        known = run_of(pid, mark) == _PROBE_RUN
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
