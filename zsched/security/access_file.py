"""An access file: the credentials of a worker on another host, which `zsched access new` writes.

Called by config/, for the worker's name, and by keys.py, which checks the keys. Imports no ZeroMQ, because a worker's
guard does not either.

With several schedulers, `endpoint` and `server_key` are lists with commas. The keys stand in the order of the
endpoints; a single key is that of all.
"""

from __future__ import annotations

import configparser
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from zsched.host import files

_SECTION: Final = "access"
NAMES: Final = ("worker", "endpoint", "server_key", "public_key", "secret_key")
_ENDPOINT: Final = re.compile(r"tcp://([A-Za-z0-9._-]+|\[[A-Za-z0-9:.%]+\]):([0-9]{1,5})", re.ASCII)


def is_endpoint(text: str) -> bool:
    """Whether a text is a worker port's endpoint: tcp://HOST:PORT."""
    match = _ENDPOINT.fullmatch(text)
    return match is not None and 0 < int(match[2]) < 65_536


def split(text: str) -> tuple[str, ...]:
    """The items of a value with commas between them."""
    return tuple(item.strip() for item in text.split(","))


def parse(text: str) -> dict[str, str]:
    """The values of a file by their names, unchecked; some may be missing. Raises ValueError for any other file."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("# ",))
    try:
        parser.read_string(text)
        return dict(parser[_SECTION])
    except (configparser.Error, KeyError):
        raise ValueError("is not an access file") from None


def format_file(values: Sequence[str]) -> str:
    """The text of a file. The values stand in the order of NAMES."""
    about = f"# Credentials for {values[0]}. Anyone who can read this file can act as that worker: keep its mode 0600."
    lines = [f"{name} = {value}" for name, value in zip(NAMES, values, strict=True)]
    return "\n".join((about, f"[{_SECTION}]", *lines, ""))


def introduction(path: Path) -> tuple[str, tuple[str, ...]]:
    """The worker's name and the schedulers' endpoints in a file.

    Raises OSError, and ValueError with the end of a sentence. Reads regular files only: a pipe could not be read again.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("is not a regular file")
        found = parse(file.read(files.FILE_BYTES_MAX).decode("ascii", errors="replace"))
    endpoints = split(found.get("endpoint", ""))
    if not all(map(is_endpoint, endpoints)):
        raise ValueError("has no endpoint tcp://HOST:PORT")
    return found.get("worker", ""), endpoints
