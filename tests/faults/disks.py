"""Small file systems of a test's own, that can be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def small_disk(where: Path, options: str) -> Iterator[None]:
    """A file system at a new folder. `options`: of the mount, such as its size. Skips the test if that can't be."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts file systems")
    where.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", where], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", where], check=True)


class Full:
    """A file system that something else has filled."""

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._filler = disk / "filler"

    def fill(self) -> None:
        with self._filler.open("wb", buffering=0) as file:
            # What is still free is taken now; single pages last.
            for size in (1 << 20, 4096):
                with suppress(OSError):
                    while True:
                        file.write(b"\0" * size)

    def empty(self) -> None:
        self._filler.unlink()
