"""The addresses of the workers' port, with a real scheduler: loopback until a worker of another host has a key."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from tests.system.session import Scheduler, environment, until
from tests.system.test_port_crowd import ELSEWHERE, reaches
from zsched.security.keys import new_pair
from zsched.store.sqlite import engine as sqlite
from zsched.store.sqlite import migrations

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[Scheduler]:
    with Scheduler(tmp_path) as started:
        yield started


def enrol(scheduler: Scheduler, name: str = "w1", **more: object) -> tuple[int, Any]:
    return scheduler.ask("POST", "/workers/enrol", {"worker_id": name, "public_key": new_pair().public, **more})


def log(scheduler: Scheduler) -> str:
    assert scheduler.program is not None
    return scheduler.program.log()


def restart(scheduler: Scheduler) -> None:
    scheduler.kill()
    scheduler.start()


def test_worker_of_this_host_does_not_open_the_port(scheduler: Scheduler) -> None:
    assert enrol(scheduler)[0] == 200
    restart(scheduler)
    assert reaches("127.0.0.1", scheduler.zmq_port)
    assert not reaches(ELSEWHERE, scheduler.zmq_port)
    where = f"workers on tcp://127.0.0.1:{scheduler.zmq_port}, tcp://[::1]:{scheduler.zmq_port}"
    # It answers before it says where; once for each start.
    until(lambda: log(scheduler).count(where) == 2)


def test_access_file_opens_the_port_before_it_is_there_and_for_good(scheduler: Scheduler) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "zsched.commands.zsched", "access", "new", "worker-2", "--url", scheduler.url],
        env=environment(scheduler.folder), cwd=scheduler.folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert reaches(ELSEWHERE, scheduler.zmq_port)
    (key,) = scheduler.get("/access")
    assert (key["worker_id"], key["origin"]) == ("worker-2", "file")
    restart(scheduler)
    assert reaches(ELSEWHERE, scheduler.zmq_port)


def test_revoked_access_file_closes_the_port_at_the_next_start(scheduler: Scheduler) -> None:
    assert enrol(scheduler, access_file=True)[0] == 200
    assert scheduler.ask("DELETE", "/access/w1")[0] == 200
    restart(scheduler)
    assert not reaches(ELSEWHERE, scheduler.zmq_port)


def test_port_taken_elsewhere_is_answered_and_can_be_tried_again(scheduler: Scheduler) -> None:
    key = {"worker_id": "w1", "public_key": new_pair().public, "access_file": True}
    with socket.socket() as taker:
        taker.bind((ELSEWHERE, scheduler.zmq_port))
        taker.listen()
        status, answer = scheduler.ask("POST", "/workers/enrol", key)
        assert (status, answer["code"]) == (503, "port_taken")
        assert "Address already in use" in answer["error"]
        assert "can't be opened to other hosts" in log(scheduler)
        assert reaches("127.0.0.1", scheduler.zmq_port)
    assert scheduler.ask("POST", "/workers/enrol", key)[0] == 200
    assert reaches(ELSEWHERE, scheduler.zmq_port)


def test_port_taken_elsewhere_ends_the_start_when_it_is_needed(scheduler: Scheduler) -> None:
    assert enrol(scheduler, access_file=True)[0] == 200
    scheduler.kill()
    with socket.socket() as taker:
        taker.bind((ELSEWHERE, scheduler.zmq_port))
        taker.listen()
        scheduler.launch()
        assert scheduler.program is not None
        assert scheduler.program.exit_code() == 71
    assert "can't listen for workers on port" in log(scheduler)


def test_explicit_address_stays_the_only_one(tmp_path: Path) -> None:
    with Scheduler(tmp_path, "-zmq-host", "127.0.0.1") as scheduler:
        assert enrol(scheduler, access_file=True)[0] == 200
        assert not reaches(ELSEWHERE, scheduler.zmq_port)


def test_all_addresses_are_used_from_the_start_when_the_settings_say_so(tmp_path: Path) -> None:
    with Scheduler(tmp_path, "-zmq-host", "0.0.0.0") as scheduler:
        assert reaches(ELSEWHERE, scheduler.zmq_port)


def test_workers_without_keys_stay_on_loopback(tmp_path: Path) -> None:
    with Scheduler(tmp_path, "-worker-security", "none") as scheduler:
        assert enrol(scheduler, access_file=True)[0] == 200
        assert not reaches(ELSEWHERE, scheduler.zmq_port)


def test_database_of_an_earlier_release_keeps_the_port_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keys may be those of workers on other hosts."""
    folder = resources.files("zsched.store.sqlite") / "schema"
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    before = [(folder / name).read_text() for name in names if name < "0008"]
    monkeypatch.setattr(migrations, "schema_steps", lambda: before)
    with closing(sqlite.SqliteEngine(tmp_path / "scheduler.db")) as engine:
        engine.migrate(1)
        engine.execute(
            "INSERT INTO keys (public_key, worker_id, created_ms, created_by) VALUES (?, 'w1', 1, 'ann')",
            (new_pair().public,),
        )
    (tmp_path / "scheduler.db").chmod(0o600)
    with Scheduler(tmp_path) as scheduler:
        (key,) = scheduler.get("/access")
        assert key["origin"] == "file"
        assert reaches(ELSEWHERE, scheduler.zmq_port)
