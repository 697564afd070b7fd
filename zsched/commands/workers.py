"""zsched workers: list the workers, and remove those that are gone.

Usage:
  zsched workers [options]
  zsched workers remove [--url=URL] <worker>...

`remove` forgets inactive workers. A worker that comes back registers as a new one; `zsched access revoke` keeps it out.

Options:
  -q, --quiet  Print only names.
  --json       Print the workers as a JSON array.
  --url=URL    The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help   Show this.

Exit codes: 0 done; 1 not allowed, or a worker is active; 2 wrong usage; 3 no such worker; 4 no scheduler
answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from zsched.client.client import Client, NotFound, Refused, View
from zsched.commands import exits, options, table
from zsched.model.names import DEFAULT_QUEUE

# Error codes of REST that concern one worker only.
_OF_ONE_WORKER = ("worker_active", "foreign_runs")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    with Client(options.text(arguments, "--url")) as client:
        if arguments["remove"]:
            return remove(client, options.words(arguments, "<worker>"))
        workers = client.workers()
    if arguments["--json"]:
        table.document(workers)
    elif arguments["--quiet"]:
        for worker in workers:
            print(worker["worker_id"])
    else:
        names: tuple[str, ...] = ("worker", "status", "kind", "slots", "host", "last seen")
        keys = ("kind", "slots", "host")
        rows: list[tuple[object, ...]] = [
            (worker["worker_id"], state(worker), *map(worker.get, keys), table.moment(worker["last_seen"]))
            for worker in workers
        ]
        if any("queues" in worker for worker in workers):
            names = (*names, "queues")
            rows = [
                (*row, ",".join(worker.get("queues", (DEFAULT_QUEUE,))))
                for row, worker in zip(rows, workers, strict=True)
            ]
        if any("labels" in worker for worker in workers):
            names = (*names, "labels")
            rows = [(*row, _labels(worker)) for row, worker in zip(rows, workers, strict=True)]
        table.show(names, rows)
    return 0


def _labels(worker: View) -> str:
    return ",".join(f"{name}={value}" for name, value in worker.get("labels", {}).items())


def remove(client: Client, names: Sequence[str]) -> int:
    """Remove workers; one that can't be removed does not stop the others. Returns the exit code."""
    code = 0
    for name in names:
        try:
            client.ask("DELETE", f"/workers/{quote(name, safe='')}")
        except NotFound:
            exits.say(f"unknown worker {name}")
            code = exits.NOT_FOUND
        except Refused as error:
            if error.code not in _OF_ONE_WORKER:
                raise
            exits.say(str(error))
            code = code or exits.FAILED
        else:
            print(f"{name} removed")
    return code


def state(worker: View) -> str:
    """The status of a worker; `leaving` for an active one that has announced its end."""
    leaving = worker["status"] == "active" and "leaving_at" in worker
    return "leaving" if leaving else str(worker["status"])
