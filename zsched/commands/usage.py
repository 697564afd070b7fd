"""zsched usage - sum up what the runs of each owner or queue have used.

Usage:
  zsched usage [options]

Counts runs that have ended, also those that were retried, and the time that they ran. Days are UTC; they are kept for
400 days.

Options:
  --by=WHAT     What to count by: owner or queue (owner).
  --since=TIME  Count from the day of TIME on: 30d (before now), or 2026-11-24T00:00:00Z (all days).
  --json        Print the sums as a JSON array.
  --url=URL     The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help    Show this.

Exit codes: 0 done; 2 wrong usage; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from zsched.client.client import Client
from zsched.commands import options, table


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    by = options.choice(__doc__, arguments, "--by", ("owner", "queue")) or "owner"
    with Client(options.text(arguments, "--url")) as client:
        used = client.usage(by, options.text(arguments, "--since"))
    if arguments["--json"]:
        table.document(used)
        return 0
    rows = [
        [each["key"] or "(none)", each["success"], each["failed"], each["cancelled"], round(each["run_seconds"], 1)]
        for each in used
    ]
    table.show([by, "success", "failed", "cancelled", "run seconds"], rows)
    return 0
