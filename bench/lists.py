"""Lists, filters and searches over a large database: ms of the first and the last page of each, and of each event list.

Usage: python -m bench.lists fill PATH [JOBS]      (2000000 jobs, if not said)
       python -m bench.lists measure PATH
       python -m bench.lists fill URL [JOBS] FOLDER
       python -m bench.lists measure URL FOLDER

URL: of an empty PostgreSQL database; FOLDER is for the keys of its scheduler.

`fill` writes a new database by plain INSERTs, as a scheduler would have left it after these jobs: 1 % failed, ten
owners, a hundred names and a few rare ones, 10 % with tags, 20 workers, three events for each job. `measure` asks for
lists through REST's app in this process, follows up to 60 Links, and prints the time of the first page, of the slowest
one and of all together, of the last page of a long list, and how many pages and rows there were.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from falcon import testing

from bench.machine import facts
from zsched.api.app import make_app
from zsched.api.context import Context, Facts
from zsched.api.gate import LOCAL_ADDRESS, PEER_UID
from zsched.config import values
from zsched.model.address import PostgresUrl
from zsched.scheduler.inbox import Inbox
from zsched.store.choice import database
from zsched.store.database import Database
from zsched.store.engine import Engine
from zsched.store.mapping import insert
from zsched.store.writer import Writer

JOBS = 2_000_000
CHUNK = 2_000
BEGIN_MS = 1_700_000_000_000
# Time between two submits.
STEP_MS = 100
LISTS = (
    "/jobs",
    "/jobs?status=success",
    "/jobs?status=failed",
    "/jobs?status=running",
    "/jobs?owner=user:owner3",
    "/jobs?owner=user:owner3&status=failed",
    "/jobs?name=job-7",
    "/jobs?name=rare-1",
    "/jobs?tag=nightly",
    "/jobs?tag=nightly&status=failed",
    "/jobs?tag=rare",
    "/jobs?worker=w3",
    "/jobs?worker=w-new",
    "/jobs?search=RARE",
    "/jobs?search=job-7",
    "/jobs?search=nothing",
    "/jobs?since=2023-11-16T12:00:00Z",
    "/events",
    "/events?job=1500000",
    "/events?run=1500000",
    "/events?worker=w3",
    "/events?kind=failed",
    "/events?since=2023-11-16T12:00:00Z",
)
# Pages that are followed at most; `+` marks a list that goes on.
PAGES_MAX = 60
# Where the last page of a list begins: of jobs, and of events.
END = ("before=1101", f"after={3 * JOBS - 300}")

_JOB = (
    *("job_id", "name", "command", "demand_id", "grace_ms", "crash_limit", "success", "failed", "owner_id", "tags"),
    *("created_ms", "updated_ms"),
)
_RUN = (
    *("run_id", "job_id", "attempt", "demand_id", "priority", "status", "worker_id", "reason", "exit_code"),
    *("created_ms", "claimed_ms", "started_ms", "finished_ms"),
)
_EVENT = ("event_id", "at_ms", "actor", "job_id", "run_first", "run_last", "worker_id", "was", "became", "reason")
_OUTPUT = (
    *("run_id", "form", "stdout_head", "stdout_tail", "stdout_total", "stderr_head", "stderr_tail", "stderr_total"),
)


def main() -> None:
    action, address, *more = sys.argv[1:]
    chosen = values.database(address)
    folder = Path(f"{more[-1]}") if isinstance(chosen, PostgresUrl) else Path(f"{address}.d")
    db = database(chosen, folder)
    if action == "fill":
        fill(db, int(more[0]) if more and more[0].isdigit() else JOBS)
    else:
        print(facts())
        measure(db)


def fill(db: Database, jobs: int) -> None:
    """Write `jobs` ended jobs."""
    with db.hold() as hold:
        tenure = hold.lead(BEGIN_MS)
        assert tenure is not None
        try:
            begin = time.monotonic()
            for first in range(1, jobs + 1, CHUNK):
                _fill(tenure.engine, tenure.store, first, min(CHUNK, jobs + 1 - first))
            print(f"{jobs} jobs in {time.monotonic() - begin:.0f} s")
        finally:
            tenure.close()


def _fill(engine: Engine, store: Writer, first: int, count: int) -> None:
    store.begin()
    if first == 1:
        engine.send(insert("demands", ("demand_id", "wish")), (engine.take_ids("demands", 1), '{"needs":[]}'), 1)
        owners = engine.take_ids("owners", 10)
        for n in range(10):
            engine.send(insert("owners", ("owner_id", "owner")), (owners + n, f"user:owner{n}"), 1)
    made = [Made(number) for number in range(first, first + count)]
    assert engine.take_ids("jobs", count) == engine.take_ids("runs", count) == first
    engine.take_ids("events", 3 * count)
    engine.sendmany(insert("jobs", _JOB), [job.row for job in made])
    engine.sendmany(insert("runs", _RUN), [job.run for job in made])
    engine.sendmany(insert("outputs", _OUTPUT), [(job.number, "streams", b"ok\n", b"", 3, b"", b"", 0) for job in made])
    engine.sendmany(insert("job_tags", ("tag", "tagged_id")), [(tag, job.number) for job in made for tag in job.tags])
    engine.sendmany(insert("events", _EVENT), [event for job in made for event in job.events])
    failed = sum(job.status == "failed" for job in made)
    changed = [(failed, "failed"), (count - failed, "success")]
    engine.sendmany("UPDATE totals SET tasks = tasks + ? WHERE status = ?", changed)
    store.commit()


class Made(NamedTuple):
    """A job with one run of the same number, and its rows."""

    number: int

    @property
    def at_ms(self) -> int:
        return BEGIN_MS + self.number * STEP_MS

    @property
    def status(self) -> str:
        return "failed" if self.number % 100 == 0 else "success"

    @property
    def worker(self) -> str:
        return f"w{self.number % 20}"

    @property
    def tags(self) -> tuple[str, ...]:
        rare = ("rare",) if self.number in (1, 1000) else ()
        return (*(("nightly",) if self.number % 10 == 0 else ()), *rare)

    @property
    def row(self) -> tuple[object, ...]:
        name = f"rare-{self.number}" if self.number in (1, 1000) else f"job-{self.number % 100}"
        failed = int(self.status == "failed")
        tags = " ".join(self.tags) or None
        counters = (1, 10_000, 5, 1 - failed, failed, 1 + self.number % 10, tags)
        return (self.number, name, f"make target-{self.number}", *counters, self.at_ms, self.at_ms + 2_000)

    @property
    def run(self) -> tuple[object, ...]:
        code = int(self.status == "failed")
        state = (self.status, self.worker, "exit", code)
        return (*(self.number, self.number, 1, 1, 0), *state, *(self.at_ms + more for more in (0, 500, 600, 2_000)))

    @property
    def events(self) -> list[tuple[object, ...]]:
        of = (self.number, self.number, self.number)
        last = 3 * self.number
        return [
            (last - 2, self.at_ms, "user:owner at 127.0.0.1", *of, None, None, "pending", None),
            (last - 1, self.at_ms + 500, "scheduler", *of, self.worker, "pending", "running", None),
            (last, self.at_ms + 2_000, f"worker {self.worker}", *of, self.worker, "running", self.status, "exit"),
        ]


def measure(db: Database) -> None:
    """Ask for the lists, and print the times."""
    facts_of = Facts(db="", zmq_host="", zmq_port=0, ready=lambda: True)
    client = testing.TestClient(make_app(Context(Inbox(callers_max=4), db.open_reader, facts_of)))
    print(f"{'list':45} {'first ms':>9} {'most ms':>9} {'all ms':>9} {'end ms':>9} {'pages':>6} {'rows':>7}")
    for path in LISTS:
        ask(client, path)
        times, rows, following = [], 0, path
        while following and len(times) < PAGES_MAX:
            ms, found, following = ask(client, following)
            times.append(ms)
            rows += found
        pages = f"{len(times)}{'+' if following else ''}"
        end = ask(client, f"{path}{'&' if '?' in path else '?'}{END[path.startswith('/events')]}")[0]
        line = f"{path:45} {times[0]:9.1f} {max(times):9.1f} {sum(times):9.1f} {end:9.1f} {pages:>6} {rows:7}"
        print(line, flush=True)


def ask(client: testing.TestClient, path: str) -> tuple[float, int, str]:
    """Milliseconds, the number of rows, and the address of the next page."""
    begin = time.perf_counter()
    extras = {PEER_UID: os.geteuid, LOCAL_ADDRESS: "127.0.0.1"}
    answer = client.simulate_get(path, host="localhost", remote_addr="127.0.0.1", extras=extras)
    ms = (time.perf_counter() - begin) * 1000
    assert answer.status_code == 200, answer.text
    link = answer.headers.get("Link", "")
    return ms, len(answer.json), link[1 : link.index(">")] if link else ""


if __name__ == "__main__":
    main()
