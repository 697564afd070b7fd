"""zsched workers: list the workers.

Usage:
  zsched workers [options]

Options:
  -q, --quiet  Print only names.
  --json       Print the workers as a JSON array.
  --url=URL    The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help   Show this.

Exit codes: 0 done; 2 wrong usage; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from zsched.client.client import Client, View
from zsched.commands import options, table
from zsched.model.names import DEFAULT_QUEUE


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    with Client(options.text(arguments, "--url")) as client:
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
        table.show(names, rows)
    return 0


def state(worker: View) -> str:
    """The status of a worker; `leaving` for an active one that has announced its end."""
    leaving = worker["status"] == "active" and "leaving_at" in worker
    return "leaving" if leaving else str(worker["status"])
