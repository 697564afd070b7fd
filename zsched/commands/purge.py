"""zsched purge: remove old jobs for good.

Usage:
  zsched purge --older-than=AGE [options]

Removes jobs that ended longer than AGE ago, with their runs, output and events. First shows how many, and asks.
Recurring jobs stay. The scheduler removes old jobs by itself, as its settings keep_success and keep_others say.

Options:
  --older-than=AGE  How long ago the jobs changed last: 30d, 12h.
  --status=STATUS   Only jobs that ended as success, failed or cancelled.
  --dry-run         Only show how many jobs would be removed.
  --yes             Don't ask.
  --json            Print the numbers as JSON.
  --url=URL         The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help        Show this.

Exit codes: 0 done; 1 this is not allowed, or the answer was no; 2 wrong usage; 4 no scheduler answers.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Final

from zsched.client.client import Client
from zsched.client.http import HOLD_S
from zsched.commands import exits, options, table
from zsched.commands.acting import confirm
from zsched.model.units import counted

STATUSES: Final = ("success", "failed", "cancelled")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    body: dict[str, object] = {"older_than": options.text(arguments, "--older-than")}
    if (status := options.choice(__doc__, arguments, "--status", STATUSES)) is not None:
        body["status"] = status
    asks = not arguments["--yes"] and not arguments["--dry-run"]
    if asks and not sys.stdin.isatty():
        options.fail(__doc__, "this removes jobs for good: give --yes too, or --dry-run")
    with Client(options.text(arguments, "--url")) as client:
        if asks or arguments["--dry-run"]:
            # A count that takes too long is of the first jobs only.
            view = client.ask("POST", "/jobs/purge", {**body, "dry_run": True}, hold_s=HOLD_S).json()
            found = Counter({name: view[name] for name in STATUSES})
            if arguments["--dry-run"]:
                show("would be removed", found, json=bool(arguments["--json"]))
                return 0
            if not found.total():
                show("removed", found, json=bool(arguments["--json"]))
                return 0
            least = "at least " if view["more"] else ""
            if not confirm(f"remove {least}{_words(found)} for good?"):
                return exits.FAILED
        done, more = Counter[str](), True
        while more:
            view = client.ask("POST", "/jobs/purge", body, hold_s=HOLD_S).json()
            done.update({name: view[name] for name in STATUSES})
            more = view["more"]
    show("removed", done, json=bool(arguments["--json"]))
    return 0


def show(what: str, jobs: Counter[str], *, json: bool) -> None:
    """Print how many jobs it were, by status."""
    if json:
        table.document({name: jobs[name] for name in STATUSES})
    else:
        print(f"{what}: {_words(jobs)}")


def _words(jobs: Counter[str]) -> str:
    """`3 jobs (2 success, 1 failed)`."""
    parts = ", ".join(f"{jobs[name]} {name}" for name in STATUSES if jobs[name])
    return counted(jobs.total(), "job") + (f" ({parts})" if parts else "")
