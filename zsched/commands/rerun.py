"""zsched rerun: run jobs again that have ended.

Usage:
  zsched rerun [options] <selector>...

A job keeps its ID, and its attempts are counted on; its retries and crashes count from 0 again. A deadline that has
passed does not count. Prints each job, or sums for more than 20 jobs. Selectors: 12, 3-8, 1,4,9, last and all; 12.3 and
12.3-8 are tasks of job 12. `all` means your own jobs that have ended; it asks first on a terminal, and needs --yes
elsewhere.

Options:
  --failed       Only jobs that failed; of an array, only the tasks that failed, also while others run.
  --reason=TEXT  Why, for the events.
  --all-owners   With all: the jobs of all owners.
  --yes          Don't ask.
  -q, --quiet    Print nothing on stdout.
  --json         Print the outcome as JSON: how many jobs, and which.
  --url=URL      The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help     Show this.

Exit codes: 0 done; 1 a job has not ended, has a schedule or belongs to another owner, its unique key is taken, too many
are pending, or you did not confirm; 2 wrong usage; 3 there is no such job; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zsched.commands.acting import Act, act

_RERUN: Final = Act(
    "rerun",
    {"done": "runs again"},
    {
        "live": "{count} have not ended: {jobs}",
        "recurring": "{count} have a schedule: {jobs}",
        "too_many_pending": "as many jobs are pending as may be, so {count} do not run again: {jobs}",
        "priority_max": "{count} have a higher priority than your token allows: {jobs}",
        "unique": "{count} have a unique key that another job has taken: {jobs}",
        "dependency": "{count} wait for a job that has ended otherwise: {jobs}; run that again as well",
        "not_owner": "",
    },
    every="ended",
    alone=True,
    by_task=True,
)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return act(__doc__, argv, _RERUN)
