"""zsched hold: let jobs start no run until they are released.

Usage:
  zsched hold [options] <selector>...

A running run goes on; its retries are held. Holding a held job changes nothing. A recurring job can't be held: use
`zsched pause`. Prints each job, or sums for more than 20 jobs. Selectors: 12, 3-8, 1,4,9, last and all; 12.3 and 12.3-8
are tasks of job 12. `all` means your own jobs that have not ended.

Options:
  --reason=TEXT    Why, for the job and its events.
  --status=STATUS  Hold only jobs with this status: pending or running.
  --all-owners     With all: the jobs of all owners. Asks first on a terminal; elsewhere it needs --yes.
  --yes            Don't ask.
  -q, --quiet      Print nothing on stdout.
  --json           Print the outcome as JSON: how many jobs, and which.
  --url=URL        The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help       Show this.

Exit codes: 0 done; 1 a job had already ended, has a schedule or belongs to another owner, or you did not confirm;
2 wrong usage; 3 there is no such job; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zsched.commands.acting import Act, act

_HOLD: Final = Act(
    "hold",
    {"done": "held"},
    {
        "finished": "{count} had already ended: {jobs}",
        "recurring": "{count} have a schedule: {jobs}; pause them with `zsched pause`",
        "not_owner": "",
    },
)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return act(__doc__, argv, _HOLD, ("pending", "running"))
