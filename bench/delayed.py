"""Claims with many runs in front that may not start: µs a run, and the same with none in front.

Usage: python -m bench.delayed [RUNS] [URL]      (1000000 runs, on SQLite, if not said)

The runs in front are older. They have a start time in a year, are held, have a limit that a running run has used up, or
are of a paused queue. Behind them 20,000 ready runs are claimed 64 at a time, with what a tick asks of the store
besides: what is ready, how many, and when something is due. PostgreSQL is measured after the vacuum that follows a
million inserts, because a vacuum slows the claims beside it. URL: of a PostgreSQL server, as its superuser.
"""

from __future__ import annotations

import sys
import time

from bench.databases import place
from bench.machine import facts
from zsched.model.types import JobSpec, WorkerId
from zsched.store.contract import Claim
from zsched.store.sql import PRIORITY_MIN
from zsched.store.writer import Writer

NOW = 1_700_000_000_000
READY = 20_000
CHUNK = 2_000
COUNT = 64
PLAIN = JobSpec(name="job", command="true")
FRONT = {
    "delayed": JobSpec(name="job", command="true", run_at_ms=NOW + 365 * 86_400_000),
    "held": JobSpec(name="job", command="true", hold=True),
    "limited": JobSpec(name="job", command="true", limits={"db": 1}),
    "paused": JobSpec(name="job", command="true", queue="paused"),
}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(facts())
    for name, spec in {"": PLAIN, **FRONT}.items():
        with place(sys.argv[2] if len(sys.argv) > 2 else None) as db:
            store = db.open_writer(NOW)
            if name:
                submit(store, spec, count)
                prepare(store, name)
            submit(store, PLAIN, READY)
            db.settle()
            seconds = claim(store)
            store.close()
        front = f"{count:9,} {name} runs" if name else "  nothing"
        print(f"{front} in front: {seconds / READY * 1e6:6.1f} µs a run", flush=True)


def submit(store: Writer, spec: JobSpec, count: int) -> None:
    for done in range(0, count, CHUNK):
        store.begin()
        specs = [spec] * min(CHUNK, count - done)
        store.submit(specs, [None] * len(specs), "bench", NOW)
        store.flush_counters(NOW)
        store.commit()


def prepare(store: Writer, name: str) -> None:
    """Make sure that none of the runs in front may start."""
    store.begin()
    if name == "paused":
        store.queues.pause(name, "", "bench", NOW)
    if name == "limited":
        assert len(take(store, 1)) == 1
    assert store.ready(NOW) == []
    store.flush_counters(NOW)
    store.commit()


def claim(store: Writer) -> float:
    """Claim all that is ready; returns the seconds."""
    claimed = 0
    begin = time.perf_counter()
    while claimed < READY:
        store.begin()
        assert store.next_due_ms() != NOW
        claimed += len(take(store, COUNT))
        store.flush_counters(NOW)
        store.commit()
    return time.perf_counter() - begin


def take(store: Writer, count: int) -> list[object]:
    """Claim runs of the best demand."""
    ready = store.ready(NOW)[0]
    count = store.ready_count(ready.demand_id, count)
    wanted = Claim(
        worker_id=WorkerId("w1"), demand_id=ready.demand_id, count=count, floor=PRIORITY_MIN, handed_n=1, ends=False
    )
    return [*store.claim(wanted, NOW)]


if __name__ == "__main__":
    main()
