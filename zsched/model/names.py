"""The forms of names: workers, users, variables. Pure.

A regular expression here is for `fullmatch`; an annotated type is for msgspec, which checks it while decoding.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from msgspec import Meta

# A worker's name is part of URLs, paths and log lines: printable ASCII without spaces, quotes and slashes.
WORKER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,127}")
WorkerName = Annotated[str, Meta(min_length=1, max_length=128, pattern=rf"^{WORKER_NAME.pattern}\Z")]

# A user's name as useradd(8) accepts it, with capital letters too.
USER_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}\$?")

# An environment variable's name as every shell accepts it.
VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
