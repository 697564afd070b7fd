"""A scheduler ends cleanly however often it is told, also at awkward moments; and one that can't serve says why."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.system.session import Program, Scheduler, until
from zsched.store.sqlite.engine import SqliteEngine, open_writer

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("gap_s", [0.0, 0.01, 0.05, 0.15])
def test_signals_that_follow_each_other_end_it_once_and_cleanly(tmp_path: Path, gap_s: float) -> None:
    with Scheduler(tmp_path) as scheduler:
        assert scheduler.program is not None
        process = scheduler.program.process
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
            # Not a wait for anything: the gap is what is tried.
            threading.Event().wait(gap_s)
        assert process.wait(20) == 0
        assert "Traceback" not in scheduler.program.log()
        assert "ended cleanly" in scheduler.program.log()


def test_what_was_acked_while_it_ended_is_there_afterwards(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        acked: list[int] = []
        ended = threading.Event()

        def submit() -> None:
            while not ended.is_set():
                try:
                    status, job = scheduler.ask("POST", "/jobs", {"name": "a", "command": "true"})
                except OSError:
                    return
                if status == 201:
                    acked.append(job["id"])

        callers = [threading.Thread(target=submit) for _ in range(8)]
        for caller in callers:
            caller.start()
        until(lambda: len(acked) > 50)
        assert scheduler.program is not None
        scheduler.program.process.terminate()
        assert scheduler.program.process.wait(20) == 0
        ended.set()
        for caller in callers:
            caller.join()
        scheduler.start()
        stored = {job["id"] for job in scheduler.get("/jobs?limit=1000")}
        assert set(acked[-200:]) <= stored


def test_wait_for_a_job_is_answered_when_the_scheduler_ends(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        job = scheduler.submit("true")[0]
        with closing(HTTPConnection(urlsplit(scheduler.url).netloc, timeout=20)) as waiter:
            waiter.request("GET", f"/jobs/{job}?wait=20s")
            # Who comes later and has been answered has been let in later.
            assert scheduler.get(f"/jobs/{job}")["status"] == "pending"
            assert scheduler.program is not None
            scheduler.program.process.terminate()
            answer = waiter.getresponse()
            assert (answer.status, json.load(answer)["status"]) == (200, "pending")
        assert scheduler.program.process.wait(20) == 0
        assert "thread(s) still running" not in scheduler.program.log()


@pytest.mark.parametrize("setting", ["port", "zmq-port"])
def test_port_in_use_ends_the_start_with_exit_code_71(tmp_path: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        hosts = ("-host", "127.0.0.1", "-zmq-host", "127.0.0.1")
        with Program(setting, Scheduler(tmp_path, *hosts, f"-{setting}", str(port))._argv, tmp_path) as program:
            assert program.exit_code() == os.EX_OSERR == 71
            assert f"127.0.0.1:{port}" in program.log()
            assert "Address already in use" in program.log()


@pytest.mark.parametrize(
    ("what", "code", "sentence"),
    [
        ("newer", os.EX_CONFIG, "the database has schema 99"),
        ("another's", os.EX_CONFIG, "the file is a database of another program"),
        ("damaged", os.EX_IOERR, "the database is damaged"),
    ],
)
def test_unusable_database_is_an_exit_code_and_stays_unchanged(
    tmp_path: Path, what: str, code: int, sentence: str
) -> None:
    path = tmp_path / "scheduler.db"
    if what != "another's":
        open_writer(path, 0).close()
    if what != "damaged":
        with closing(SqliteEngine(path)) as engine:
            engine.execute("PRAGMA user_version = 99" if what == "newer" else "CREATE TABLE theirs (x)")
    else:
        content = bytearray(path.read_bytes())
        content[8192:] = b"\xa5" * len(content[8192:])
        path.write_bytes(content)
    before = path.read_bytes()
    with Program(what, Scheduler(tmp_path)._argv, tmp_path) as program:
        assert program.exit_code() == code
        assert sentence in program.log()
    assert path.read_bytes() == before
