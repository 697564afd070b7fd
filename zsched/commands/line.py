"""Command lines of jobs, made from what was typed. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

# Stands for a line of input in the command of `zsched submit --each-line`.
PLACE = "{}"


def command_line(words: Sequence[str]) -> str:
    """What sh is to run: a single word is a line as it stands, several are a program and its arguments."""
    return words[0] if len(words) == 1 else shlex.join(words)


def for_input(words: Sequence[str], given: str) -> str:
    """The command for one line of input: it stands where {} is, or last where there is none; without a command the
    line itself is one. Its own characters mean nothing to sh.
    """
    if not words:
        return given
    if not any(PLACE in word for word in words):
        return f"{command_line(words)} {shlex.quote(given)}"
    if len(words) == 1:
        return words[0].replace(PLACE, shlex.quote(given))
    return shlex.join([word.replace(PLACE, given) for word in words])
