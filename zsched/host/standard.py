"""Descriptors 0, 1 and 2. A program may be started without them; what it opens first would then have their numbers."""

from __future__ import annotations

import os


def fill() -> None:
    """Put /dev/null where one of them is closed, so that no pipe, file or connection gets such a number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
