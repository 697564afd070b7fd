"""After a day of work no secret stands where others may look: database, logs, command lines, environments, answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from zmq.utils import z85

from tests.system.calls import Call, calls
from tests.system.process import WorkerProcess, children
from tests.system.session import Scheduler, environment, until
from zsched.security import tokens
from zsched.security.keys import read_access

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-P", "-m", "zsched.commands.zsched")


def private(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text, "ascii")
    return path


def forms(text: str) -> list[bytes]:
    """A secret as it is written, and as bytes."""
    raw = bytes.fromhex(text) if len(text) == 64 else z85.decode(text)
    return [text.encode(), raw]


def descendants(pid: int) -> list[int]:
    return [pid, *(inner for child in children(pid) for inner in descendants(child))]


def test_no_secret_is_where_others_may_look(tmp_path: Path) -> None:
    admin = tokens.new()
    admin_file = private(tmp_path / "admin.token", admin.text)
    secrets: dict[str, str] = {"admin token": admin.text.split("_")[2]}
    seen: dict[str, bytes] = {}
    with ExitStack() as held:
        scheduler = held.enter_context(
            Scheduler(tmp_path, "-admin-token-file", str(admin_file), "-log-level", "DEBUG", "-worker-timeout", "3s")
        )
        made = scheduler.post("/tokens", {"scopes": ["worker", "read"], "note": "a note"})["token"]
        token_file = private(tmp_path / "worker.token", made)
        secrets["token"] = made.split("_")[2]
        words = [*COMMAND, "access", "new", "w2", "--endpoint", f"tcp://127.0.0.1:{scheduler.zmq_port}"]
        given = subprocess.run(
            [*words, "--url", scheduler.url],
            capture_output=True,
            text=True,
            env=environment(tmp_path),
            cwd=tmp_path,
            timeout=30,
        )
        assert given.returncode == 0, given.stderr
        seen["stderr of access new"] = given.stderr.encode()
        access_path = private(tmp_path / "w2.access", given.stdout)
        secrets["key in the access file"] = read_access(access_path).pair.secret

        workers: list[WorkerProcess] = []
        for name, more in (("w1", {}), ("w2", {"access": str(access_path)}), ("w3", {"token_file": str(token_file)})):
            (tmp_path / name).mkdir()
            workers.append(
                held.enter_context(
                    WorkerProcess(scheduler.url, tmp_path / name, slots=1, id=name, log_level="DEBUG", **more)
                )
            )
        until(lambda: scheduler.workers() == dict.fromkeys(("w1", "w2", "w3"), "active"))
        for text in (made, admin.text, f"{made}x", made[:-1] + "z"):
            header = {"Authorization": f"Bearer {text}"}
            asked = [
                Call("GET", "/tokens", header),
                Call("POST", "/jobs", header, "{}"),
                Call("GET", "/nothing", header),
            ]
            answers = calls((), "127.0.0.1", scheduler.port, asked)
            seen[f"answers to {text[:9]}"] = json.dumps(answers).encode()
        jobs = scheduler.submit(*["env; tr '\\0' '\\n' < /proc/$PPID/environ; sleep 3"] * 3)
        # Not by their status, which is `running` before there is a process.
        until(lambda: all("start_time" in scheduler.get(f"/jobs/{job}")["last_run"] for job in jobs))

        secrets["scheduler's key"] = (tmp_path / "scheduler.db.d" / "curve.key").read_text("ascii").strip()
        for name in ("w1", "w3"):
            secrets[f"key of {name}"] = (tmp_path / name / "state" / "curve.key").read_text("ascii").strip()
        assert scheduler.program is not None
        for pid in descendants(scheduler.program.pid) + [pid for one in workers for pid in descendants(one.pid)]:
            for name in ("cmdline", "environ"):
                with suppress(OSError):
                    seen[f"{name} of {pid}"] = Path(f"/proc/{pid}/{name}").read_bytes()
        assert len([name for name in seen if name.startswith("environ")]) >= 1 + 3 * 3
        for job in jobs:
            seen[f"job {job}"] = json.dumps(scheduler.finished(job)).encode()
        for address in ("/jobs", "/workers", "/tokens", "/access", "/events?limit=1000", "/stats"):
            seen[address] = json.dumps(scheduler.get(address)).encode()
        scheduler.ask("DELETE", "/access/w1")
        assert workers[0].exit_code() == 77
        for one in workers[1:]:
            one.send(signal.SIGTERM)
            assert one.exit_code() == 0, one.log()
        owned = {admin_file, token_file, access_path, tmp_path / "scheduler.db.d" / "curve.key"}
        for path in tmp_path.rglob("*"):
            if path.is_file() and path not in owned and path.name != "curve.key":
                seen[str(path.relative_to(tmp_path))] = path.read_bytes()
    assert {"scheduler.db", "scheduler.db-wal", "scheduler.log", "w1/worker.log", "w2/worker.log"} <= set(seen)
    found = [
        (secret, place)
        for secret, text in secrets.items()
        for place, content in seen.items()
        for form in forms(text)
        if form in content
    ]
    assert found == []
    # So that the search is known to find something: what is public is there.
    assert admin.token_id.encode() in seen["scheduler.db"] + seen["scheduler.db-wal"]
    assert os.path.getsize(tmp_path / "scheduler.log") > 0
