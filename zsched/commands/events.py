"""zsched events: show what happened, and who caused it.

Usage:
  zsched events [options]

Shows events, oldest first: the last ones, or all that match when a filter is given.

Options:
  -f, --follow     Go on with further events as they happen, until Ctrl-C.
  --job=ID         Show only events about this job.
  --run=ID         Show only events about this run.
  --worker=WORKER  Show only events about this worker.
  --kind=KIND      Show only events with this result: a state such as failed or inactive, or what was done, such as
                   token_added.
  --since=TIME     Show only events at TIME or later: 2h (before now), or 2026-11-24T08:00:00Z.
  --limit=COUNT    Show at most COUNT events from the past, the last ones (20; all if a filter is given).
  --json           Print a line of JSON for each event.
  --url=URL        The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help       Show this.

Exit codes: 0 done; 1 refused; 2 wrong usage; 4 no scheduler answers; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from zsched.client.client import Client, EventFilters, View
from zsched.commands import options, table
from zsched.commands.text import line
from zsched.model.limits import INTEGER_MAX

LIMIT: Final = 20
# How much more of the list is read if its end has too few events: they are removed with old jobs, or don't match.
_WIDER: Final = 8


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    filters: EventFilters = {
        "job": options.number(__doc__, arguments, "--job"),
        "run": options.number(__doc__, arguments, "--run"),
        "worker": options.text(arguments, "--worker"),
        "kind": options.text(arguments, "--kind"),
        "since": options.text(arguments, "--since"),
    }
    limit = options.number(__doc__, arguments, "--limit")
    with Client(options.text(arguments, "--url")) as client:
        if limit is None and not any(filters.values()):
            limit = LIMIT
        after = 0
        past: Iterable[View] = client.events(**filters)
        if limit is not None:
            after = int(client.ask("GET", f"/events?after={INTEGER_MAX}").headers["Zsched-Next"])
            past = newest(lambda begin: client.events(after=begin, **filters), after, limit)
        for event in past:
            show(event, json=bool(arguments["--json"]))
            after = max(after, int(event["id"]))
        if arguments["--follow"]:
            sys.stdout.flush()
            for event in client.events(after=after, follow=True, **filters):
                show(event, json=bool(arguments["--json"]))
                sys.stdout.flush()
    return 0


def newest(read: Callable[[int], Iterable[View]], last: int, limit: int) -> Sequence[View]:
    """The last `limit` events that `read` yields after a number. `last`: the number of the last event of all. Reads the
    end of the list, and more of it only while that has too few.
    """
    span = limit
    while True:
        begin = max(0, last - span)
        found = deque(read(begin), limit)
        if len(found) == limit or not begin:
            return found
        span *= _WIDER


def show(event: View, *, json: bool) -> None:
    """Print an event as a line."""
    if json:
        table.record(event)
        return
    print(line(" ".join(_words(event))))


def _words(event: View) -> Iterable[str]:
    """The words of an event: its time and number, what it is about, what happened, why, and who did it."""
    yield table.moment(event["at"])
    yield f"#{event['id']}"
    if "job_id" in event:
        yield f"job {event['job_id']}"
    if "runs" in event:
        first, last = event["runs"]
        yield f"run {first}" if first == last else f"runs {first}-{last}"
    if "worker_id" in event:
        yield f"on {event['worker_id']}" if "runs" in event else f"worker {event['worker_id']}"
    yield f"{event['was']} → {event['became']}" if "was" in event else str(event["became"])
    for name in ("reason", "detail"):
        if name in event:
            yield f"({event[name]})"
    yield f"by {event['actor']}"
