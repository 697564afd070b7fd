"""zsched cancel: cancel jobs.

Usage:
  zsched cancel [options] <selector>...

A pending run never starts. A running one gets TERM; after the job's kill grace, it and everything it started get KILL.
`zsched wait` waits for that. A recurring job keeps its schedule; use `zsched end` to end it. Prints each job, or sums
for more than 20 jobs. Selectors: 12, 3-8, 1,4,9, last and all; 12.3 and 12.3-8 are tasks of job 12. `all` means your
own jobs that have not ended.

Options:
  --reason=TEXT    Why, for the job and its events.
  --status=STATUS  Cancel only jobs with this status: pending or running.
  --all-owners     With all: the jobs of all owners. Asks first on a terminal; elsewhere it needs --yes.
  --yes            Don't ask.
  -q, --quiet      Print nothing on stdout, and no line about jobs that had already ended.
  --json           Print the outcome as JSON: how many jobs, and which.
  --url=URL        The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help       Show this.

Exit codes: 0 done; 1 a named job had already ended or belongs to another owner, or you did not confirm; 2 wrong usage;
3 there is no such job; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zsched.commands.acting import Act, act

_CANCEL: Final = Act(
    "cancel",
    {"done": "cancelled", "ending": "cancelling"},
    {"finished": "{count} had already ended: {jobs}", "not_owner": ""},
    quiet=("finished",),
)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return act(__doc__, argv, _CANCEL, ("pending", "running"))
