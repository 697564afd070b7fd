"""The number of CPUs that this process may use: its affinity mask, bounded by the quotas of its cgroups."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """At least 1. The affinity mask, bounded by the smallest cpu.max of the cgroups (v2) above, rounded up."""
    allowed = len(os.sched_getaffinity(0))
    quotas = [-(-quota // period) for quota, period in _quotas(Path("/proc/self/cgroup"), _CGROUPS)]
    return max(1, min([allowed, *quotas]))


def _quotas(own: Path, root: Path) -> list[tuple[int, int]]:
    """(quota, period) in microseconds of each cgroup that has one, from the process's own up to the root."""
    try:
        lines = own.read_text("utf-8").splitlines()
    except OSError:
        return []
    paths = [line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    found = []
    for path in paths:
        group = root / path
        for folder in (group, *group.parents):
            try:
                quota, period = (folder / "cpu.max").read_text("ascii").split()
            except (OSError, ValueError):
                quota, period = "max", ""
            if quota != "max":
                found.append((int(quota), int(period)))
            if folder == root:
                break
    return found
