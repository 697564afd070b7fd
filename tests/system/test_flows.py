"""Dependencies and flows on real processes: the order is proven by a file to which the jobs write."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from bench.flows import diamond, disorder, noted
from tests.system.process import ROOT, WorkerProcess
from tests.system.session import Scheduler, shell, until
from zsched.client.client import Client

pytestmark = pytest.mark.slow

WIDTH = 1_000
PARTS = 50


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


def test_documented_pipeline_runs_as_it_is_typed(place: Place) -> None:
    """The files and the lines of the guide: a failure in the middle, the repair by one command, and the artifact."""
    text = (ROOT / "docs" / "flows.md").read_text("utf-8")
    section = text.partition("## A pipeline, from submit to artifact")[2].partition("### The same elsewhere")[0]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    (flow,) = (block for kind, block in blocks if kind == "toml")
    script, failing, repairing = (block for kind, block in blocks if kind == "sh")
    failed, repaired = (block for kind, block in blocks if not kind)
    (place.folder / "pipeline.toml").write_text(flow)
    (place.folder / "work.sh").write_text(script)
    done = place.type(failing)
    assert (done.returncode, done.stdout) == (1, failed), done.stderr
    assert "part-3" in place.type("zsched logs 2.3").stderr
    done = place.type(repairing)
    assert (done.returncode, done.stdout) == (0, repaired), done.stderr
    ran = {task: len(place.scheduler.get(f"/jobs/2/runs?task={task}")) for task in (9, 10)}
    assert ran == {9: 2, 10: 1}


def test_job_that_ends_after_a_failure_runs(place: Place) -> None:
    jobs = {"work": 'command = "false"', "report": 'command = "touch report"\nafter = ["work"]'}
    jobs["clean-up"] = 'command = "touch cleaned-up"\nafter = ["report:any"]'
    (place.folder / "flow.toml").write_text("\n".join(f"[jobs.{name}]\n{text}" for name, text in jobs.items()))
    assert place.type("zsched submit --file flow.toml --wait").returncode == 1
    shown = place.type("zsched show flow:1").stdout
    assert "flow 1: 3 jobs, 2 failed, 1 success" in shown
    assert "it needs the success of job 1, which failed" in shown
    assert (place.folder / "cleaned-up").exists()
    assert not (place.folder / "report").exists()


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
