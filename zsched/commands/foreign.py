"""zsched foreign: runs that workers hold for another database.

Usage:
  zsched foreign [options]
  zsched foreign keep [options] [<worker>...]
  zsched foreign discard [options] [<worker>...]

When a scheduler starts on another database than before, workers may still run jobs of the old one. These foreign runs
continue, and their workers get no jobs from this scheduler until the runs have ended or you decide. If the database is
the wrong one, stop the scheduler and start it with the right -db: it takes back the runs and their results.

`keep` lets foreign runs continue to their end; their workers take new jobs on their other slots. `discard` ends them
(TERM, their kill grace, KILL) and drops their results; then their workers take new jobs. Without <worker>, both apply
to all workers that `zsched foreign` lists. Runs that were kept can be discarded later. Their results stay on the
worker's disk for 7 days.

Options:
  --yes        Don't ask before all foreign runs are discarded.
  -q, --quiet  Print only the workers' names.
  --json       Print a JSON array.
  --url=URL    The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help   Show this.

Exit codes: 0 done; 1 this is not allowed, or the answer was no; 2 wrong usage; 3 a worker holds nothing for another
database; 4 no scheduler answers.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from zsched.client.client import Client, NotFound, View
from zsched.commands import exits, options, table
from zsched.commands.acting import confirm


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    with Client(options.text(arguments, "--url")) as client:
        if arguments["keep"]:
            return decide(client, arguments, "keep")
        if arguments["discard"]:
            return decide(client, arguments, "discard")
        show(client.foreign(), arguments)
    return 0


def decide(client: Client, arguments: Mapping[str, options.Value], decision: str) -> int:
    """`keep` and `discard`."""
    names = arguments["<worker>"]
    assert isinstance(names, list)
    workers = names or list(dict.fromkeys(str(view["worker_id"]) for view in client.foreign()))
    if decision == "discard" and not names and workers and not arguments["--yes"]:
        if not sys.stdin.isatty():
            options.fail(__doc__, "discard without WORKER ends the foreign runs of all workers: give --yes too")
        from zsched.model.units import counted

        if not confirm(f"end the foreign runs of {counted(len(workers), 'worker')} and drop their results?"):
            return exits.FAILED
    code = 0
    views: list[View] = []
    for worker in workers:
        try:
            views += client.ask("POST", f"/foreign/{quote(worker, safe='')}/{decision}").json()
        except NotFound as error:
            exits.say(str(error))
            code = exits.NOT_FOUND
    show(views, arguments)
    return code


def show(views: Sequence[View], arguments: Mapping[str, options.Value]) -> None:
    """Print the foreign runs of workers."""
    if arguments["--json"]:
        table.document(views)
    elif arguments["--quiet"]:
        for worker in dict.fromkeys(view["worker_id"] for view in views):
            print(worker)
    else:
        names = ("worker", "database", "running", "results", "runs", "since", "decision")
        rows = [
            (
                *(view["worker_id"], view["db"], view["running"], view["results"], _numbers(view)),
                *(table.moment(view["since"]), view.get("decision", "none yet")),
            )
            for view in views
        ]
        table.show(names, rows)


def _numbers(view: View) -> str:
    """The first five run ids, for a cell of the table."""
    first = ",".join(map(str, view["runs"][:5]))
    return f"{first},…" if view["running"] > 5 else first
