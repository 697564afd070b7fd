"""What callers and workers with a list of schedulers see when the active one dies or hangs: seconds, and no loss."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import postgres
from tests.system.process import ROOT, WorkerProcess
from tests.system.schedulers import SharingScheduler, Team
from zsched.client.client import Client
from zsched.security.keys import read_access

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(180)]

DEADLINE_S = 60.0
# A call is answered again after this time at the latest.
SERVED_S = 15.0
SUBMITS_PER_S = 50

# How the active scheduler goes: it dies, or it stands still.
ENDS = [signal.SIGKILL, signal.SIGSTOP]


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    with postgres.server().database(empty=True) as url, Team(url, tmp_path) as team:
        yield team


def cli(team: Team, *words: str) -> subprocess.Popen[bytes]:
    env = {"PYTHONPATH": str(ROOT)} | os.environ | {"ZSCHED_URL": team.urls}
    argv = [sys.executable, "-P", "-m", "zsched.commands.zsched", *words]
    return subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out.decode(), err.decode()


def active_of(team: Team) -> SharingScheduler:
    return next(scheduler for scheduler in team.all if scheduler.runs and scheduler.role() == "ready")


class Submitter:
    """Submits jobs at a steady rate, in a thread. `gaps_s`: how long each submit took."""

    def __init__(self, urls: str) -> None:
        self.jobs: list[int] = []
        self.gaps_s: list[float] = []
        self.failed: Exception | None = None
        self._ends = threading.Event()
        self._urls = urls
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            with Client(self._urls) as client:
                while not self._ends.is_set():
                    begin = time.monotonic()
                    self.jobs.append(client.submit("true", name="load").id)
                    self.gaps_s.append(time.monotonic() - begin)
                    self._ends.wait(max(0.0, 1 / SUBMITS_PER_S - self.gaps_s[-1]))
        except Exception as error:
            self.failed = error

    def end(self) -> None:
        self._ends.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        if self.failed is not None:
            raise self.failed


@pytest.mark.parametrize("how", ENDS)
def test_followed_job_and_wait_outlive_the_active_scheduler(team: Team, tmp_path: Path, how: signal.Signals) -> None:
    """Each line of the output comes once, and the exit codes are the job's."""
    active = active_of(team)
    lines = 100
    command = f"i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i + 1)); sleep 0.2; done; exit 7"
    with WorkerProcess(team.urls, tmp_path, heartbeat_interval="1s"):
        run = cli(team, "run", command)
        with Client(team.urls) as client:
            active.until(lambda: [job for job in client.jobs() if job.status == "running"])
            (job,) = client.jobs()
        wait = cli(team, "wait", str(job.id))
        # It has printed something.
        assert run.stdout is not None
        first = run.stdout.readline()
        active.send(how)
        code, out, err = ended(run)
        assert (first.decode() + out).splitlines() == [f"line {number}" for number in range(lines)], err
        assert (code, err) == (7, "")
        code, out, err = ended(wait)
        assert (code, out) == (1, f"{job.id} failed (exit code 7)\n"), err
        with Client(team.urls) as client:
            assert len(list(client.rows(f"/jobs/{job.id}/runs"))) == 1


@pytest.mark.parametrize("how", ENDS)
def test_no_acked_submit_is_lost_or_doubled_while_schedulers_fail(
    team: Team, tmp_path: Path, how: signal.Signals, record_property: Callable[[str, object], None]
) -> None:
    with WorkerProcess(team.urls, tmp_path, slots=8, heartbeat_interval="1s"):
        load = Submitter(team.urls)
        try:
            for _ in range(3):
                active = active_of(team)
                count = len(load.jobs)
                active.until(lambda count=count: len(load.jobs) > count + SUBMITS_PER_S)  # type: ignore[misc]
                count = len(load.jobs)
                active.send(how)
                # The submit under way, and one after it.
                active.until(lambda count=count: len(load.jobs) > count + 2 or load.failed)  # type: ignore[misc]
                if how is signal.SIGSTOP:
                    active.send(signal.SIGCONT)
                else:
                    active.exit_code()
                    active.start()
                active.until(lambda active=active: active.role() == "standby")  # type: ignore[misc]
        finally:
            load.end()
        record_property("longest_s", [round(gap_s, 2) for gap_s in sorted(load.gaps_s)[-3:]])
        assert max(load.gaps_s) < SERVED_S
        with Client(team.urls) as client:
            statuses = client.wait(load.jobs, timeout=DEADLINE_S)
        assert set(statuses.values()) == {"success"}
        assert len(set(load.jobs)) == len(load.jobs)
        assert team.look("SELECT count(*) FROM jobs WHERE name = 'load'") == [(len(load.jobs),)]


@pytest.mark.parametrize("how", ENDS)
def test_worker_with_an_access_file_moves_to_the_next_scheduler(
    team: Team, tmp_path: Path, how: signal.Signals
) -> None:
    """The file has the endpoints and the keys of both; the worker calls no REST."""
    made = ended(cli(team, "access", "new", "w2"))
    assert made[0] == 0, made
    path = tmp_path / "w2.access"
    path.touch(0o600)
    path.write_text(made[1])
    access = read_access(path)
    assert len({server.endpoint for server in access.servers}) == 2
    assert len({server.key for server in access.servers}) == 2
    active, other = team.all
    release = tmp_path / "release"
    endpoints = ", ".join(f"tcp://127.0.0.1:{server.endpoint.rpartition(':')[2]}" for server in access.servers)
    path.write_text(made[1].replace(made[1].partition("endpoint = ")[2].partition("\n")[0], endpoints))
    with WorkerProcess("", tmp_path, id="w2", access=str(path), heartbeat_interval="1s") as worker:
        job = active.submit(f"while ! test -e {release}; do sleep 0.05; done")
        assert job is not None, f"{active.log()}\n---\n{other.log()}"
        active.until(lambda: active.call("GET", f"/jobs/{job}").body["status"] == "running" and worker.jobs())
        (process,) = worker.jobs()
        active.send(how)
        other.until(lambda: other.submit("true"))
        worker.wait_for_log("registered, database", times=2)
        assert worker.jobs()[0] == process
        release.touch()
        other.until(lambda: other.call("GET", f"/jobs/{job}").body["status"] == "success")
        assert len(other.call("GET", f"/jobs/{job}/runs").body) == 1


def test_write_goes_past_a_standby(team: Team) -> None:
    """Also one without a key: a standby has certainly not done it."""
    active, other = team.all
    with Client([other.url, active.url]) as client:
        job = client.submit("true")
        assert client.url == active.url
    with Client([other.url, active.url]) as client:
        assert client.get(job.id).cancel().status == "cancelled"
