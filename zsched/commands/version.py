"""zsched version: show the version.

Usage:
  zsched version [options]

Options:
  --json      Print it as JSON.
  -h, --help  Show this.
"""

from __future__ import annotations

from collections.abc import Sequence

from zsched import __version__
from zsched.commands import options, table


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    if arguments["--json"]:
        table.document({"name": "zsched", "version": __version__})
    else:
        print(f"zsched {__version__}")
    return 0
