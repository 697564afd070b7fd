"""zsched summary: count tasks and workers.

Usage:
  zsched summary [options]

Options:
  --json      Print the counts as JSON.
  --url=URL   The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help  Show this.

Exit codes: 0 done; 2 wrong usage; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from zsched.client.client import Client
from zsched.commands import options, table
from zsched.commands.text import line


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    with Client(options.text(arguments, "--url")) as client:
        stats = client.stats()
    if arguments["--json"]:
        table.document(stats)
        return 0
    for name, value in stats.items():
        print(line(f"{name}: {_shown(value)}"))
    return 0


def _shown(value: object) -> object:
    """Counts by word, or schedulers with their roles, as a list on one line."""
    match value:
        case dict():
            return ", ".join(f"{count} {word}" for word, count in value.items())
        case list():
            return ", ".join(f"{each['url']} ({each['role']})" for each in value)
    return value
