"""Build a job's command line from the words of ours. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

# Stands for a line of input in the command of `zsched submit --each-line`.
PLACE = "{}"


def command_line(words: Sequence[str]) -> str:
    """The command line for sh. A single word is taken as it is; several are a program and its arguments."""
    return words[0] if len(words) == 1 else shlex.join(words)


def for_input(words: Sequence[str], given: str) -> str:
    """The command for one line of input. The line replaces {}, or comes last if there is no {}, and is quoted for sh.
    Without a command the line is the command.
    """
    if not words:
        return given
    if not any(PLACE in word for word in words):
        return f"{command_line(words)} {shlex.quote(given)}"
    if len(words) == 1:
        return words[0].replace(PLACE, shlex.quote(given))
    return shlex.join([word.replace(PLACE, given) for word in words])


def argv_for_input(words: Sequence[str], given: str) -> list[str]:
    """A program and its arguments for one line of input. The line replaces {}, or comes last if there is no {}."""
    if not any(PLACE in word for word in words):
        return [*words, given]
    return [word.replace(PLACE, given) for word in words]
