"""zsched queue: list, pause and resume queues, or share them between owners.

Usage:
  zsched queue [options]
  zsched queue list [options]
  zsched queue pause [options] <queue>...
  zsched queue resume [options] <queue>...
  zsched queue share --fair=BY [options] <queue>...

A job names one queue (`zsched submit --queue`), and a worker runs the jobs of the queues that it serves (its setting
queues). The list has the queues that are paused or fair, or have pending or running jobs.

While a queue is paused, none of its runs is handed to a worker. Runs that workers have go on. `share` says which job of
a queue comes first among those of the same priority: with `owner` the one whose owner has the fewest running runs, with
`none` the oldest. It applies to jobs that are submitted from then on.

Options:
  --reason=TEXT  Why the queue is paused or resumed, for the list and the events.
  --fair=BY      owner or none.
  -q, --quiet    Print only the queues' names.
  --json         Print a JSON array.
  --url=URL      The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help     Show this.

Exit codes: 0 done; 1 this is not allowed; 2 wrong usage; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zsched.client.client import Client, View
from zsched.commands import options, table


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    queues = arguments["<queue>"]
    assert isinstance(queues, list)
    reason = options.text(arguments, "--reason") or ""
    fair = options.choice(__doc__, arguments, "--fair", ("owner", "none"))
    views: list[View] = []
    with Client(options.text(arguments, "--url")) as client:
        if not queues:
            views = client.queues()
        try:
            for queue in queues:
                if arguments["share"]:
                    views.append(client.share_queue(queue, "owner" if fair == "owner" else None))
                else:
                    change = client.pause_queue if arguments["pause"] else client.resume_queue
                    views.append(change(queue, reason))
        finally:
            # Also those that were changed before one was refused.
            if views or not queues:
                show(views, arguments)
    return 0


def show(views: Sequence[View], arguments: Mapping[str, options.Value]) -> None:
    """Print queues."""
    if arguments["--json"]:
        table.document(views)
    elif arguments["--quiet"]:
        for view in views:
            print(view["name"])
    else:
        names = ("queue", "state", "pending", "running", "fair", "since", "reason")
        rows = [
            (
                *(view["name"], "paused" if view["paused"] else "open", view["pending"], view["running"]),
                *(
                    view.get("fair", ""),
                    table.moment(view["paused_at"]) if view["paused"] else "",
                    view.get("reason", ""),
                ),
            )
            for view in views
        ]
        table.show(names, rows)
