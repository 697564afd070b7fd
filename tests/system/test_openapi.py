"""schemathesis makes up calls from the OpenAPI document and holds the answers against it.

It takes ZSCHED_OPENAPI_SECONDS for each kind of caller, 15 unless given; the figures are shown by `pytest -rP`.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.system.process import WorkerProcess
from tests.system.session import Scheduler, environment, until

log = logging.getLogger(__name__)

SECONDS = int(os.environ.get("ZSCHED_OPENAPI_SECONDS", "15"))
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
# Of the operations, how many must have been done at least once.
REACHED_MIN = 0.6

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 3 * SECONDS)]


@pytest.mark.parametrize("caller", ["local", "token"])
def test_whatever_is_called_the_answer_is_a_documented_one(
    tmp_path: Path, caller: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    answers_path = tmp_path / "answers"
    db = ("-db", str(tmp_path / "scheduler.db"))
    with Scheduler(tmp_path, *db, "-worker-timeout", "1h") as scheduler:
        # What the examples in the document speak of: job 1 is that of a worker that polls.
        scheduler.submit("true")
        scheduler.post("/workers/register", {"worker_id": "w1"})
        assert scheduler.get("/workers/w1/next")["job"]["id"] == 1
        scheduler.post("/jobs/1/log", {"worker_id": "w1", "status": "success", "exit_code": 0})
        token = scheduler.post("/tokens", {"scopes": ["admin"]})
        recurring = scheduler.post("/jobs", {"name": "yearly", "command": "true", "schedule": "0 0 1 1 *"})
        with WorkerProcess(scheduler.url, tmp_path, 2, id="worker-1"):
            until(lambda: scheduler.workers().get("worker-1") == "active")
            words = ["run", f"{scheduler.url}/openapi.json", "--checks", "all", "--request-timeout", "10"]
            words += [
                "--max-time",
                str(SECONDS),
                "--generation-database",
                "none",
                "--no-color",
                "--output-sanitize",
                "no",
            ]
            if caller == "token":
                words += ["--header", f"Authorization: Bearer {token['token']}"]
            hooks = {
                "SCHEMATHESIS_HOOKS": "tests.system.openapi_hooks",
                "ZSCHED_ANSWERS": str(answers_path),
                "ZSCHED_TOKEN_ID": token["id"],
                "ZSCHED_RECURRING": str(recurring["id"]),
            }
            told = subprocess.run(
                [SCHEMATHESIS, *words],
                cwd=tmp_path,
                env=environment(tmp_path, **hooks),
                capture_output=True,
                text=True,
                timeout=100 + 2 * SECONDS,
            )
        assert scheduler.program is not None
        assert "Traceback" not in scheduler.program.log()
    log.info("%s", told.stdout[told.stdout.find("=== SUMMARY") :])
    reached = figures(answers_path)
    assert told.returncode == 0, told.stdout + told.stderr
    assert reached >= REACHED_MIN


def figures(path: Path) -> float:
    """Log how the calls were answered; returns the share of operations that were done. No answer is a 5xx."""
    by_call: dict[str, Counter[int]] = {}
    by_status: Counter[int] = Counter()
    for line in path.read_text("utf-8").splitlines():
        label, method, status, count = json.loads(line)
        by_status[status] += count
        # Of another method than the documented one it is asked whether it is refused.
        if label.startswith(f"{method} "):
            by_call.setdefault(label, Counter())[status] += count
    for label, statuses in sorted(by_call.items()):
        log.info("%-28s %s", label, dict(sorted(statuses.items())))
    done = sum(any(200 <= status < 300 for status in statuses) for statuses in by_call.values())
    log.info("%d calls: %s", by_status.total(), dict(sorted(by_status.items())))
    log.info("%d of %d operations done", done, len(by_call))
    assert not any(status >= 500 for status in by_status)
    return done / len(by_call)
