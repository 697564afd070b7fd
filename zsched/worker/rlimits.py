"""Limits of what a job may use, by setrlimit(2). Only the guard uses this.

prlimit(1) of util-linux sets them in front of the job and becomes it (1 ms a job), and only where a setting asks for
them. The guard's own limits can't stand in for the job's while it starts, as they do for open files: whoever is not
root can't raise its hard limits again. And prlimit(2) after the start would come too late for what the job has started
by then.
"""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Mapping
from typing import Final

# By the name that prlimit(1) gives it.
_NUMBERS: Final = {
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "core": resource.RLIMIT_CORE,
}


class LimitsError(Exception):
    """The limits can't be set here. The sentence is for the person who started the worker."""


def bounding(limits: Mapping[str, int | None]) -> tuple[str, ...]:
    """What comes before a job's command so that it has these limits, soft and hard; empty for none. Raises LimitsError.

    None leaves a limit as it is. A job can lower what it has, so none may be above the worker's own.
    """
    wanted = {name: most for name, most in limits.items() if most is not None}
    for name, most in wanted.items():
        _, hard = resource.getrlimit(_NUMBERS[name])
        if hard != resource.RLIM_INFINITY and most > hard:
            raise LimitsError(
                f"job_{name} {most} is above the worker's own hard limit, {hard}: lower it, or raise that"
            )
    if not wanted:
        return ()
    prlimit = shutil.which("prlimit", path=os.defpath)
    if prlimit is None:
        raise LimitsError("limits of jobs need the program prlimit: install util-linux, or set no job_ limits")
    return (prlimit, *(f"--{name}={most}:{most}" for name, most in wanted.items()), "--")
