"""Resource limits of jobs, by setrlimit(2). Only the guard uses this.

They cost nothing on a worker without such a setting. prlimit(1) of util-linux sets the limits and then executes the job
(1 ms). It must not see the job's own variables: the dynamic linker would obey LD_PRELOAD before the limits are set. So
become.py, which gives those variables their names last, sets the limits of a job that has some.

The guard can't lower its own limits while a job starts, as it does for open files: without root's rights it could not
raise the hard limits again. And prlimit(2) after the start would miss the processes that the job has started by then.
"""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# By prlimit(1)'s names.
_NUMBERS: Final = {
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "core": resource.RLIMIT_CORE,
}


class LimitsError(Exception):
    """The limits can't be set here. The sentence is for the operator."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of each job, soft and hard, in two notations. Both are empty without limits."""

    # The command line of prlimit(1), up to the program to execute.
    prlimit: tuple[str, ...] = ()
    # The argument of become.py: `nofile=64,core=0`.
    text: str = ""


def limits_of(limits: Mapping[str, int | None]) -> Limits:
    """The limits by prlimit(1)'s names; None leaves one unchanged. Raises LimitsError.

    None of them may be above the worker's own hard limit: without root's rights it can't be raised.
    """
    given = {name: limit for name, limit in limits.items() if limit is not None}
    for name, limit in given.items():
        _, hard = resource.getrlimit(_NUMBERS[name])
        if hard != resource.RLIM_INFINITY and limit > hard:
            raise LimitsError(
                f"invalid job_{name} {limit}: above the worker's own hard limit, {hard}; lower it, or raise that"
            )
    if not given:
        return Limits()
    prlimit = shutil.which("prlimit", path=os.defpath)
    if prlimit is None:
        raise LimitsError("job limits need the program prlimit: install util-linux, or remove the job_ limits")
    return Limits(
        (prlimit, *(f"--{name}={limit}:{limit}" for name, limit in given.items()), "--"),
        ",".join(f"{name}={limit}" for name, limit in given.items()),
    )
