"""The units of conf/systemd: systemd itself reads them, and what they forbid the programs do not need.

No unit is started: there is no service manager where tests run.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.process import ROOT, children
from tests.system.session import Program, Scheduler
from zsched.config.settings import keys_of
from zsched.model.units import parse_duration_ms

UNITS = ROOT / "conf" / "systemd"
# How far open systemd may call them, of 10. docs/security.md tells what it says.
EXPOSURE_MAX = {"zsched-scheduler": 1.5, "zsched-worker": 6.5}


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not there: apt-get install systemd")
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, timeout=30)


def installed(name: str, folder: Path) -> Path:
    """A unit whose programs are there: in a folder of the test's."""
    program = folder / name
    program.write_text("#!/bin/sh\n", "ascii")
    program.chmod(0o755)
    unit = folder / f"{name}.service"
    text = (UNITS / unit.name).read_text("ascii")
    assert f"ExecStart=/opt/zsched/bin/{name}\n" in text
    unit.write_text(text.replace("/opt/zsched/bin", str(folder)), "ascii")
    return unit


def values(name: str, key: str) -> list[str]:
    """What a unit gives a key, each time that it does."""
    return re.findall(rf"^{key}=(.*)$", (UNITS / f"{name}.service").read_text("ascii"), re.MULTILINE)


@pytest.mark.parametrize("name", EXPOSURE_MAX)
def test_systemd_understands_every_line_of_a_unit(name: str, tmp_path: Path) -> None:
    done = analyze("verify", "--man=no", "--recursive-errors=no", installed(name, tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_line_that_systemd_does_not_understand_is_found(tmp_path: Path) -> None:
    unit = installed("zsched-worker", tmp_path)
    unit.write_text(unit.read_text("ascii").replace("KillMode=mixed", "KillMod=mixed"), "ascii")
    assert "KillMod" in analyze("verify", "--man=no", "--recursive-errors=no", unit).stderr


@pytest.mark.parametrize("name", EXPOSURE_MAX)
def test_a_unit_is_as_closed_as_the_documents_say(name: str, tmp_path: Path) -> None:
    done = analyze("security", "--offline=true", "--no-pager", installed(name, tmp_path))
    told = re.search(r"Overall exposure level for \S+: ([0-9]+[.][0-9])", done.stdout)
    assert told is not None, done.stdout + done.stderr
    assert float(told[1]) <= EXPOSURE_MAX[name]
    documented = re.search(rf"`{name}` ([0-9]+[.][0-9])", (ROOT / "docs" / "security.md").read_text("utf-8"))
    assert documented is not None
    assert float(documented[1]) <= EXPOSURE_MAX[name]


def system_calls(*sets: str) -> set[str]:
    """The names in these sets of systemd's, with the sets within them."""
    found: set[str] = set()
    for line in analyze("syscall-filter", *sets).stdout.splitlines():
        word = line.strip()
        if word.startswith("@") and line.startswith(" "):
            found |= system_calls(word)
        elif word and not word.startswith(("@", "#")):
            found.add(word)
    return found


@pytest.mark.slow
def test_the_scheduler_makes_no_system_call_that_its_unit_forbids(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not there: apt-get install strace")
    allowed, forbidden, again = values("zsched-scheduler", "SystemCallFilter")
    assert forbidden.startswith("~")
    permitted = system_calls(*allowed.split()) - system_calls(*forbidden[1:].split())
    permitted |= system_calls("@default") | set(again.split())
    assert {"read", "prlimit64"} <= permitted
    assert "chroot" not in permitted
    argv = [
        "strace",
        "-f",
        "-qq",
        "-o",
        str(tmp_path / "trace"),
        sys.executable,
        "-P",
        "-m",
        "zsched.commands.scheduler",
    ]
    with Scheduler(tmp_path, argv=argv) as scheduler:
        worker = [sys.executable, "-P", "-m", "zsched.commands.worker", "-id", "w1", "-scheduler", scheduler.url]
        with Program("worker", worker, tmp_path):
            job = scheduler.submit("true")[0]
            assert scheduler.finished(job)["status"] == "success"
        assert scheduler.program is not None
        (traced,) = children(scheduler.program.pid)
        os.kill(traced, signal.SIGTERM)
        assert scheduler.program.exit_code() == 0
    made = set(re.findall(r"^[0-9]+ +([a-z0-9_]+)\(", (tmp_path / "trace").read_text("utf-8"), re.MULTILINE))
    assert {"read", "fdatasync", "prlimit64"} <= made
    # SQLite gives its files to the database's owner; when it is not root it does not try.
    assert made - permitted - ({"fchown"} if os.geteuid() == 0 else set()) == set()


def test_systemd_waits_for_a_worker_as_long_as_that_may_take_to_end() -> None:
    defaults = {key.name: key.default for key in keys_of("worker")}
    # Its grace, then each job's own between TERM and KILL, then 5 s to deliver and 2 s to say goodbye.
    needed_ms = parse_duration_ms(defaults["shutdown_grace"]) + 10_000 + 5_000 + 2_000
    (given,) = values("zsched-worker", "TimeoutStopSec")
    assert parse_duration_ms(given) > needed_ms


def test_systemd_starts_a_scheduler_again_after_what_may_pass() -> None:
    """A full disk (74) gets room and a port (71) gets free; wrong settings (2) and files of others (78) stay so."""
    assert values("zsched-scheduler", "Restart") == ["on-failure"]
    (prevented,) = values("zsched-scheduler", "RestartPreventExitStatus")
    assert set(map(int, prevented.split())) == {2, os.EX_CONFIG}


def test_systemd_ends_a_worker_by_a_signal_to_the_worker_alone() -> None:
    assert values("zsched-worker", "KillMode") == ["mixed"]
    assert values("zsched-worker", "OOMPolicy") == ["continue"]
