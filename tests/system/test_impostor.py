"""Another user of this host listens where the scheduler should: no client and no worker sends it a byte."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.system.answers import Stub
from tests.system.hosts import LINKS, Hosts, needs_hosts
from tests.system.process import WorkerProcess
from tests.system.session import environment, free_ports
from tests.system.stub import StubScheduler
from zsched.client.client import Client, Unreachable
from zsched.security import trust
from zsched.security.endpoint import parse
from zsched.security.trust import SERVER_USERS

OTHER = 2002
TOKEN = "zs_abcdefabcdef_this-is-secret"
SECRET = "hunter2hunter2"
SECOND: Final = {"a": ("192.0.2.9/24", "2001:db8::9/64"), "b": ("192.0.2.7/24", "2001:db8::7/64")}
COMMAND = (sys.executable, "-P", "-m", "zsched.commands.zsched")

# Listens on each address, and answers as a scheduler would. When its input ends, it waits until its callers have closed
# their connections, and prints what they sent. When `deaf` it accepts nothing.
IMPOSTOR = r"""
import json, selectors, socket, sys
kind, port, *addresses = sys.argv[1:]
ENROLLED = {"endpoint": "tcp://127.0.0.1:1", "server_key": "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", "db": "d"}
JOB = {"id": 1, "name": "n", "command": "c", "status": "pending"}
heard, callers = [], {}
events = selectors.DefaultSelector()

def listen(address):
    if address.startswith("/"):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        listener.listen()
    else:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, int(port)), family=family, backlog=0 if kind == "deaf" else 128)
    listener.setblocking(False)
    return listener

def accept(listener):
    caller = listener.accept()[0]
    callers[caller] = b""
    events.register(caller, selectors.EVENT_READ, hear)

def hear(caller):
    try:
        data = caller.recv(65536)
    except ConnectionError:
        data = b""
    heard.append(data.decode("latin-1"))
    if not data:
        events.unregister(caller)
        caller.close()
        del callers[caller]
        return
    callers[caller] += data
    head, blank, body = callers[caller].partition(b"\r\n\r\n")
    length = sum(int(line[15:]) for line in head.splitlines() if line.lower().startswith(b"content-length:"))
    if blank and len(body) >= length:
        callers[caller] = b""
        answer = json.dumps(ENROLLED if b"enrol" in head else JOB).encode()
        caller.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))

def end(_):
    events.unregister(sys.stdin)

listeners = [listen(address) for address in addresses]
if kind == "talks":
    for listener in listeners:
        events.register(listener, selectors.EVENT_READ, accept)
events.register(sys.stdin, selectors.EVENT_READ, end)
print("listens", flush=True)
while sys.stdin in [key.fileobj for key in events.get_map().values()] or callers:
    # Callers before the end of the input: all who have connected by then are heard.
    for key, _ in sorted(events.select(), key=lambda ready: ready[0].data is end):
        key.data(key.fileobj)
print(json.dumps("".join(heard)), flush=True)
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can be another user, by setpriv(1)"
    ),
]


class Impostor:
    """A process of user OTHER that has a scheduler's port, or its socket."""

    def __init__(self, port: int, addresses: Sequence[str], kind: str) -> None:
        words = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups", "python3", "-c", IMPOSTOR]
        self._process = subprocess.Popen(
            [*words, kind, str(port), *addresses],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.defpath},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "listens\n"

    def heard(self) -> str:
        """All that it was sent. Ends it."""
        out, _ = self._process.communicate(timeout=30)
        return str(json.loads(out))

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def impostor(port: int, *addresses: str, kind: str = "talks") -> Iterator[Impostor]:
    started = Impostor(port, addresses, kind)
    try:
        yield started
    finally:
        started.close()


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


@pytest.fixture
def both_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` is [::1] and 127.0.0.1, as most distributions have it."""
    ask = socket.getaddrinfo

    def answer(host: str, *rest: object, **named: object) -> object:
        names = ("::1", "127.0.0.1") if host == "localhost" else (host,)
        return [one for name in names for one in ask(name, *rest, **named)]  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


def localhost_twice(folder: Path) -> tuple[str, ...]:
    """The command that runs what follows where `localhost` is [::1] and 127.0.0.1."""
    hosts = folder / "hosts"
    hosts.write_text("::1 localhost\n127.0.0.1 localhost\n")
    hosts.chmod(0o644)
    return ("unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "127.0.0.5"])
def test_client_sends_nothing_to_another_user_on_the_schedulers_port(port: int, address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    with impostor(port, address) as taken, Client(f"http://{host}:{port}", TOKEN) as client:
        with pytest.raises(Unreachable, match=f"user {OTHER} listens at .*ZSCHED_SERVER_USERS={OTHER}"):
            client.submit("id", secret_env={"DBPASS": SECRET})
        client.close()
        assert taken.heard() == ""


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Host `a` has second addresses, which it calls from its first."""
    made = Hosts({"b": LINKS["b"]})
    try:
        for host in ("a", "b"):
            made.ip(host, "address", "add", SECOND[host][0], "dev", "to-b" if host == "a" else "to-a")
            made.ip(host, "-6", "address", "add", SECOND[host][1], "dev", "to-b" if host == "a" else "to-a", "nodad")
        made.ip("a", "-6", "address", "add", "2001:db8::1/64", "dev", "to-b", "nodad")
        yield made
    finally:
        made.close()


@needs_hosts
@pytest.mark.parametrize("address", ["192.0.2.9", "2001:db8::9", "192.0.2.1"])
def test_client_sends_nothing_to_another_user_on_any_address_of_this_host(
    hosts: Hosts, port: int, address: str
) -> None:
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    with hosts.inside("a"), impostor(port, address) as taken, Client(url, TOKEN) as client:
        with pytest.raises(Unreachable, match=f"user {OTHER} listens at"):
            client.submit("id", secret_env={"DBPASS": SECRET})
        client.close()
        assert taken.heard() == ""


@needs_hosts
@pytest.mark.parametrize("address", ["192.0.2.9", "2001:db8::9", "192.0.2.1"])
def test_server_on_this_host_that_does_not_accept_is_waited_for(hosts: Hosts, port: int, address: str) -> None:
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    with (
        hosts.inside("a"),
        impostor(port, address, kind="deaf"),
        pytest.raises(TimeoutError, match="no process of this host accepted the connection within"),
    ):
        parse(url).connect(0.5)


@needs_hosts
@pytest.mark.parametrize("address", ["192.0.2.2", "2001:db8::7"])
def test_server_of_another_host_is_not_taken_for_a_listener_of_this_one(hosts: Hosts, port: int, address: str) -> None:
    """This host has a listener on all addresses, by another user, on the same port."""
    host = f"[{address}]" if ":" in address else address
    with ExitStack() as held:
        with hosts.inside("b"):
            server = held.enter_context(impostor(port, address))
        held.enter_context(hosts.inside("a"))
        held.enter_context(impostor(port, "::" if ":" in address else "0.0.0.0"))
        with Client(f"http://{host}:{port}", TOKEN) as client:
            assert client.submit("id").id == 1
        assert server.heard().count(TOKEN) == 1


@pytest.mark.parametrize("named", [str(OTHER), f"root,{OTHER}", "any"])
def test_client_calls_a_server_of_a_user_that_is_named(port: int, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVER_USERS, named)
    with impostor(port, "127.0.0.1") as taken, Client(f"http://127.0.0.1:{port}", TOKEN) as client:
        assert client.submit("id").id == 1
        client.close()
        assert taken.heard().count(TOKEN) == 1


def test_client_calls_a_server_of_the_user_that_root_appointed(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "zsched"
    folder.mkdir()
    os.chown(folder, OTHER, -1)
    monkeypatch.setattr(trust, "RUN_FOLDER", str(folder))
    with impostor(port, "127.0.0.1") as taken, Client(f"http://127.0.0.1:{port}", TOKEN) as client:
        assert client.submit("id").id == 1
        client.close()
        assert taken.heard().count(TOKEN) == 1


@pytest.mark.parametrize("kind", ["talks", "deaf"])
@pytest.mark.usefixtures("both_addresses")
def test_client_passes_over_another_user_on_the_first_address(kind: str) -> None:
    server = Stub()
    port = int(server.url.rpartition(":")[2])
    try:
        with impostor(port, "::1", kind=kind) as taken, Client(f"http://localhost:{port}", TOKEN) as client:
            begin = time.monotonic()
            client.ask("POST", "/jobs", {"secret_env": {"DBPASS": SECRET}})
            assert time.monotonic() - begin < 5
            assert server.asked == [("POST", "/jobs")]
            assert server.headers[0]["Authorization"] == f"Bearer {TOKEN}"
            client.close()
            assert taken.heard() == ""
    finally:
        server.close()


def test_command_sends_nothing_to_another_user_and_says_what_to_do(port: int, tmp_path: Path) -> None:
    under = localhost_twice(tmp_path)
    with impostor(port, "::1", "127.0.0.1") as taken:
        done = subprocess.run(
            [*under, *COMMAND, "submit", "--url", f"http://localhost:{port}", "--secret-env", "DBPASS", "id"],
            env=environment(tmp_path, ZSCHED_TOKEN=TOKEN, DBPASS=SECRET),
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, done.stdout) == (4, "")
        assert f"user {OTHER} listens at [::1]:{port}" in done.stderr
        assert "zsched up" not in done.stderr
        assert taken.heard() == ""


def test_command_trusts_no_user_that_its_namespace_does_not_map(port: int, tmp_path: Path) -> None:
    """There it sees itself, its scheduler and everybody else as one user."""
    under = ("unshare", "--user")
    if subprocess.run([*under, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no user namespaces here")
    with impostor(port, "127.0.0.1") as taken:
        done = subprocess.run(
            [*under, *COMMAND, "summary", "--url", f"http://127.0.0.1:{port}"],
            env=environment(tmp_path, ZSCHED_TOKEN=TOKEN),
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 4
        assert "any user that this namespace does not map" in done.stderr
        assert taken.heard() == ""


@pytest.mark.parametrize("with_token", [False, True], ids=["no token", "token"])
def test_worker_sends_nothing_to_another_user_on_the_schedulers_port(
    port: int, tmp_path: Path, with_token: bool
) -> None:
    settings = {"token_file": str(token_file(tmp_path))} if with_token else {}
    url = f"http://127.0.0.1:{port}"
    with impostor(port, "127.0.0.1") as taken, WorkerProcess(url, tmp_path, 2, "", **settings) as worker:
        worker.wait_for_log(f"user {OTHER} listens at")
        # What it sent would be there once its connection is closed.
        worker.__exit__(None, None, None)
        assert taken.heard() == ""


@pytest.mark.parametrize("kind", ["talks", "deaf"])
def test_worker_with_a_token_finds_its_scheduler_behind_another_user(tmp_path: Path, kind: str) -> None:
    """The scheduler listens on 127.0.0.1 only, so the other user can have [::1]."""
    with StubScheduler() as scheduler:
        port = int(scheduler.url.rpartition(":")[2])
        settings = {"token_file": str(token_file(tmp_path))}
        under = localhost_twice(tmp_path)
        with impostor(port, "::1", kind=kind) as taken:
            with WorkerProcess(f"http://localhost:{port}", tmp_path, 2, "", under, **settings):
                scheduler.until(lambda: scheduler.registers)
            assert taken.heard() == ""


def token_file(folder: Path, token: str = TOKEN) -> Path:
    path = folder / "worker.token"
    path.write_text(token)
    path.chmod(0o600)
    return path


def test_list_of_schedulers_is_checked_at_each_address(port: int) -> None:
    """The token and the job go to the next scheduler, and not to the other user's server."""
    stub = Stub()
    stub.answer = lambda *_: (200, {}, b'{"id": 1, "name": "n", "command": "c", "status": "pending"}')
    try:
        with impostor(port, "127.0.0.1") as taken, Client([f"http://127.0.0.1:{port}", stub.url], TOKEN) as client:
            client.submit("id", secret_env={"DBPASS": SECRET})
            client.close()
            assert taken.heard() == ""
        assert stub.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    finally:
        stub.close()
