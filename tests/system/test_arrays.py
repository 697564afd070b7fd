"""Arrays on real processes: every task runs, also when the scheduler is killed while they are made; a cap holds."""

from __future__ import annotations

import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, until

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

TASKS = 3_000
CAP = 4


def lines(witness: Path) -> list[str]:
    return witness.read_text("ascii").splitlines() if witness.exists() else []


def has_lines(witness: Path, count: int) -> bool:
    return len(lines(witness)) >= count


def most_at_once(witness: Path) -> int:
    """The most runs that were there at once, by what each wrote at its start (+) and its end (-). Runs that were killed
    with their worker count until then (!).
    """
    signs = [line.split() for line in lines(witness)]
    ended = {run for sign, run in signs if sign == "-"}
    live: set[str] = set()
    most, killed = 0, False
    for sign, run in signs:
        if sign == "!":
            killed = True
            live &= ended
        elif sign == "-":
            live.remove(run)
        elif run in ended or not killed:
            live.add(run)
        most = max(most, len(live))
    return most


def tasks(scheduler: Scheduler, job: int) -> dict[str, int]:
    counts: dict[str, int] = scheduler.get(f"/jobs/{job}")["tasks"]
    return counts


@pytest.mark.timeout(180)
def test_every_task_runs_across_a_kill_of_the_scheduler(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with Scheduler(tmp_path) as scheduler, WorkerProcess(scheduler.url, tmp_path, slots=8, id="w1"):
        body = {"name": "a", "command": f"echo $ZSCHED_TASK >> {witness}", "array": f"0-{TASKS - 1}"}
        number = scheduler.post("/jobs", body)["id"]
        for share in (10, 3):
            until(partial(has_lines, witness, TASKS // share), within_s=60)
            scheduler.kill()
            scheduler.start()
        until(lambda: tasks(scheduler, number)["success"] == TASKS, within_s=90)
        assert scheduler.get(f"/jobs/{number}")["status"] == "success"
    ran = Counter(map(int, lines(witness)))
    assert set(ran) == set(range(TASKS))
    # A run that the killed scheduler had just handed out may have been lost on its way, but none runs twice.
    assert max(ran.values()) == 1


@pytest.mark.timeout(180)
def test_cap_holds_through_retries_holds_reruns_and_a_lost_worker(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    sign = f"$ZSCHED_RUN_ID >> {witness}"
    fails = "test $((ZSCHED_TASK % 10)) -ne 3 -o $ZSCHED_ATTEMPT -gt 1"
    command = f"echo + {sign}; sleep 0.02; echo - {sign}; {fails}"
    body = {"name": "a", "command": command, "array": f"0-199%{CAP}", "retries": 1, "backoff": {"initial": "100ms"}}
    with (
        Scheduler(tmp_path, "-worker-timeout", "2s") as scheduler,
        WorkerProcess(scheduler.url, tmp_path, slots=6, id="w1"),
    ):
        folder = tmp_path / "w2"
        folder.mkdir()
        with WorkerProcess(scheduler.url, folder, slots=6, id="w2") as lost:
            until(lambda: scheduler.workers() == {"w1": "active", "w2": "active"})
            number = scheduler.post("/jobs", body)["id"]
            until(lambda: tasks(scheduler, number)["success"] > 20, within_s=60)
            scheduler.post(f"/jobs/{number}/hold?task=150-160")
            scheduler.post(f"/jobs/{number}/rerun?task=0-5")
            scheduler.post(f"/jobs/{number}/cancel?task=190-194")
            with witness.open("a", encoding="ascii") as signs:
                signs.write("! w2\n")
            os.kill(lost.pid, signal.SIGKILL)
        until(
            lambda: tasks(scheduler, number)["pending"] == 11 and not tasks(scheduler, number)["running"], within_s=90
        )
        scheduler.post(f"/jobs/{number}/release?task=150-160")
        until(lambda: tasks(scheduler, number)["success"] == 195, within_s=90)
        assert tasks(scheduler, number)["cancelled"] == 5
        # Before and after the rerun; the lost worker may have had one between them.
        runs = scheduler.get(f"/jobs/{number}/runs?task=0")
        assert sum(run["status"] == "success" for run in runs) == 2
        assert most_at_once(witness) == CAP
