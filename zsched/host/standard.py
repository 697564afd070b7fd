"""Descriptors 0, 1 and 2. A program may be started without them; the first files it opens would get their numbers."""

from __future__ import annotations

import os


def fill() -> None:
    """Open /dev/null for each of them that is closed, so that no other file gets its number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
