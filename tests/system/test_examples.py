"""Each example of docs/job-fields.md, by curl, by the command and by the client, on real processes."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.examples import EXAMPLES, LATE, LATER, Example
from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, shell, until
from zsched.client.client import Client

pytestmark = pytest.mark.slow

FINAL: Final = ("success", "failed", "cancelled")


class Place:
    """A scheduler with a worker, and a folder with the command `zsched`."""

    def __init__(self, scheduler: Scheduler, folder: Path) -> None:
        self.scheduler = scheduler
        self._folder = folder
        program = folder / "zsched"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m zsched.commands.zsched "$@"\n')
        program.chmod(0o755)

    def type(self, line: str) -> int:
        """Type a line that submits a job; returns its number."""
        paths = f"PATH={self._folder}:$PATH ZSCHED_URL={self.scheduler.url}; export PATH ZSCHED_URL; {line}"
        done = shell(paths, self._folder)
        assert done.returncode == 0, done.stderr
        return int(self.scheduler.get("/jobs?limit=1")[0]["id"])

    def look(self, job: int, example: Example) -> dict[str, Any]:
        """What is observed of a job: its own members, those of its last run, its output."""
        view: dict[str, Any] = {}

        def ended() -> bool:
            view.update(self.scheduler.get(f"/jobs/{job}"))
            run = view.get("last_run")
            if "tasks" in view:
                return view["status"] in FINAL
            if run is None or example.observed.get("status") == "pending":
                return True
            return view["status"] in FINAL and run["status"] in FINAL

        until(ended)
        run = view.pop("last_run", None) or {}
        found = view | {f"run.{name}": value for name, value in run.items()}
        found |= {f"tasks.{name}": value for name, value in view.get("tasks", {}).items()}
        found |= {f"why.{name}": value for name, value in view.get("why", {}).items()}
        if "start_time" in run:
            passed = datetime.fromisoformat(run["start_time"]) - datetime.fromisoformat(view["created_at"])
            found[LATE] = LATER if passed.total_seconds() > 1 else "at once"
        if run:
            _, output = self.scheduler.ask("GET", f"/runs/{run['run_id']}/log?stream=stdout")
            found["output"] = bytes(output).decode().strip() if isinstance(output, bytes) else None
        return {name: found.get(name) for name in example.observed}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("examples")
    folder.chmod(0o755)
    start = partial(WorkerProcess, cwd="/", queues="default,nightly")
    if os.geteuid() == 0:
        start = partial(start, users="nobody,root")
    with Scheduler(folder) as scheduler, start(scheduler.url, folder):
        until(lambda: scheduler.workers() == {"w1": "active"})
        yield Place(scheduler, folder)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.field)
def test_example_is_what_is_observed(place: Place, example: Example) -> None:
    if example.field == "user" and os.geteuid() != 0:
        pytest.skip("only a worker of root runs jobs as other users")
    curl = f"curl -sS --fail-with-body {place.scheduler.url}/jobs -d {shlex.quote(example.request)}"
    given = dict(example.body)
    first = given.pop("command", None) or given.pop("argv")
    with Client(place.scheduler.url) as client:
        ways: dict[str, Callable[[], int]] = {
            "curl": lambda: place.type(curl),
            "shell": lambda: place.type(example.line),
            "client": lambda: client.submit(first, **given).id,
        }
        # One after another: of jobs with a unique key there is one at a time.
        observed = {way: place.look(submit(), example) for way, submit in ways.items()}
    assert observed == {way: dict(example.observed) for way in ways}
