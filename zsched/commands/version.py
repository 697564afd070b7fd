"""zsched version: show the version.

Usage:
  zsched version [options]

Options:
  -h, --help  Show this.
"""

from __future__ import annotations

from collections.abc import Sequence

from zsched import __version__
from zsched.commands import options


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    options.parse(__doc__, argv, mixed=True)
    print(f"zsched {__version__}")
    return 0
