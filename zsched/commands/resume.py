"""zsched resume: resume recurring jobs that were paused.

Usage:
  zsched resume [options] <selector>...

The job fires next at the next time of its schedule. Times that passed during the pause are skipped. Resuming a job that
is not paused changes nothing. Selectors: 12, 3-8, 1,4,9 and last.

Options:
  --reason=TEXT  Why, for the event.
  -q, --quiet    Print only job IDs.
  --json         Print the jobs as a JSON array.
  --url=URL      The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help     Show this.

Exit codes: 0 done; 1 a job has no schedule, its schedule has ended, or this is not allowed; 2 wrong usage;
3 there is no such job; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zsched.client.client import Job
from zsched.commands import options, recurring


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return recurring.change(__doc__, argv, _resume)


def _resume(job: Job, arguments: Mapping[str, options.Value]) -> str:
    job.resume(options.text(arguments, "--reason") or "")
    return f"scheduled{recurring.next_fire(job)}"
