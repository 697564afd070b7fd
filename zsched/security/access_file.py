"""An access file: the credentials of a worker on another host, which `zsched access new` writes.

Called by config/, for the worker's name, and by keys.py, which checks the keys. Imports no ZeroMQ, because a worker's
guard does not either.
"""

from __future__ import annotations

import configparser
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from zsched.model.limits import ACCESS_FILE_BYTES_MAX

_SECTION: Final = "access"
NAMES: Final = ("worker", "endpoint", "server_key", "public_key", "secret_key")
_ENDPOINT: Final = re.compile(r"tcp://([A-Za-z0-9._-]+|\[[A-Za-z0-9:.%]+\]):([0-9]{1,5})", re.ASCII)


def is_endpoint(text: str) -> bool:
    """Whether a worker can connect to that: tcp://HOST:PORT."""
    match = _ENDPOINT.fullmatch(text)
    return match is not None and 0 < int(match[2]) < 65_536


def parse(text: str) -> dict[str, str]:
    """The values of a file by their names, unchecked; some may be missing. Raises ValueError for any other file."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("# ",))
    try:
        parser.read_string(text)
        return dict(parser[_SECTION])
    except (configparser.Error, KeyError):
        raise ValueError("is not an access file") from None


def written(values: Sequence[str]) -> str:
    """The text of a file. The values stand in the order of NAMES."""
    about = f"# Credentials for {values[0]}. Anyone who can read this file can act as that worker: keep its mode 0600."
    lines = [f"{name} = {value}" for name, value in zip(NAMES, values, strict=True)]
    return "\n".join((about, f"[{_SECTION}]", *lines, ""))


def introduction(path: Path) -> tuple[str, str]:
    """The worker's name and the scheduler's endpoint in a file.

    Raises OSError, and ValueError with the end of a sentence. Reads regular files only: a pipe could not be read again.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        found = parse(file.read(ACCESS_FILE_BYTES_MAX).decode("ascii", errors="replace"))
    worker, endpoint = (found.get(name, "") for name in NAMES[:2])
    if not is_endpoint(endpoint):
        raise ValueError("has no endpoint tcp://HOST:PORT")
    return worker, endpoint
