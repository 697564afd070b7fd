"""Real schedulers on one database: one takes over when the other ends, dies or stands still, and nothing doubles."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.system.process import ROOT, WorkerProcess
from tests.system.schedulers import SERVED_S, SharingScheduler, Team

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def team(database: str, tmp_path: Path) -> Iterator[tuple[Team, SharingScheduler, SharingScheduler]]:
    """A team, its active scheduler and its standby."""
    with Team(database, tmp_path) as team:
        yield team, team.all[0], team.all[1]


def test_standby_answers_reads_and_names_the_active(team: tuple[Team, SharingScheduler, SharingScheduler]) -> None:
    _, active, standby = team
    job = active.submit("true")
    assert standby.call("GET", f"/jobs/{job}").body["status"] == "pending"
    standby.until(lambda: standby.call("POST", "/jobs", {}).body.get("active") == active.url)
    refused = standby.call("POST", "/jobs", {"name": "j", "command": "true"})
    assert (refused.status, refused.body["code"]) == (503, "standby")
    shown = standby.call("GET", "/stats").body
    assert [(one["role"], one["url"]) for one in shown["schedulers"]] == [
        ("active", active.url),
        ("standby", standby.url),
    ]
    assert [len(active.call("GET", f"/jobs/{job}/runs").body), standby.role()] == [1, "standby"]


def test_caller_at_a_standby_sees_the_end_of_a_job(
    team: tuple[Team, SharingScheduler, SharingScheduler], tmp_path: Path
) -> None:
    team_, active, standby = team
    job = active.submit("sleep 1")
    with WorkerProcess(team_.urls, tmp_path):
        begin = time.monotonic()
        shown = standby.call("GET", f"/jobs/{job}?wait=20s", timeout_s=30).body
        assert shown["status"] == "success"
        assert time.monotonic() - begin < 10


def test_clean_end_hands_over_at_once(team: tuple[Team, SharingScheduler, SharingScheduler]) -> None:
    _, active, standby = team
    active.send(signal.SIGTERM)
    assert standby.until_served() < 4
    assert active.exit_code() == 0
    active.start()
    assert active.until(lambda: active.role() == "standby") < SERVED_S


def test_killed_scheduler_is_replaced_and_its_runs_go_on(
    team: tuple[Team, SharingScheduler, SharingScheduler], tmp_path: Path
) -> None:
    team_, active, standby = team
    release = tmp_path / "release"
    with WorkerProcess(team_.urls, tmp_path) as worker:
        job = active.submit(f"while ! test -e {release}; do sleep 0.05; done; echo done")
        active.until(lambda: active.call("GET", f"/jobs/{job}").body["status"] == "running" and worker.jobs())
        (process,) = worker.jobs()
        active.send(signal.SIGKILL)
        assert standby.until_served() < SERVED_S
        standby.until(lambda: any(one["status"] == "active" for one in standby.call("GET", "/workers").body))
        assert worker.jobs()[0] == process
        release.touch()
        standby.until(lambda: standby.call("GET", f"/jobs/{job}").body["status"] == "success")
        assert len(standby.call("GET", f"/jobs/{job}/runs").body) == 1


@pytest.mark.timeout(400)
def test_recurring_jobs_fire_once_across_take_overs(database: str, tmp_path: Path) -> None:
    """A scheduler dies a moment before each minute, and the fires of that minute are the next one's."""
    with Team(database, tmp_path) as team, WorkerProcess(team.urls, tmp_path, slots=50):
        active, standby = team.all
        body = [{"name": f"r{number}", "command": "true", "schedule": "* * * * *"} for number in range(200)]
        assert active.call("POST", "/jobs", body).status == 201
        begun_ms = time.time_ns() // 1_000_000
        for _ in range(3):
            time.sleep(58.5 - time.time() % 60 if time.time() % 60 < 58 else 118.5 - time.time() % 60)
            active.send(signal.SIGKILL)
            active.exit_code()
            assert standby.until_served() < SERVED_S
            active.start()
            active, standby = standby, active
        minute_ms = (time.time_ns() // 60_000_000_000 + 1) * 60_000
        next_fire = "SELECT min(next_fire_ms) FROM jobs WHERE schedule IS NOT NULL"
        active.until(lambda: team.look(next_fire)[0][0] > minute_ms, within_s=90)
        fires = team.look(
            "SELECT runs.job_id, runs.created_ms / 60000 FROM runs JOIN jobs ON jobs.job_id = runs.job_id"
            " WHERE jobs.schedule IS NOT NULL"
        )
        skipped = team.look("SELECT count(*) FROM events WHERE became = 'fire_skipped'")
        minutes = set(range(begun_ms // 60_000 + 1, minute_ms // 60_000 + 1))
        assert len(minutes) >= 3
        assert skipped == [(0,)]
        counted = Counter(fires)
        assert [fire for fire, count in counted.items() if count > 1] == []
        assert {minute for _, minute in counted} == minutes
        assert len(counted) == 200 * len(minutes)


def test_replaced_scheduler_can_lead_again(database: str, tmp_path: Path) -> None:
    """In the same process, with the same ports: its workers come back, and their runs go on."""
    release = tmp_path / "release"
    with Team(database, tmp_path, count=1) as team, WorkerProcess(team.urls, tmp_path) as worker:
        (only,) = team.all
        job = only.submit(f"while ! test -e {release}; do sleep 0.05; done; echo done")
        only.until(lambda: only.call("GET", f"/jobs/{job}").body["status"] == "running" and worker.jobs())
        (process,) = worker.jobs()
        for number in range(1, 3):
            with psycopg.connect(database) as other:
                other.execute("UPDATE epoch SET epoch = epoch + 1")
            only.until(lambda number=number: only.log().count("listening on") == number + 1)  # type: ignore[misc]
            assert only.until_served() < SERVED_S
        only.until(lambda: only.log().count("worker w1 registered") >= 2)
        assert worker.jobs()[0] == process
        release.touch()
        only.until(lambda: only.call("GET", f"/jobs/{job}").body["status"] == "success")
        assert only.log().count("no longer active: another scheduler has taken over") == 2
        assert len(only.call("GET", f"/jobs/{job}/runs").body) == 1


def test_scheduler_with_another_key_does_not_stand_by(database: str, tmp_path: Path) -> None:
    with Team(database, tmp_path) as team:
        active, standby = team.all
        standby.send(signal.SIGTERM)
        assert standby.exit_code() == 0
        (standby.data_dir / "secret.key").write_text("ab" * 32 + "\n")
        standby.start()
        assert standby.exit_code() == 78
        assert "copy secret.key from the data folder of another scheduler" in standby.log()
        (standby.data_dir / "secret.key").unlink()
        standby.start()
        assert standby.exit_code() == 78
        shutil.copy(active.data_dir / "secret.key", standby.data_dir)
        standby.start()
        standby.until(lambda: standby.role() == "standby")


def zsched(*words: str, database: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    settings = {"ZSCHED_SCHEDULER_DB": database, "ZSCHED_SCHEDULER_DATA_DIR": str(data_dir), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", "-m", "zsched.commands.zsched", *words]
    return subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=60, cwd=data_dir)


def test_rotated_key_is_needed_by_all_schedulers(database: str, tmp_path: Path) -> None:
    with Team(database, tmp_path) as team:
        first, second = team.all
        assert first.submit("test $S = password", secret_env={"S": "password"}) == 1
        (tmp_path / "other").mkdir(0o700)
        refused = zsched("key", "rotate", "secret", database=database, data_dir=tmp_path / "other")
        assert (refused.returncode, refused.stdout) == (75, "")
        assert "a scheduler leads on postgresql://zsched@" in refused.stderr
        for scheduler in team.all:
            scheduler.send(signal.SIGTERM)
            assert scheduler.exit_code() == 0
        rotated = zsched("key", "rotate", "secret", database=database, data_dir=first.data_dir)
        assert rotated.returncode == 0, rotated.stderr
        assert "the secrets of 1 job encrypted again" in rotated.stdout
        first.start()
        first.until(lambda: first.role() == "ready")
        second.start()
        assert second.exit_code() == 78
        with WorkerProcess(team.urls, tmp_path):
            first.until(lambda: first.call("GET", "/jobs/1").body["status"] == "success")
        checked = zsched("db", "check", database=database, data_dir=first.data_dir)
        assert (checked.returncode, checked.stdout) == (0, ""), checked.stdout + checked.stderr
        assert "all agrees" in checked.stderr


def test_scheduler_that_can_not_take_over_tries_again_each_second(database: str, tmp_path: Path) -> None:
    with Team(database, tmp_path, count=1) as team:
        (only,) = team.all
        only.send(signal.SIGTERM)
        assert only.exit_code() == 0
        with psycopg.connect(database, autocommit=True) as operator:
            operator.execute(
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE SQLSTATE '53100' USING MESSAGE = 'the disk is full'; END $$;"
                " CREATE TRIGGER full_disk BEFORE UPDATE ON epoch FOR EACH ROW EXECUTE FUNCTION full_disk()"
            )
            only.start()
            time.sleep(3)
            assert 1 <= only.log().count("can't take over: PostgreSQL: the disk is full") <= 5
            operator.execute("DROP TRIGGER full_disk ON epoch")
        assert only.until_served() < SERVED_S


def test_data_folder_has_one_scheduler(database: str, tmp_path: Path) -> None:
    with Team(database, tmp_path, count=1) as team:
        second = SharingScheduler(database, tmp_path, "a")
        second.log_path = tmp_path / "second.log"
        second.start()
        assert second.exit_code() == 75
        assert "another scheduler (process" in second.log()
        assert team.all[0].role() == "ready"


def test_password_of_the_url_is_not_logged(database: str, tmp_path: Path) -> None:
    with_password = database.replace("postgresql://zsched@", "postgresql://zsched:s3cret@")
    assert with_password != database
    with Team(with_password, tmp_path, count=1) as team:
        active = team.all[0]
        active.send(signal.SIGTERM)
        assert active.exit_code() == 0
        assert "database postgresql://zsched@" in active.log()
        assert "s3cret" not in active.log()
