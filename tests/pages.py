"""Pages of docs/ with parts that the code generates, each between two marks."""

# ruff: noqa: T201  (stdout is the interface)
from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def put(text: str, begin: str, generated: str, end: str) -> str:
    """The text with what was generated between the marks, which are in it."""
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{generated}{end}{tail}"


def main(path: Path, page: Callable[[], str], generated: Callable[[], str]) -> None:
    """Print what is generated; with --write, write the page instead."""
    if "--write" in sys.argv[1:]:
        path.write_text(page(), "utf-8")
    else:
        print(generated(), end="")
