"""The commands on a database that is PostgreSQL's, and a move to it and back with real schedulers and a worker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests import postgres
from tests.system.process import ROOT, WorkerProcess
from tests.system.schedulers import SharingScheduler
from tests.system.test_command_line import ZSCHED
from zsched.model.address import parse_url

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

SECRET = "correct-horse-battery"


def zsched(*words: str) -> tuple[int, str, str]:
    """The exit code of a command, its stdout and stderr."""
    done = subprocess.run(
        [*ZSCHED, *words], env={"PYTHONPATH": str(ROOT)} | os.environ, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


def stop(scheduler: SharingScheduler) -> None:
    scheduler.send(signal.SIGTERM)
    assert scheduler.exit_code() == 0


def has_ended(scheduler: SharingScheduler, job: int | None) -> bool:
    return scheduler.call("GET", f"/jobs/{job}").body.get("status") in ("success", "failed")


def test_worker_goes_on_with_its_runs_after_a_move_and_back(database: str, tmp_path: Path) -> None:
    old, new, last = (
        SharingScheduler(db, tmp_path, name)
        for db, name in ((str(tmp_path / "old.db"), "old"), (database, "new"), (str(tmp_path / "last.db"), "last"))
    )
    gate, urls = tmp_path / "gate", ", ".join(scheduler.url for scheduler in (old, new, last))
    waits = f"until test -e {gate}; do sleep 0.05; done; echo through"
    try:
        old.start()
        with WorkerProcess(urls, tmp_path, slots=1):
            running = old.submit(waits, on_lost="fail")
            pending = old.submit(f'test "$TOKEN" = {SECRET}', secret_env={"TOKEN": SECRET})
            old.until(lambda: old.call("GET", f"/jobs/{running}").body["status"] == "running")
            code, _, err = zsched("db", "copy", f"--data-dir={new.data_dir}", str(tmp_path / "old.db"), database)
            assert (code, "stop it first" in err) == (75, True)
            stop(old)

            code, out, err = zsched("db", "copy", f"--data-dir={new.data_dir}", str(tmp_path / "old.db"), database)
            assert (code, "NO" in out.split()) == (0, False), err
            new.start()
            new.until(lambda: new.role() == "ready")
            assert new.call("GET", f"/jobs/{running}").body["status"] == "running"
            gate.touch()
            new.until(lambda: has_ended(new, running) and has_ended(new, pending))
            # The key of the other database opens the secrets, too.
            assert [new.call("GET", f"/jobs/{job}").body["status"] for job in (running, pending)] == ["success"] * 2
            assert new.submit("true") == 3
            stop(new)

            code, out, err = zsched(
                "db", "copy", "--json", f"--data-dir={new.data_dir}", database, str(tmp_path / "last.db")
            )
            tables = json.loads(out)["tables"]
            assert (code, tables["jobs"]["rows"]) == (0, 3), err
            assert all(table["source"] == table["target"] for table in tables.values())
            last.start()
            job = last.submit(f'test "$TOKEN" = {SECRET}', secret_env={"TOKEN": SECRET})
            last.until(lambda: has_ended(last, job))
            assert last.call("GET", f"/jobs/{job}").body["status"] == "success"
            assert [len(last.call("GET", f"/jobs/{each}/runs").body) for each in (running, pending)] == [1, 1]
            for scheduler, place in ((old, str(parse_url(database))), (new, str(tmp_path / "last.db"))):
                scheduler.start()
                assert scheduler.exit_code() == os.EX_CONFIG
                assert f" was moved to {place} at " in scheduler.log()
    finally:
        for scheduler in (old, new, last):
            scheduler.end()


def test_standby_of_a_moved_database_ends(database: str, tmp_path: Path) -> None:
    active, standby = SharingScheduler(database, tmp_path, "a"), SharingScheduler(database, tmp_path, "b")
    try:
        active.start()
        active.until(lambda: active.role() == "ready")
        stop(active)
        assert zsched("db", "copy", f"--data-dir={active.data_dir}", database, str(tmp_path / "new.db"))[0] == 0
        standby.data_dir.mkdir(0o700)
        shutil.copy(active.data_dir / "secret.key", standby.data_dir)
        standby.start()
        assert standby.exit_code() == os.EX_CONFIG
        assert f"was moved to {tmp_path / 'new.db'} at" in standby.log()
    finally:
        active.end()
        standby.end()


def test_move_within_postgres_leaves_the_keys_in_their_folder(database: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    files = (folder / "secret.key", folder / "curve.key")
    serve(database, tmp_path)
    before = [file.read_bytes() for file in files]
    with postgres.server().database(empty=True) as another:
        code, _, err = zsched("db", "copy", f"--data-dir={folder}", database, another)
        assert (code, "key copied" in err) == (0, False), err
        assert [file.read_bytes() for file in files] == before
        serve(another, tmp_path)


def serve(database: str, folder: Path) -> None:
    """A scheduler on a database leads, and ends."""
    scheduler = SharingScheduler(database, folder, "data")
    try:
        scheduler.start()
        scheduler.until(lambda: scheduler.role() == "ready")
        stop(scheduler)
    finally:
        scheduler.end()


def test_commands_on_a_database_of_postgres(database: str, tmp_path: Path) -> None:
    first, second = SharingScheduler(database, tmp_path, "a"), SharingScheduler(database, tmp_path, "b")
    folder, db = f"--data-dir={first.data_dir}", f"--db={database}"
    try:
        first.start()
        first.until(lambda: first.role() == "ready")
        job = first.submit(f'test "$TOKEN" = {SECRET}', secret_env={"TOKEN": SECRET})
        code, _, err = zsched("db", "check", db)
        assert (code, f"1 run and 1 event of {parse_url(database)}: all agrees" in err) == (0, True)
        assert zsched("key", "rotate", "secret", db, f"--data-dir={tmp_path}/elsewhere")[0] == 75
        stop(first)

        code, _, err = zsched("db", "backup", db, str(tmp_path / "backup"))
        assert (code, "pg_dump" in err) == (2, True)
        second.data_dir.mkdir(0o700)
        code, _, err = zsched("key", "rotate", "secret", db, f"--data-dir={second.data_dir}")
        assert (code, "copy secret.key from the data folder of another scheduler" in err) == (os.EX_CONFIG, True)
        shutil.copy(first.data_dir / "secret.key", second.data_dir)
        code, out, err = zsched("key", "rotate", "secret", db, folder)
        assert (code, "the secrets of 1 job encrypted again" in out) == (0, True), err
        # It has the old key.
        second.start()
        assert second.exit_code() == os.EX_CONFIG

        code, _, err = zsched("db", "succeed", db, folder)
        assert (code, "has a new identity" in err) == (0, True)
        first.start()
        first.until(lambda: first.role() == "ready")
        with WorkerProcess(first.url, tmp_path):
            first.until(lambda: has_ended(first, job))
        runs = first.call("GET", f"/jobs/{job}/runs").body
        assert [run["status"] for run in runs] == ["success", "failed"]
        assert first.submit("true") == 1_000_002
    finally:
        first.end()
        second.end()
