"""Tables for people: by rich on a terminal, plain columns elsewhere. And results as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Final

from zsched.commands.text import line

# Styles of status words on a terminal.
_STYLES: Final = {
    "success": "green",
    "active": "green",
    "failed": "red",
    "cancelled": "yellow",
    "running": "cyan",
    "inactive": "dim",
    "paused": "yellow",
    "ended": "dim",
}


def show(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows with column names. Numbers are right-aligned."""
    cells = [[line("" if cell is None else str(cell)) for cell in row] for row in rows]
    numeric = [all(isinstance(row[column], int | float | None) for row in rows) for column in range(len(names))]
    if sys.stdout.isatty():
        _draw(names, cells, numeric)
        return
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for row in (names, *cells):
        fitted = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        print("  ".join(fitted).rstrip())


def _draw(names: Sequence[str], cells: Sequence[Sequence[str]], numeric: Sequence[bool]) -> None:
    # Its import takes longer than the rest of a command.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, right in zip(names, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in cells:
        # As Text, since a cell of plain str may hold markup.
        table.add_row(*(Text(cell, _STYLES.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)


def moment(time: str) -> str:
    """A timestamp of REST to the second: `2026-11-24 08:27:08Z`."""
    return f"{time[:19].replace('T', ' ')}Z"


def document(value: object) -> None:
    """Print a value as one JSON document. ASCII only, so that it can't control a terminal."""
    print(json.dumps(value, indent=2), flush=True)


def record(value: object) -> None:
    """Print a value as a line of JSON, unbuffered."""
    print(json.dumps(value), flush=True)
