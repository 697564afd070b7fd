"""zsched list: list jobs, newest first.

Usage:
  zsched list [options]

Options:
  --status=STATUS  Only those that are pending, running, success, failed or cancelled.
  --owner=OWNER    Only those of an owner: user:NAME, token:NAME, or me.
  --limit=COUNT    At most so many (20).
  -q, --quiet      Print numbers only.
  --json           Print the jobs as a JSON array.
  --url=URL        Where the scheduler answers: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help       Show this.

Exit codes: 0 done; 2 wrong usage; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zsched.client import Client
from zsched.commands import options, table

LIMIT: Final = 20
STATUSES: Final = ("pending", "running", "success", "failed", "cancelled")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    found = options.parse(__doc__, argv, mixed=True)
    status = options.choice(__doc__, found, "--status", STATUSES)
    limit = options.number(__doc__, found, "--limit") or LIMIT
    with Client(options.text(found, "--url")) as client:
        jobs = list(client.jobs(status, limit, owner=options.text(found, "--owner")))
    if found["--json"]:
        table.document([job.view for job in jobs])
    elif found["--quiet"]:
        for job in jobs:
            print(job.id)
    else:
        rows = [
            (job.id, job.status, table.moment(job.view["created_at"]), job.view.get("owner"), job.name) for job in jobs
        ]
        table.show(("job", "status", "submitted", "owner", "name"), rows)
    return 0
