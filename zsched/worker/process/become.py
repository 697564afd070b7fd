"""Change the user, then execute a program: `python -I -S become.py GUARD NAME UID GID LIMITS PROGRAM ARGUMENT…`.

A program of its own, for three kinds of jobs:

- Jobs of another user, on hosts where setpriv fails. An empty NAME leaves the user unchanged.
- Jobs with variables of their own. These arrive as ZSCHED_VARIABLE_0=NAME=VALUE and so on, and get their names with the
  last system call, execve: so no program obeys them before the user and LIMITS (`nofile=64,core=0`, or empty) are set.
- Jobs that must not outlive their guard: GUARD is its process id, 0 for other jobs.

It imports nothing of zsched, so that it starts fast and runs only this file's code as root.
"""

import os
import signal
import sys

# linux/prctl.h
_PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Does not return. Raises OSError."""
    guard, name, uid, gid, limits = int(argv[1]), argv[2], int(argv[3]), int(argv[4]), argv[5]
    if name:
        os.initgroups(name, gid)
        os.setresgid(gid, gid, gid)
        # When all three ids are not 0, the kernel clears all capabilities.
        os.setresuid(uid, uid, uid)
    if guard:
        _die_with(guard)
    if limits:
        _limit(limits)
    # Python ignores these, and an exec keeps ignored signals ignored.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execve(argv[6], argv[6:], _environment())  # noqa: S606  (no shell is wanted)


def _limit(limits: str) -> None:
    """Set soft and hard limits. After the change of user: with RLIMIT_NPROC set before it, execve could fail."""
    import resource

    for limit in limits.split(","):
        name, _, value = limit.partition("=")
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (int(value), int(value)))


def _die_with(guard: int) -> None:
    """Have the kernel kill us when the guard ends. A change of user clears this; an exec of no setuid file keeps it."""
    # Imported here: not as root, and not for every job.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_PDEATHSIG")
    # If it ended before, another process is our parent by now.
    if os.getppid() != guard:
        raise OSError(0, "the guard has ended")


def _environment() -> dict[bytes, bytes]:
    inherited, own = {}, {}
    for name, value in os.environb.items():
        if name.startswith(b"ZSCHED_VARIABLE_"):
            own_name, _, own_value = value.partition(b"=")
            own[own_name] = own_value
        else:
            inherited[name] = value
    # A job can't set the marks and numbers of its run.
    return {**inherited, **{name: value for name, value in own.items() if not name.startswith(b"ZSCHED_")}}


if __name__ == "__main__":
    try:
        main(sys.argv)
    # ValueError: the kernel refuses a limit.
    except (OSError, ValueError) as error:
        sys.exit(f"become.py: {error}")
