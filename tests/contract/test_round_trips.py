"""How often a turn waits for PostgreSQL: few times, however many jobs, frames and runs it has.

`python -m tests.contract.test_round_trips` prints the numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.base import LOWEST, NOW, W1, Base, on_postgres
from zsched.model.limits import CLAIM_AHEAD_RUNS_MAX, CLAIM_RUNS_MAX
from zsched.model.types import JobSpec, RunId
from zsched.store.contract import Claim, Claimed
from zsched.store.postgres.engine import PostgresEngine

pytestmark = pytest.mark.postgres

JOB = JobSpec(name="job", command="true")
COUNTS = (1, 10, 100, 1_000)


def submit_at_once(base: Base, count: int) -> None:
    base.store.submit([JOB] * count, [None] * count, "test", NOW, owner="user:ann")


def submit_one_by_one(base: Base, count: int) -> None:
    for _ in range(count):
        with base.store.savepoint():
            base.store.pending_tasks()
            base.store.submit([JOB], [None], "test", NOW, owner="user:ann")


def claim(base: Base, count: int) -> list[Claimed]:
    """Claim as the placement does, in pieces."""
    ready = base.store.ready(NOW)[0]
    assert base.store.ready_count(ready.demand_id, count) == count
    claimed: list[Claimed] = []
    for done in range(0, count, CLAIM_RUNS_MAX):
        piece = min(CLAIM_RUNS_MAX, count - done)
        wanted = Claim(worker_id=W1, demand_id=ready.demand_id, count=piece, floor=LOWEST, handed_n=1, ends=False)
        claimed += base.store.claim(wanted, NOW)
    assert len(claimed) == count
    return claimed


def start_one_by_one(base: Base, runs: list[RunId]) -> None:
    base.store.look_ahead(runs)
    for run_id in runs:
        with base.store.savepoint():
            assert base.store.start(run_id, W1, NOW)


def finish_one_by_one(base: Base, runs: list[RunId]) -> None:
    base.store.look_ahead(runs)
    for run_id in runs:
        with base.store.savepoint():
            assert base.store.finish_many([base.outcome(run_id)], W1, NOW) == ["stored"]


def finish_at_once(base: Base, runs: list[RunId]) -> None:
    base.store.look_ahead(runs)
    base.store.finish_many([base.outcome(run_id) for run_id in runs], W1, NOW)


def waits(base: Base, work: Callable[[], object]) -> int:
    """How often a turn waits that does some work: its begin and its commit too."""
    assert isinstance(base.engine, PostgresEngine)
    base.store.flush_counters(NOW)
    base.store.commit()
    before = base.engine.session.flights
    base.store.begin()
    work()
    base.store.end_jobs(NOW)
    base.store.flush_counters(NOW)
    base.store.commit()
    waited = base.engine.session.flights - before
    base.store.begin()
    return waited


def measure(base: Base, count: int) -> dict[str, int]:
    """The waits of turns that do something with `count` jobs."""
    # What is read once after a start.
    submit_at_once(base, 1)
    base.finish(base.claim()[0].run_id)
    base.store.load(W1)
    found: dict[str, int] = {}
    runs: list[RunId] = []

    def note(name: str, work: Callable[[], object]) -> None:
        found[name] = waits(base, work)

    def claim_all() -> None:
        runs[:] = [run.run_id for run in claim(base, count)]

    note("submit, one call", lambda: submit_at_once(base, count))
    note("claim", claim_all)
    note("start, a frame each", lambda: start_one_by_one(base, runs))
    note("results, one frame", lambda: finish_at_once(base, runs))
    note("submit, a call each", lambda: submit_one_by_one(base, count))
    claim_all()
    note("results, a frame each", lambda: finish_one_by_one(base, runs))
    return found


@pytest.mark.parametrize("count", COUNTS)
def test_a_turn_waits_as_often_for_many_jobs_as_for_one(tmp_path: Path, count: int) -> None:
    with on_postgres(tmp_path) as base:
        found = measure(base, count)
        base.end()
    # Ready runs are read in pieces, and counted if one is not enough.
    assert found.pop("claim") <= 4 + 2 * (count // CLAIM_AHEAD_RUNS_MAX)
    assert {name: waited for name, waited in found.items() if waited > 4} == {}


if __name__ == "__main__":
    sys.stdout.write(f"{'':24}" + "".join(f"{count:>7,}" for count in COUNTS) + "\n")
    columns = []
    for number in COUNTS:
        with on_postgres(Path()) as opened:
            columns.append(measure(opened, number))
            opened.end()
    for title in columns[0]:
        sys.stdout.write(f"{title:24}" + "".join(f"{column[title]:>7}" for column in columns) + "\n")
