"""zsched release: let held jobs start.

Usage:
  zsched release [options] <selector>...

Releasing a job that is not held changes nothing. Prints each job, or sums for more than 20 jobs. Selectors: 12, 3-8,
1,4,9, last and all; 12.3 and 12.3-8 are tasks of job 12. `all` means your own jobs that are held.

Options:
  --reason=TEXT  Why, for the events.
  --all-owners   With all: the jobs of all owners. Asks first on a terminal; elsewhere it needs --yes.
  --yes          Don't ask.
  -q, --quiet    Print nothing on stdout.
  --json         Print the outcome as JSON: how many jobs, and which.
  --url=URL      The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help     Show this.

Exit codes: 0 done; 1 a job has a schedule or belongs to another owner, or you did not confirm; 2 wrong usage;
3 there is no such job; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zsched.commands.acting import Act, act

_RELEASE: Final = Act(
    "release",
    {"done": "released"},
    {"recurring": "{count} have a schedule: {jobs}; resume them with `zsched resume`", "not_owner": ""},
    every="held",
)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return act(__doc__, argv, _RELEASE)
