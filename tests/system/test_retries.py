"""Retries on real processes: which exit codes are tried again, on which worker, and after which pauses."""

# ruff: noqa: T201  (the figures)
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, until
from zsched.model.backoff import Backoff, retry_ms

pytestmark = pytest.mark.slow

FINAL = ("success", "failed", "cancelled")
# A run is handed out, started and reported within this, on a busy machine.
SLACK_S = 1.5


@contextmanager
def working(scheduler: Scheduler, *names: str) -> Iterator[None]:
    """Workers with two slots each."""
    with ExitStack() as stack:
        for name in names:
            folder = scheduler.folder / name
            folder.mkdir()
            stack.enter_context(WorkerProcess(scheduler.url, folder, slots=2, id=name))
        until(lambda: scheduler.workers() == dict.fromkeys(names, "active"))
        yield


def end_of(scheduler: Scheduler, job: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A job when it has ended, and its runs, oldest first."""
    until(lambda: scheduler.get(f"/jobs/{job}")["status"] in FINAL)
    return scheduler.get(f"/jobs/{job}"), list(reversed(scheduler.get(f"/jobs/{job}/runs")))


def seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def test_only_matching_failures_are_tried_again(tmp_path: Path) -> None:
    retried = {"retries": 2, "backoff": {"initial": "0s"}, "retry_on": [75, "100-120", "TERM", "timeout"]}
    commands = {
        "exit 75": 3,
        "exit 76": 1,
        "exit 100": 3,
        "exit 121": 1,
        "kill -TERM $$": 3,
        "kill -KILL $$": 1,
        # Its timeout stops it by TERM, which is a timeout and no signal of its own.
        "sleep 30": 3,
    }
    with Scheduler(tmp_path) as scheduler, working(scheduler, "w1"):
        jobs = {
            command: scheduler.submit(command, **retried, **({"timeout": "0.2s"} if "sleep" in command else {}))[0]
            for command in commands
        }
        for command, job in jobs.items():
            view, runs = end_of(scheduler, job)
            last = runs[-1]
            print(f"{command}: {len(runs)} runs, {last['reason']} {last.get('exit_code', last.get('signal'))}")
            assert view["status"] == "failed"
            assert len(runs) == commands[command], command
            assert last.get("failures", 0) == len(runs) - 1


def test_retry_moves_to_the_other_worker(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler, working(scheduler, "w1", "w2"):
        (job,) = scheduler.submit("exit 1", retries=5, backoff={"initial": "0s"})
        _, runs = end_of(scheduler, job)
        workers = [run["worker_id"] for run in runs]
        print("attempts ran on", ", ".join(workers))
        assert len(workers) == 6
        assert all(before != after for before, after in pairwise(workers))


def test_pauses_are_those_of_the_formula(tmp_path: Path) -> None:
    backoff = Backoff(initial_ms=300, factor=2, max_ms=1_000, jitter=0.5)
    with Scheduler(tmp_path) as scheduler, working(scheduler, "w1"):
        (job,) = scheduler.submit(
            "exit 1", retries=4, backoff={"initial": "300ms", "factor": 2, "max": "1s", "jitter": 0.5}
        )
        _, runs = end_of(scheduler, job)
        for failures, (before, after) in enumerate(pairwise(runs), 1):
            expected_s = retry_ms(backoff, failures, f"{job} 0 {failures}") / 1000
            seen_s = seconds(before["end_time"], after["start_time"])
            print(f"pause {failures}: {expected_s:.3f} s by the formula, {seen_s:.3f} s seen")
            assert expected_s - 0.1 <= seen_s <= expected_s + SLACK_S
