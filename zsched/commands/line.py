"""Build a job's command line from the words of ours. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def command_line(words: Sequence[str]) -> str:
    """The command line for sh. A single word is taken as it is; several are a program and its arguments."""
    return words[0] if len(words) == 1 else shlex.join(words)
