"""zsched end: end the schedules of recurring jobs for good.

Usage:
  zsched end [options] <selector>...

The job never fires again; it and its runs stay visible. If its last run has not ended, use --cancel, or pause the job
and end it later. Selectors: 12, 3-8, 1,4,9 and last.

Options:
  --reason=TEXT  Why, for the event.
  --cancel       Also cancel the last run, if it has not ended.
  -q, --quiet    Print only job IDs.
  --json         Print the jobs as a JSON array.
  --url=URL      The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help     Show this.

Exit codes: 0 done; 1 a job has no schedule, its last run has not ended, or this is not allowed; 2 wrong
usage; 3 there is no such job; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zsched.client.client import Job
from zsched.commands import options, recurring


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    return recurring.change(__doc__, argv, _end)


def _end(job: Job, arguments: Mapping[str, options.Value]) -> str:
    job.end(cancel=bool(arguments["--cancel"]), reason=options.text(arguments, "--reason") or "")
    if not job.view["live"]:
        return "ended"
    return "ended; its last run is being cancelled" if arguments["--cancel"] else f"ended; its last run is {job.status}"
