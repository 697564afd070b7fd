"""zsched wait: wait until jobs have ended.

Usage:
  zsched wait [options] <selector>...

Prints each job and its status as it ends; for more than 20 jobs only those that failed, then a summary. Selectors: 12,
3-8, 1,4,9, last and all. `all` means your own jobs that have not ended when the command starts, without recurring jobs.
It misses jobs that ended earlier, so a script should name its jobs:

  ids=$(zsched submit --range --each-line FILE) && zsched wait $ids

Options:
  --all-owners        With all: the jobs of all owners.
  --timeout=DURATION  Wait no longer than this.
  -q, --quiet         Print nothing.
  --json              Print the jobs as a JSON array, when all have ended.
  --url=URL           The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help          Show this.

Ctrl-C stops waiting; the jobs keep running. A restart of the scheduler does not disturb the wait.

Exit codes: 0 all succeeded; 1 one failed or was cancelled; 2 wrong usage; 3 there is no such job; 4 no scheduler
answers; 124 timeout; 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence

from zsched.client.client import Client, Job
from zsched.commands import exits, options, selection, table, waiting
from zsched.model import spans
from zsched.model.limits import JOBS_SHOWN_MAX


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    timeout_s = options.seconds(__doc__, arguments, "--timeout")
    chosen = options.selected(__doc__, arguments)
    owner = options.owner(__doc__, arguments, chosen)
    quiet, as_json = bool(arguments["--quiet"]), bool(arguments["--json"])
    with Client(options.text(arguments, "--url")) as client:
        ids = selection.resolve(chosen, client, owner)
        if not as_json and (quiet or len(ids) > JOBS_SHOWN_MAX):
            counts = waiting.wait_for_counts(client, ids, timeout_s, quiet=quiet)
            return exits.FAILED if counts["failed"] or counts["cancelled"] else 0
        ended: dict[int, Job] = {}
        with waiting.hint_on_interrupt(lambda: ids - spans.of_numbers(ended)):
            for job in waiting.as_completed(client, ids, timeout_s):
                ended[job.id] = job
                if not as_json:
                    print(waiting.line(job), flush=True)
                    exits.say_note(job)
    if as_json:
        table.document([ended[number].view for number in ids])
    return 0 if all(job.status == "success" for job in ended.values()) else exits.FAILED
