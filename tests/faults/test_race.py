"""Another user of the host races for a trusted user's port, with all that a user without rights can do.

ZSCHED_RACE_SECONDS says for how long; the default is some seconds.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.system.hosts import PORT, FarScheduler, Hosts, needs_hosts
from tests.system.process import ROOT, open_folder
from tests.system.session import Program

log = logging.getLogger(__name__)

SECONDS = float(os.environ.get("ZSCHED_RACE_SECONDS", "5"))
OWN, OTHER = 2_001, 2_002
NOFILE = 20_000
RACER = Path(__file__).with_name("racer.py")

pytestmark = [needs_hosts, pytest.mark.timeout(120 + 2 * SECONDS)]


def as_user(uid: int) -> tuple[str, ...]:
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")


@pytest.mark.skipif(shutil.which("setpriv") is None or shutil.which("curl") is None, reason="setpriv(1), curl(1)")
def test_no_forged_request_passes_however_long_the_race(tmp_path: Path) -> None:
    if subprocess.run([*as_user(OWN), "test", "-r", str(ROOT / "zsched" / "__init__.py")], check=False).returncode != 0:
        pytest.skip(f"{ROOT} lies where another user can't read it")
    with closing(Hosts({})) as hosts, open_folder() as place:
        os.chown(place, OWN, OWN)
        limited = ("prlimit", f"--nofile={NOFILE}:{NOFILE}")
        with FarScheduler(place, hosts, under=[*as_user(OWN), *limited]) as scheduler:
            python = os.path.realpath(sys.executable)
            racer = [*hosts.at("a"), *limited, *as_user(OTHER), python, "-I", str(RACER), str(PORT), str(SECONDS)]
            tries, calls, served = 0, 0, 0
            with Program("racer", racer, tmp_path) as running:
                while running.process.poll() is None:
                    calls += 1
                    served += honest(hosts, "/version")[0] == 200
                    time.sleep(0.2)
                assert running.exit_code() == 0, running.log()
                tries = int(running.log().split()[-1])
            jobs = [job for job in scheduler.get("/jobs") if job["name"] == "forged"]
            log.info("%.0f s: %d tries, %d of %d honest calls served", SECONDS, tries, served, calls)
            log.info("forged requests that passed: %d", len(jobs))
            assert tries > SECONDS
            assert served > 0
            assert jobs == []


def honest(hosts: Hosts, path: str) -> tuple[int, Any]:
    """A call of the scheduler's own user, by curl: its status, and the value of its JSON."""
    words = [
        *hosts.at("a"),
        *as_user(OWN),
        "curl",
        "-s",
        "-m",
        "20",
        "-w",
        "\n%{http_code}",
        f"http://localhost:{PORT}{path}",
    ]
    body, _, status = subprocess.run(words, capture_output=True, text=True, check=False).stdout.rpartition("\n")
    return int(status), json.loads(body) if body else None
