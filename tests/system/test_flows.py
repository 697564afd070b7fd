"""Dependencies and flows on real processes: the order is proven by a file to which the jobs write."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from bench.flows import diamond, disorder, noted
from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, shell, until
from zsched.client.client import Client

pytestmark = pytest.mark.slow

WIDTH = 1_000
PARTS = 50

FLOW = f"""
[jobs.fetch]
command = "seq 1 {PARTS} > data"

[jobs.part]
command = "sed -n ${{ZSCHED_TASK}}p data | grep -v '^7$' > part-$ZSCHED_TASK || test -e fixed && cp data part-7"
array = "1-{PARTS}"
after = ["fetch"]

[jobs.reduce]
command = "cat part-* | wc -l > total"
after = ["part"]

[jobs.report]
command = "echo total $(cat total) > report"
after = ["reduce"]

[jobs.clean-up]
command = "touch cleaned-up"
after = ["report:any"]
"""


class Place:
    """A scheduler with a worker, and a folder with the command `zsched`."""

    def __init__(self, scheduler: Scheduler, folder: Path) -> None:
        self.scheduler, self.folder = scheduler, folder
        program = folder / "zsched"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m zsched.commands.zsched "$@"\n')
        program.chmod(0o755)

    def type(self, line: str) -> CompletedProcess[str]:
        return shell(
            f"PATH={self.folder}:$PATH ZSCHED_URL={self.scheduler.url}; export PATH ZSCHED_URL; {line}", self.folder
        )


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with Scheduler(tmp_path) as scheduler, WorkerProcess(scheduler.url, tmp_path, slots=4):
        until(lambda: scheduler.workers() == {"w1": "active"})
        yield Place(scheduler, tmp_path)


def test_diamond_runs_in_order_and_across_a_restart(place: Place) -> None:
    witness = place.folder / "witness"
    with Client(place.scheduler.url) as client:
        jobs = client.submit_all(diamond(witness, WIDTH))
        until(lambda: witness.exists() and witness.read_text().count("ends") > WIDTH // 4)
        place.scheduler.kill()
        place.scheduler.start()
        ends = client.wait(jobs, timeout=120)
    assert set(ends.values()) == {"success"}
    assert disorder(witness, WIDTH) == ""


def test_failure_in_the_middle_ends_the_end(place: Place) -> None:
    witness = place.folder / "witness"
    with Client(place.scheduler.url) as client:
        jobs = client.submit_all(diamond(witness, 20, middle="false"))
        client.wait(jobs, timeout=60)
        end = jobs[-1].refresh()
    assert (end.status, end.reason) == ("failed", "dependency")
    assert end.run["detail"] == f"it needs the success of job {jobs[1].id}, which failed"
    assert "end begins" not in witness.read_text()


def test_chain_runs_in_order(place: Place) -> None:
    witness = place.folder / "witness"
    jobs = [
        {"name": "c", "command": noted(witness, str(number), "true"), "after": [f"#{number}"] if number else []}
        for number in range(100)
    ]
    with Client(place.scheduler.url) as client:
        client.wait(client.submit_all(jobs), timeout=60)
    assert witness.read_text().split("\n")[:-1] == [
        f"{number} {what}" for number in range(100) for what in ("begins", "ends")
    ]


def test_pipeline_is_repaired_by_one_command(place: Place) -> None:
    (place.folder / "flow.toml").write_text(FLOW)
    done = place.type("zsched submit --file flow.toml")
    assert (done.returncode, done.stdout) == (0, "flow 1, jobs 1-5\n"), done.stderr
    assert place.type("zsched wait flow:1 --timeout 60s").returncode == 1
    shown = place.type("zsched show flow:1").stdout
    assert "flow 1: 5 jobs, 3 failed, 2 success" in shown
    assert "it needs the success of job 2, which failed" in shown
    assert (place.folder / "cleaned-up").exists()
    assert not (place.folder / "report").exists()
    done = place.type("touch fixed; zsched rerun flow:1 --failed && zsched wait flow:1 --timeout 60s")
    assert done.returncode == 0, done.stderr
    assert (place.folder / "report").read_text() == f"total {PARTS - 1 + PARTS}\n"


def test_array_that_never_started_runs_again_after_its_parent(place: Place) -> None:
    jobs = {"fetch": 'command = "test -e fixed"', "part": 'command = "true"\narray = "1-3"\nafter = ["fetch"]'}
    jobs["reduce"] = 'command = "echo $ZSCHED_JOB_ID"\nafter = ["part"]'
    (place.folder / "flow.toml").write_text("\n".join(f"[jobs.{name}]\n{text}" for name, text in jobs.items()))
    assert place.type("zsched submit --file flow.toml && zsched wait flow:1 --timeout 60s").returncode == 1
    assert "3 failed" in place.type("zsched show flow:1").stdout
    done = place.type("touch fixed; zsched rerun flow:1 --failed && zsched wait flow:1 --timeout 60s")
    assert done.returncode == 0, done.stderr
    done = place.type("zsched logs flow:1")
    assert [line for line in done.stdout.split("\n") if line.startswith("==>")] == [
        "==> fetch (1) <==",
        *(f"==> part (2.{task}) <==" for task in (1, 2, 3)),
        "==> reduce (3) <==",
    ], done.stderr
