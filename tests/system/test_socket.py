"""The Unix socket of the scheduler: the way in for programs on its host, and the link by which they find it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.system.process import open_folder
from tests.system.session import Scheduler
from tests.system.test_server import JOB, TIMEOUT_S, post
from tests.unit.rest import Rest
from zsched.api.http.listeners import ListenError, LocalSocket, listen
from zsched.api.http.server import Server
from zsched.security import owners

pytestmark = pytest.mark.slow

NOBODY = 65_534
GET = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n"
root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root can be another user, by setpriv(1)"
)

# A caller of another user, by the system's Python: that user may not enter the folder of ours.
OTHER_USER = """
import socket, sys
caller = socket.socket(socket.AF_UNIX)
try:
    caller.connect(sys.argv[1])
except OSError as error:
    print(type(error).__name__)
else:
    caller.sendall(b"GET /jobs HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n")
    print(caller.recv(65536).decode())
"""


def ask(path: Path, request: bytes) -> tuple[int, Any]:
    """The answer to one request over the socket: its status, and the value of its JSON."""
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(TIMEOUT_S)
        caller.connect(str(path))
        caller.sendall(request)
        response = http.client.HTTPResponse(caller)
        response.begin()
        return response.status, json.loads(response.read())


def as_nobody(path: Path) -> str:
    words = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "python3", "-c", OTHER_USER, str(path)]
    return subprocess.run(
        words, check=True, capture_output=True, text=True, timeout=TIMEOUT_S, env={"PATH": os.defpath}
    ).stdout


@pytest.fixture
def sock() -> Iterator[LocalSocket]:
    with open_folder() as folder, closing(LocalSocket(folder)) as made:
        yield made


@pytest.fixture
def served(tmp_path: Path, sock: LocalSocket) -> Iterator[Path]:
    """The path of a socket with a REST server behind it."""
    with Rest(tmp_path) as rest:
        server = Server(rest.app, rest.inbox, listen("127.0.0.1", 0), 2, sock.listener)
        server.start()
        yield sock.path
        server.close_door()
        server.stop()


# --- callers ---------------------------------------------------------------------------------------------------------


def test_socket_caller_is_its_user_in_the_events(served: Path) -> None:
    status, job = ask(served, post(JOB))
    assert status == 201
    events = ask(served, b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")[1]
    assert [event["actor"] for event in events if event.get("job_id") == job["id"]] == [
        f"{owners.of_user(os.geteuid())} at socket"
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"Host: example.com",
        b"Host: 192.0.2.1",
        b"Host: localhost\r\nOrigin: http://example.com",
        b"Host: localhost\r\nSec-Fetch-Site: cross-site",
        b"Host: localhost\r\nX-Forwarded-For: 127.0.0.1",
        b"Host: localhost\r\nCF-Connecting-IP: 127.0.0.1",
    ],
)
def test_socket_caller_from_a_page_or_a_proxy_is_refused(served: Path, line: bytes) -> None:
    """The socket may be the end of a tunnel, which begins where a browser runs."""
    status, problem = ask(served, b"GET /jobs HTTP/1.1\r\n" + line + b"\r\n\r\n")
    assert (status, problem["code"]) == (403, "protected_mode")


def test_bad_token_over_the_socket_is_401(served: Path) -> None:
    status, problem = ask(served, b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n")
    assert (status, problem["code"]) == (401, "bad_token")


@root
def test_socket_of_another_user_can_not_be_opened(served: Path) -> None:
    assert stat.S_IMODE(served.stat().st_mode) == 0o600
    assert as_nobody(served) == "PermissionError\n"


@root
def test_peer_credentials_decide_where_the_modes_were_widened(served: Path) -> None:
    served.chmod(0o666)
    answer = as_nobody(served)
    assert answer.startswith("HTTP/1.0 403 ")
    assert f"User {NOBODY} needs a token" in answer


# --- the file --------------------------------------------------------------------------------------------------------


def test_socket_path_longer_than_an_address_works(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    with closing(LocalSocket(folder)) as long, socket.socket(socket.AF_UNIX) as caller:
        assert long.listener is not None
        assert stat.S_IMODE(long.path.stat().st_mode) == 0o600
        short = tmp_path / "short"
        short.symlink_to(long.path)
        caller.connect(str(short))
        long.listener.accept()[0].close()
    assert not long.path.exists()


def test_other_file_at_the_sockets_path_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "api.sock").write_text("mine")
    with pytest.raises(ListenError, match="is not a socket; move it away"):
        LocalSocket(tmp_path)
    assert (tmp_path / "api.sock").read_text() == "mine"


def test_socket_that_can_not_be_bound_is_needed_only_by_local_trust_socket(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(LocalSocket(tmp_path / "nowhere")) as none:
        assert none.listener is None
        none.keep_link({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert "served over TCP" in caplog.text
    with pytest.raises(ListenError, match="local_trust = socket needs it"):
        LocalSocket(tmp_path / "nowhere", required=True)
    assert not (tmp_path / "zsched").exists()


def test_socket_of_a_killed_scheduler_is_replaced_and_of_an_ended_removed(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.db.d" / "api.sock"
    with Scheduler(tmp_path) as scheduler:
        assert ask(path, post(JOB))[0] == 201
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        scheduler.kill()
        assert path.is_socket()
        with pytest.raises(ConnectionRefusedError):
            ask(path, GET)
        scheduler.start()
        assert [job["id"] for job in ask(path, GET)[1]] == [1]
        assert scheduler.program is not None
        # It is no scheduler of the default port.
        assert not (tmp_path / "runtime").exists()
        scheduler.program.terminate()
        assert scheduler.program.exit_code() == 0
        assert not path.exists()


# --- local_trust -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "tcp", "by_socket"), [("uid", 200, 200), ("socket", 403, 200), ("any", 200, 200), ("none", 403, 403)]
)
def test_local_trust_decides_for_tcp_and_socket(tmp_path: Path, word: str, tcp: int, by_socket: int) -> None:
    with Scheduler(tmp_path, "-local-trust", word) as scheduler:
        status, answer = scheduler.ask("GET", "/jobs")
        assert status == tcp
        assert ("curl --unix-socket" in answer["error"] if status == 403 else True) is (word != "none")
        assert ask(tmp_path / "scheduler.db.d" / "api.sock", GET)[0] == by_socket
        assert scheduler.program is not None
        scheduler.program.terminate()
        assert scheduler.program.exit_code() == 0
        warned = f"jobs among them, may administer it (local_trust = {word})"
        assert scheduler.program.log().count(warned) == (word != "none")


# --- the link --------------------------------------------------------------------------------------------------------


def environ(folder: Path) -> dict[str, str]:
    folder.mkdir(0o700, exist_ok=True)
    return {"XDG_RUNTIME_DIR": str(folder)}


def test_link_leads_to_the_socket_until_the_end(tmp_path: Path, sock: LocalSocket) -> None:
    link = tmp_path / "runtime" / "zsched" / "default.sock"
    sock.keep_link(environ(tmp_path / "runtime"))
    assert link.readlink() == sock.path
    assert stat.S_IMODE(link.parent.stat().st_mode) == 0o700
    sock.close()
    assert list(link.parent.iterdir()) == []


def test_link_of_the_latest_scheduler_stays(tmp_path: Path, sock: LocalSocket) -> None:
    (tmp_path / "other").mkdir()
    link = tmp_path / "runtime" / "zsched" / "default.sock"
    sock.keep_link(environ(tmp_path / "runtime"))
    with closing(LocalSocket(tmp_path / "other")) as other:
        other.keep_link(environ(tmp_path / "runtime"))
        sock.close()
        assert list(link.parent.iterdir()) == [link]
        assert link.readlink() == other.path


def test_link_replaces_a_file_and_narrows_its_folder(tmp_path: Path, sock: LocalSocket) -> None:
    folder = tmp_path / "runtime" / "zsched"
    words = environ(tmp_path / "runtime")
    folder.mkdir(mode=0o755)
    (folder / "default.sock").write_text("left over")
    sock.keep_link(words)
    assert (folder / "default.sock").readlink() == sock.path
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("place", ["a link", "a looser folder", "a file", "relative", "missing"])
def test_link_is_made_only_in_a_folder_that_is_ours(
    tmp_path: Path, sock: LocalSocket, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    runtime, elsewhere = tmp_path / "runtime", tmp_path / "elsewhere"
    elsewhere.mkdir()
    words = environ(runtime)
    monkeypatch.chdir(tmp_path)
    match place:
        case "a link":
            (runtime / "zsched").symlink_to(elsewhere)
        case "a looser folder":
            runtime.chmod(0o777)
        case "a file":
            (runtime / "zsched").write_text("mine")
        case "relative":
            words = {"XDG_RUNTIME_DIR": "runtime"}
        case "missing":
            runtime.rmdir()
    sock.keep_link(words)
    assert list(elsewhere.iterdir()) == []
    assert not (runtime / "zsched" / "default.sock").is_symlink()


@root
@pytest.mark.parametrize("inner", [True, False], ids=["its own folder", "the folder above"])
def test_link_is_not_made_in_a_folder_of_another_user(tmp_path: Path, sock: LocalSocket, inner: bool) -> None:
    words = environ(tmp_path / "runtime")
    (tmp_path / "runtime" / "zsched").mkdir()
    os.chown(tmp_path / "runtime" / "zsched" if inner else tmp_path / "runtime", NOBODY, NOBODY)
    sock.keep_link(words)
    assert list((tmp_path / "runtime" / "zsched").iterdir()) == []


# --- TCP on both families --------------------------------------------------------------------------------------------


def v6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_v6 = pytest.mark.skipif(not v6(), reason="no IPv6 on loopback here")


@needs_v6
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "*", "127.0.0.1", "::1", "localhost"])
def test_both_loopback_addresses_are_ours_at_one_port(host: str) -> None:
    sockets = listen(host, 0)
    try:
        (port,) = {one.getsockname()[1] for one in sockets}
        assert len(sockets) == 2
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, port), TIMEOUT_S).close()
    finally:
        for one in sockets:
            one.close()


@needs_v6
@pytest.mark.parametrize(("host", "taken"), [("0.0.0.0", "::1"), ("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
def test_port_held_on_the_other_loopback_address_is_an_error(tmp_path: Path, host: str, taken: str) -> None:
    family = socket.AF_INET6 if ":" in taken else socket.AF_INET
    with socket.create_server((taken, 0), family=family) as other:
        port = other.getsockname()[1]
        scheduler = Scheduler(tmp_path, "-host", host, "-port", str(port))
        try:
            scheduler.launch()
            assert scheduler.program is not None
            assert scheduler.program.exit_code() == 71
        finally:
            scheduler.kill()
        place = {"0.0.0.0": "[::]", "127.0.0.1": "[::1]", "::1": "127.0.0.1"}[host] + f":{port}"
        assert (
            f"can't listen for REST on {place} (host, port): Address already in use; the program there would get"
            in (scheduler.program.log())
        )
    assert not (tmp_path / "scheduler.db.d" / "api.sock").exists()
