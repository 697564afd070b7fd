"""The forms of names: workers, users, queues, keys, variables. Pure.

A regular expression here is for `fullmatch`. Imports nothing heavy: the commands use it.
"""

from __future__ import annotations

import re
from typing import Final

# A worker's name is part of URLs, paths and log lines: printable ASCII without spaces, quotes and slashes.
WORKER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")

# A user's name as useradd(8) accepts it, with capital letters too.
USER_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}\$?")

# A job's tag. Commas and spaces separate tags.
TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=@+-]{0,63}")

# A queue's name. `*` stands for all queues where a worker says which it serves.
QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
QUEUE_RULE: Final = "1 to 64 letters, digits and . _ -, a letter or digit first"
SERVED_QUEUE: Final = re.compile(rf"{QUEUE_NAME.pattern}|\*")
DEFAULT_QUEUE: Final = "default"
ALL_QUEUES: Final = "*"

# A key of `limits`, and a unique key. Without spaces: a key that belongs to an owner is stored behind the owner.
KEY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=@+-]{0,63}")
KEY_RULE: Final = "1 to 64 letters, digits and ._:/=@+-, a letter or digit first"

# The name of a label and its value. A value may be the name of a worker, or of a host.
LABEL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
LABEL_VALUE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/=@+-]{0,254}")
LABEL_RULE: Final = "a name of letters, digits and ._/-, and a value of letters, digits and ._:/=@+-, such as disk=ssd"

# An environment variable's name as every shell accepts it.
VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_UNUSUAL: Final = re.compile("[^A-Za-z0-9._-]")


def plain_name(name: str) -> str:
    """A name from outside as one that no terminal, shell or browser takes for something else: letters, digits and
    `._-`, no dot first.
    """
    plain = _UNUSUAL.sub("_", name) or "_"
    return f"_{plain[1:]}" if plain.startswith(".") else plain
