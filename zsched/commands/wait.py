"""zsched wait: wait until jobs have ended.

Usage:
  zsched wait [options] <selector>...

Prints each job and its status as it ends; for more than 20 jobs only those that failed, then a summary. Of an array,
prints the tasks that fail. Selectors: 12, 3-8, 1,4,9, last and all; 12.3 and 12.3-8 are tasks of job 12. `all` means
your own jobs that have not ended when the command starts, without recurring jobs. It misses jobs that ended earlier, so
a script should name its jobs:

  id=$(zsched submit -q --each FILE) && zsched wait $id

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

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zsched.client.client import Client, Job, WaitTimeout
from zsched.commands import exits, options, selection, table, waiting
from zsched.commands.selection import Tasks
from zsched.model import spans
from zsched.model.limits import JOBS_SHOWN_MAX

if TYPE_CHECKING:
    from zsched.client.task import Task


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    timeout_s = options.seconds(__doc__, arguments, "--timeout")
    chosen = options.selected(__doc__, arguments, tasks=True)
    owner = options.owner(__doc__, arguments, chosen)
    quiet, as_json = bool(arguments["--quiet"]), bool(arguments["--json"])
    if chosen.tasks and (chosen.ids or chosen.last or chosen.every or chosen.flows):
        options.fail(__doc__, f"{chosen.tasks[0]} and whole jobs: wait for them by two commands")
    with Client(options.text(arguments, "--url")) as client:
        if chosen.tasks:
            return wait_for_tasks(
                client, selection.resolve_tasks(chosen, client), timeout_s, quiet=quiet, as_json=as_json
            )
        ids = selection.resolve(chosen, client, owner)
        if len(ids) == 1 and not as_json and (job := client.get(next(iter(ids)))).counts:
            return wait_for_array(job, timeout_s, quiet=quiet)
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


def wait_for_array(job: Job, timeout_s: float | None, *, quiet: bool) -> int:
    """Wait for a job that is an array; returns the exit code. Raises ClientError."""
    with waiting.hint_on_interrupt(lambda: job.id):
        waiting.wait_for_tasks(job, timeout_s, quiet=quiet)
    if not quiet:
        print(waiting.line(job), flush=True)
    return 0 if job.status == "success" else exits.FAILED


def wait_for_tasks(
    client: Client, chosen: Sequence[Tasks], timeout_s: float | None, *, quiet: bool, as_json: bool
) -> int:
    """Wait for single tasks; returns the exit code. Raises ClientError."""
    deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
    ended: list[Task] = []
    with waiting.hint_on_interrupt(lambda: ",".join(map(str, chosen))):
        for tasks in chosen:
            for task in selection.tasks_of(client, tasks):
                left_s = None if timeout_s is None else max(0.0, deadline_s - time.monotonic())
                try:
                    ended.append(task if task.done else task.wait(left_s))
                except WaitTimeout:
                    # Its time is what was left of ours.
                    raise WaitTimeout(f"task {task.id} had not ended after {timeout_s:g} s") from None
                if not quiet and not as_json:
                    print(waiting.task_line(ended[-1]), flush=True)
    if as_json:
        table.document([task.view for task in ended])
    return 0 if all(task.status == "success" for task in ended) else exits.FAILED
