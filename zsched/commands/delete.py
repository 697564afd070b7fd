"""zsched delete: remove jobs for good that have ended.

Usage:
  zsched delete [options] <selector>...

A job is removed with its runs and their output; its events follow soon. IDs are never used again. `zsched purge`
removes jobs by their age. A recurring job can't be removed: `zsched end` ends its schedule. Selectors: 12, 3-8, 1,4,9,
last and all. `all` means your own jobs that have ended; it asks first on a terminal, and needs --yes elsewhere.

Options:
  --status=STATUS  Remove only jobs with this status: success, failed or cancelled.
  --reason=TEXT    Why, for the event.
  --all-owners     With all: the jobs of all owners.
  --yes            Don't ask.
  -q, --quiet      Print nothing on stdout.
  --json           Print the outcome as JSON: how many jobs, and which.
  --url=URL        The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help       Show this.

Exit codes: 0 done; 1 a job has not ended, has a schedule or belongs to another owner, or you did not confirm; 2 wrong
usage; 3 there is no such job; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zsched.commands.acting import Act, act

_DELETE: Final = Act(
    "delete",
    {"done": "removed"},
    {
        "live": "{count} have not ended: {jobs}; cancel them first with `zsched cancel`",
        "recurring": "{count} have a schedule: {jobs}; end it with `zsched end`",
        "dependents": "{count} are needed by jobs that have not ended: {jobs}",
        "not_owner": "",
    },
    every="ended",
    alone=True,
    of_tasks=False,
)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return act(__doc__, argv, _DELETE, ("success", "failed", "cancelled"))
