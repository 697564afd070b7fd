"""zsched cancel: cancel jobs.

Usage:
  zsched cancel [options] <selector>...

A pending run never starts. A running one gets TERM, after 10 s KILL, with everything that it started; `zsched wait`
waits for that. A schedule goes on. Selectors: 12, 3-8, 1,4,9, last, and all: those that have not ended.

Options:
  -q, --quiet  Print numbers only.
  --json       Print the jobs as a JSON array.
  --url=URL    Where the scheduler answers: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help   Show this.

Exit codes: 0 done; 1 there was nothing to cancel of one that was named; 2 wrong usage; 3 there is no such job; 4 no
scheduler answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from zsched.client import Client, Job, NotFound, Refused
from zsched.commands import exits, options, selection, table


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    found = options.parse(__doc__, argv, mixed=True)
    chosen = options.selected(__doc__, found)
    cancelled: list[Job] = []
    code = 0
    with Client(options.text(found, "--url")) as client:
        for number in selection.resolve(chosen, client):
            try:
                job = Job(client, {"id": number}).cancel()
            except NotFound:
                exits.say(f"there is no job {number}")
                code = exits.NOT_FOUND
            except Refused as error:
                if error.code != "finished":
                    raise
                # What `all` found may have ended meanwhile; who named a job shall know.
                if number in chosen.ids or chosen.last:
                    exits.say(str(error))
                    code = code or exits.FAILED
            else:
                cancelled.append(job)
                if not found["--json"]:
                    print(number if found["--quiet"] else f"{number} {'cancelled' if job.done else 'cancelling'}")
    if found["--json"]:
        table.document([job.view for job in cancelled])
    return code
