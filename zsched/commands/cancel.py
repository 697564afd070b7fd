"""zsched cancel: cancel jobs.

Usage:
  zsched cancel [options] <selector>...

A pending run never starts. A running one gets TERM, after 10 s KILL, with everything that it started; `zsched wait`
waits for that. A schedule goes on: `zsched end` ends it. Selectors: 12, 3-8, 1,4,9, last, and all: your own that have
not ended.

Options:
  --all-owners  With all: the jobs of all owners. Asks first, on a terminal; elsewhere it needs --yes.
  --yes         Don't ask.
  -q, --quiet   Print numbers only.
  --json        Print the jobs as a JSON array.
  --url=URL     Where the scheduler answers: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help    Show this.

Exit codes: 0 done; 1 nothing was left to cancel of a job that was named, it is another owner's, or the answer was no;
2 wrong usage; 3 there is no such job; 4 no scheduler answers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zsched.client import Client, Job, NotFound, Refused
from zsched.commands import exits, options, selection, table


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    found = options.parse(__doc__, argv, mixed=True)
    chosen = options.selected(__doc__, found)
    owner = options.owner(__doc__, found, chosen)
    asks = owner is None and not found["--yes"]
    if asks and not sys.stdin.isatty():
        options.fail(__doc__, "--all-owners cancels the jobs of all owners: give --yes too")
    cancelled: list[Job] = []
    code = 0
    with Client(options.text(found, "--url")) as client:
        numbers = selection.resolve(chosen, client, owner=owner)
        if asks and numbers and not agreed(f"cancel {len(numbers)} jobs, whoever owns them?"):
            return exits.FAILED
        for number in numbers:
            try:
                job = Job(client, {"id": number}).cancel()
            except NotFound:
                exits.say(f"there is no job {number}")
                code = exits.NOT_FOUND
            except Refused as error:
                if error.code not in ("finished", "not_owner"):
                    raise
                # What `all` found may have ended meanwhile; who named a job shall know.
                if error.code != "finished" or number in chosen.ids or chosen.last:
                    exits.say(str(error))
                    code = code or exits.FAILED
            else:
                cancelled.append(job)
                if not found["--json"]:
                    print(number if found["--quiet"] else f"{number} {'cancelled' if job.done else 'cancelling'}")
    if found["--json"]:
        table.document([job.view for job in cancelled])
    return code


def agreed(question: str) -> bool:
    """Ask on the terminal. Anything but yes is no, and so is the end of the input."""
    print(f"zsched: {question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
