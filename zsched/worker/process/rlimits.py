"""Limits of what a job may use, by setrlimit(2). Only the guard uses this.

Only jobs of a worker with such a setting pay for it. prlimit(1) of util-linux sets the limits and then becomes the job
(1 ms). It must not see the job's own variables: the dynamic linker would obey LD_PRELOAD before the limits are set. So
become.py, which gives those variables their names last, sets the limits of a job that has some.

The guard's own limits can't stand in for the job's while it starts, as they do for open files: without root's rights
the guard can't raise its hard limits again. And prlimit(2) after the start would come too late for what the job has
started by then.
"""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# By the name that prlimit(1) gives it.
_NUMBERS: Final = {
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "core": resource.RLIMIT_CORE,
}


class LimitsError(Exception):
    """The limits can't be set here. The sentence is for the person who started the worker."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of each job, soft and hard, in two notations. Both are empty when there are no limits."""

    # The command line of prlimit(1), up to the program that it becomes.
    prlimit: tuple[str, ...] = ()
    # The argument of become.py: `nofile=64,core=0`.
    text: str = ""


def limits_of(limits: Mapping[str, int | None]) -> Limits:
    """The limits by the names that prlimit(1) gives them; None leaves one as it is. Raises LimitsError.

    None of them may be above the worker's own: a process without root's rights can lower a hard limit, not raise it.
    """
    wanted = {name: most for name, most in limits.items() if most is not None}
    for name, most in wanted.items():
        _, hard = resource.getrlimit(_NUMBERS[name])
        if hard != resource.RLIM_INFINITY and most > hard:
            raise LimitsError(
                f"job_{name} {most} is above the worker's own hard limit, {hard}: lower it, or raise that"
            )
    if not wanted:
        return Limits()
    prlimit = shutil.which("prlimit", path=os.defpath)
    if prlimit is None:
        raise LimitsError("limits of jobs need the program prlimit: install util-linux, or set no job_ limits")
    return Limits(
        (prlimit, *(f"--{name}={most}:{most}" for name, most in wanted.items()), "--"),
        ",".join(f"{name}={most}" for name, most in wanted.items()),
    )
