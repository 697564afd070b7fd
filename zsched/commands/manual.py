"""Fit a manual page, which is written for 120 columns, to a narrower terminal. Pure."""

from __future__ import annotations

import re
import textwrap
from typing import Final

# The begin of a line up to its description: the indentation, or an option or command and the gap behind it.
_HEAD: Final = re.compile(r" +(?:\S+(?: \S+)* {2,}(?=\S))?")


def fitted(page: str, columns: int) -> str:
    """The page with lines of at most this length, except for longer words. It stays as it is if it fits."""
    lines = page.splitlines()
    if max(map(len, lines)) <= columns:
        return page
    # Each entry is the begin of its first line, and its text from all of its lines.
    entries: list[tuple[str, str]] = []
    in_usage = False
    for line in lines:
        found = _HEAD.match(line)
        head = "" if found is None or in_usage else found[0]
        text = line[len(head) :]
        before, said = entries[-1] if entries else ("", "")
        # A line goes on where the one before has its text, and one of the usage is deeper. Headings stand alone.
        if in_usage and _depth(text) > _depth(said) > 0:
            entries[-1] = (before, f"{said} {text.strip()}")
        elif said and text and not in_usage and head == " " * len(before) and not said.endswith(":"):
            entries[-1] = (before, f"{said} {text}")
        else:
            entries.append((head, text))
        in_usage = line == "Usage:" or (in_usage and bool(line))
    return "\n".join(_wrapped(head, text, columns) for head, text in entries)


def _depth(text: str) -> int:
    return len(text) - len(text.lstrip())


def _wrapped(head: str, text: str, columns: int) -> str:
    # A usage line has its indentation in the text.
    hang = " " * (len(head) or (_depth(text) + 4 if text.startswith(" ") else 0))
    return textwrap.fill(
        text,
        columns,
        initial_indent=head,
        subsequent_indent=hang,
        break_long_words=False,
        break_on_hyphens=False,
    )
