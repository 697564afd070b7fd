"""zsched workers: list the workers.

Usage:
  zsched workers [options]

Options:
  -q, --quiet  Print only names.
  --json       Print the workers as a JSON array.
  --url=URL    The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help   Show this.

Exit codes: 0 done; 2 wrong usage; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from zsched.client import Client
from zsched.commands import options, table


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    found = options.parse(__doc__, argv, mixed=True)
    with Client(options.text(found, "--url")) as client:
        workers = client.workers()
    if found["--json"]:
        table.document(workers)
    elif found["--quiet"]:
        for worker in workers:
            print(worker["worker_id"])
    else:
        names = ("worker", "status", "kind", "slots", "host", "last seen")
        keys = ("worker_id", "status", "kind", "slots", "host")
        rows = [(*map(worker.get, keys), table.moment(worker["last_seen"])) for worker in workers]
        table.show(names, rows)
    return 0
