"""zsched list: list jobs, newest first.

Usage:
  zsched list [options]

Of an array, the column tasks has how many of its tasks have ended. A recurring job is shown as scheduled, paused or
ended while none of its runs is pending or running. With several filters, only jobs that match all of them are shown.
Finding jobs by a part of their name or by their worker may take seconds among millions of jobs.

Options:
  --status=STATUS  Show only jobs that are pending, running, success, failed or cancelled.
  --owner=OWNER    Show only the jobs of an owner: user:NAME, token:NAME, or me.
  --name=NAME      Show only jobs with exactly this name.
  --search=TEXT    Show only jobs with TEXT in their name, in capital or small letters.
  --tag=TAG        Show only jobs with this tag.
  --queue=QUEUE    Show only jobs of this queue.
  --flow=FLOW      Show only jobs of the flow with this number.
  --worker=WORKER  Show only jobs of which this worker had a run.
  --since=TIME     Show only jobs that were submitted at TIME or later: 2h (before now), or 2026-11-24T08:00:00Z.
  --limit=COUNT    Show at most COUNT jobs (20).
  -q, --quiet      Print only job IDs.
  --json           Print the jobs as a JSON array.
  --url=URL        The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help       Show this.

Exit codes: 0 done; 2 wrong usage; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from zsched.client.client import Client, Job
from zsched.commands import options, recurring, table
from zsched.model.names import DEFAULT_QUEUE

LIMIT: Final = 20
STATUSES: Final = ("pending", "running", "success", "failed", "cancelled")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    status = options.choice(__doc__, arguments, "--status", STATUSES)
    limit = options.number(__doc__, arguments, "--limit") or LIMIT
    with Client(options.text(arguments, "--url")) as client:
        jobs = list(
            client.jobs(
                status,
                limit,
                owner=options.text(arguments, "--owner"),
                name=options.text(arguments, "--name"),
                search=options.text(arguments, "--search"),
                tag=options.text(arguments, "--tag"),
                worker=options.text(arguments, "--worker"),
                queue=options.text(arguments, "--queue"),
                flow=options.number(__doc__, arguments, "--flow"),
                since=options.text(arguments, "--since"),
            )
        )
    if arguments["--json"]:
        table.document([job.view for job in jobs])
    elif arguments["--quiet"]:
        for job in jobs:
            print(job.id)
    else:
        show(jobs)
    return 0


def show(jobs: Sequence[Job]) -> None:
    """Print the jobs as a table. It has columns for the tasks of arrays, the next fire, the queue, the priority, the
    flow and the tags if a job has them.
    """
    names, rows = (
        ["job", "status", "submitted"],
        [[job.id, recurring.state(job), _moment(job, "created_at")] for job in jobs],
    )
    if any(job.counts for job in jobs):
        names.append("tasks")
        for row, job in zip(rows, jobs, strict=True):
            row.append(_progress(job))
    if any(job.schedule is not None for job in jobs):
        names.append("next fire")
        for row, job in zip(rows, jobs, strict=True):
            row.append(_moment(job, "next_fire_at"))
    names.append("owner")
    for row, job in zip(rows, jobs, strict=True):
        row.append(job.view.get("owner"))
    for name, default in (("queue", DEFAULT_QUEUE), ("priority", 0)):
        if any(name in job.view for job in jobs):
            names.append(name)
            for row, job in zip(rows, jobs, strict=True):
                row.append(job.view.get(name, default))
    if any("flow" in job.view for job in jobs):
        names.append("flow")
        for row, job in zip(rows, jobs, strict=True):
            row.append(job.view.get("flow"))
    if any("tags" in job.view for job in jobs):
        names.append("tags")
        for row, job in zip(rows, jobs, strict=True):
            row.append(",".join(job.view.get("tags", ())))
    table.show([*names, "name"], [[*row, job.name] for row, job in zip(rows, jobs, strict=True)])


def _moment(job: Job, key: str) -> str:
    return table.moment(job.view[key]) if key in job.view else ""


def _progress(job: Job) -> str:
    """How many tasks of an array have ended, and how many of them not well: `4,980/5,000, 20 failed`."""
    counts = job.counts
    if not counts:
        return ""
    ended = f"{sum(counts[status] for status in ('success', 'failed', 'cancelled')):,}/{counts['total']:,}"
    return ", ".join([ended, *(f"{counts[word]:,} {word}" for word in ("failed", "cancelled") if counts[word])])
