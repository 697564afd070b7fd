"""`zsched demo`: what a person sees first."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-P", "-m", "zsched.commands.zsched", "demo"]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A person's environment, in which other settings of zsched and a proxy stand that must not disturb."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(tmp_path),
        "HOME": str(tmp_path),
        "ZSCHED_SCHEDULER_PORT": "1",
        "ZSCHED_WORKER_ID": "mine",
        "ZSCHED_TOKEN": "that-of-another-scheduler",
        "http_proxy": "http://127.0.0.1:9",
    }


def assert_nothing_is_left(folder: Path) -> None:
    """No file in the folder for temporary files, and no process that was started with a path in it."""
    assert list(folder.glob("zsched-*")) == []
    needle = str(folder).encode()
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            assert needle not in cmdline.read_bytes()


def test_the_demo_runs_21_jobs_shows_them_and_leaves_nothing_behind(env: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(COMMAND, env=env, capture_output=True, text=True, timeout=55)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["job", "name", "status", "worker", "seconds", "output"]
    assert len(lines) == 22
    assert re.fullmatch(r" *1 +hello-job +success +worker-[12] +\d\.\d\d +Hello World *", lines[1])
    assert all(re.search(r" square-\d+ +success +worker-[12] .* squared is \d+", line) for line in lines[2:])
    assert "\x1b" not in done.stdout + done.stderr
    assert re.search(r"21 of 21 jobs succeeded, in \d+\.\d s on 2 workers\n$", done.stderr)
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_stops_what_it_started(env: dict[str, str], tmp_path: Path, number: signal.Signals) -> None:
    # Tests that a script starts with & ignore SIGINT, and so would what they start.
    command = ["env", f"--default-signal={number.name.removeprefix('SIG')}", *COMMAND]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "starting a scheduler" in process.stderr.readline()
        process.send_signal(number)
        assert process.wait(50) == 130
        assert "Traceback" not in process.stderr.read()
    assert_nothing_is_left(tmp_path)


def test_a_demo_that_can_not_start_shows_what_was_logged_and_exits_1(env: dict[str, str], tmp_path: Path) -> None:
    # An interpreter's own start fails in the children alone: the file is made where only they look.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'zsched.commands.scheduler' in sys.orig_argv: os.write(2, b'no luck'), os._exit(7)\n"
    )
    done = subprocess.run(
        COMMAND, env={**env, "PYTHONPATH": f"{tmp_path}:{ROOT}"}, capture_output=True, text=True, timeout=55
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "--- scheduler logged last:\nno luck\n" in done.stderr
    assert done.stderr.endswith("zsched demo: scheduler ended with exit code 7\n")
    assert_nothing_is_left(tmp_path)
