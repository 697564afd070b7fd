"""Another user of the host against a scheduler, a worker and a job in their default set-up: what each attempt gets.

All of it happens on a host of its own (a network namespace), so that the ports are the default ones. With `pytest -s`
the test prints a table of the attempts.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.system.hosts import Hosts, needs_hosts
from tests.system.process import ROOT, children, command_line
from tests.system.session import Program, until

# Many processes: the quick tests leave this to .ci/run.
pytestmark = [pytest.mark.slow, needs_hosts]

OWNER, OTHER = 2001, 2002
SECRET: Final = "correct horse battery staple"
PYTHON: Final = os.path.abspath(sys.executable)

# What the other user runs. It reads what it may know, and prints a JSON object: each attempt, and how it ended.
ATTEMPTS: Final = r"""
import errno, http.client, json, os, signal, socket, sys

known = json.load(sys.stdin)
found = {}


def attempt(name, act):
    try:
        found[name] = act()
    except OSError as error:
        found[name] = errno.errorcode.get(error.errno, type(error).__name__)


def ask(method, path, body=None, host="127.0.0.1", connection=None):
    connection = connection or http.client.HTTPConnection(host, 8080, timeout=10)
    connection.request(method, path, body, {"Host": "localhost"})
    answer = connection.getresponse()
    try:
        return f"{answer.status} {json.loads(answer.read())['code']}"
    except (ValueError, TypeError, KeyError):
        return f"{answer.status}"


def over_socket(path):
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    return ask("GET", "/jobs", connection=connection)


def take(family, address, port):
    with socket.socket(family) as end:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        end.bind((address, port))
        end.listen()
    return "taken"


def greet(mechanism):
    # A greeting of ZMTP 3.1, then nothing but what the other end says.
    with socket.create_connection(("127.0.0.1", 5555), timeout=5) as end:
        end.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01" + mechanism.ljust(20, b"\0") + bytes(32))
        heard = b""
        while part := end.recv(4096):
            heard += part
    return f"closed after {len(heard)} bytes of greeting" if len(heard) <= 64 else f"{len(heard)} bytes"


def read(path):
    with open(path, "rb") as file:
        return f"read {len(file.read())} bytes"


BODY = json.dumps({"name": "j", "command": "id"})
for word, host in (("IPv4", "127.0.0.1"), ("IPv6", "::1")):
    attempt(f"REST over {word}: list jobs", lambda: ask("GET", "/jobs", host=host))
    attempt(f"REST over {word}: submit a job", lambda: ask("POST", "/jobs", BODY, host=host))
    attempt(f"REST over {word}: make a token", lambda: ask("POST", "/tokens", '{"scopes": ["admin"]}', host=host))
    attempt(f"REST over {word}: enrol a worker", lambda: ask("POST", "/workers/enrol", '{"worker_id": "w"}', host=host))
for name in ("api.sock", "the default link"):
    attempt(f"Unix socket: {name}", lambda: over_socket(known["sockets"][name]))
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1"),
                        (socket.AF_INET6, "::")):
    for port in (8080, 5555):
        attempt(f"listen on {address} port {port}", lambda: take(family, address, port))
for mechanism in (b"NULL", b"PLAIN", b"CURVE"):
    attempt(f"port 5555: {mechanism.decode()}", lambda: greet(mechanism))
for path in known["files"]:
    attempt(f"read {os.path.basename(os.path.dirname(path))}/{os.path.basename(path)}", lambda: read(path))
for name, pid in known["processes"].items():
    for what in ("environ", "mem", "fd"):
        if what == "fd":
            attempt(f"{name}: {what}", lambda: f"listed {len(os.listdir(f'/proc/{pid}/fd'))}")
        else:
            attempt(f"{name}: {what}", lambda: read(f"/proc/{pid}/{what}"))
    attempt(f"{name}: signal", lambda: os.kill(pid, signal.SIGTERM) or "sent")
    attempt(f"{name}: command line", lambda: open(f"/proc/{pid}/cmdline", "rb").read().decode(errors="replace"))
json.dump(found, sys.stdout)
"""


def as_user(uid: int) -> tuple[str, ...]:
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder of the owner's that others may enter, as most homes are."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o755)
    os.chown(path, OWNER, OWNER)
    try:
        if subprocess.run([*as_user(OWNER), "test", "-r", ROOT / "setup.cfg"], timeout=20).returncode:
            pytest.skip(f"another user can't read {ROOT}")
        yield path
    finally:
        shutil.rmtree(path)


def test_other_user_of_the_host_gets_nothing(home: Path) -> None:
    hosts = Hosts({})
    owner = (*hosts.at("a"), *as_user(OWNER), PYTHON, "-P", "-m")
    runtime = home / "runtime"
    runtime.mkdir(0o700)
    os.chown(runtime, OWNER, OWNER)
    settings = {"XDG_RUNTIME_DIR": str(runtime), "HOME": str(home)}
    try:
        with (
            Program("scheduler", [*owner, "zsched.commands.scheduler"], home, **settings) as scheduler,
            Program("worker-1", [*owner, "zsched.commands.worker", "-id", "worker-1"], home, **settings) as worker,
        ):

            def zsched(*words: str) -> str:
                done = subprocess.run(
                    [*owner, "zsched.commands.zsched", *words],
                    cwd=home,
                    env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), "PASSWORD": SECRET, **settings},
                    capture_output=True,
                    text=True,
                    timeout=30,
                )
                assert done.returncode == 0, f"{done.stderr}\n{scheduler.log()}"
                return done.stdout

            scheduler.wait_for_log("database")
            until(lambda: "active" in zsched("workers"), 60)
            zsched("submit", "--secret-env", "PASSWORD", "exec sleep 1000")
            until(lambda: len(children(worker.pid)) > 1)
            pids = {command_line(pid).split()[-1].rpartition(".")[2]: pid for pid in children(worker.pid)}
            (job,) = (pid for name, pid in pids.items() if name == "1000")
            state = next(path for path in (home / "state").rglob("curve.key"))
            files = [path for path in home.glob("scheduler.db*") if path.is_file()]
            files += [*(home / "scheduler.db.d").iterdir(), *state.parent.iterdir()]
            known = {
                "sockets": {
                    "api.sock": str(home / "scheduler.db.d" / "api.sock"),
                    "the default link": str(runtime / "zsched" / "default.sock"),
                },
                "files": [str(path) for path in files],
                "processes": {
                    "scheduler": scheduler.pid,
                    "worker": worker.pid,
                    "agent": pids["main"],
                    "job": job,
                },
            }
            before = zsched("list", "--json"), zsched("token", "list", "--json")
            done = subprocess.run(
                [*hosts.at("a"), *as_user(OTHER), os.path.realpath(PYTHON), "-I", "-c", ATTEMPTS],
                input=json.dumps(known),
                cwd="/",
                capture_output=True,
                text=True,
                timeout=50,
            )
            assert done.returncode == 0, done.stderr
            found: dict[str, str] = json.loads(done.stdout)
            for name, got in found.items():
                print(f"{name:40} {got.replace(chr(0), ' ')}")  # noqa: T201  (for pytest -s)
            assert before == (zsched("list", "--json"), zsched("token", "list", "--json"))
    finally:
        hosts.close()
    for name, got in found.items():
        expect(name, got)
    # The attempts cover each way in.
    for way in ("REST over IPv4", "REST over IPv6", "Unix socket", "listen on ::1 ", "port 5555", "read ", "agent"):
        assert any(name.startswith(way) for name in found), way


def expect(name: str, got: str) -> None:
    """Raises AssertionError unless an attempt ended as it must."""
    if name.startswith("REST"):
        assert got == "403 protected_mode", name
    elif name.startswith("listen"):
        assert got == "EADDRINUSE", name
    elif name.startswith("port 5555"):
        assert got.startswith("closed after") or got == "ECONNRESET", f"{name}: {got}"
    elif name.endswith("signal"):
        assert got == "EPERM", name
    elif name.endswith("command line"):
        assert SECRET not in got, name
    else:
        assert got in ("EACCES", "EPERM"), f"{name}: {got}"
