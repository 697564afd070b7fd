"""Connections to a scheduler's socket and to TLS: when TCP is used instead, who may listen, and what a failure says."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer

import pytest

from tests.system.answers import Stub
from tests.system.test_impostor import OTHER, SECRET, TOKEN, impostor
from zsched.client.client import Client, Unreachable, Untrusted
from zsched.model.limits import TLS_HANDSHAKE_S
from zsched.security.endpoint import Endpoint
from zsched.security.trust import SERVER_USERS, UntrustedError

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = f'"{self.headers["Host"]}"'.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def unix_server(path: Path) -> Iterator[None]:
    """Answers each GET on a socket with its Host header."""
    # By a relative name: the path may be longer than bind(2) takes.
    folder = os.open(path.parent, os.O_PATH)
    server = ThreadingUnixStreamServer(f"/proc/self/fd/{folder}/{path.name}", Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        os.close(folder)


@pytest.fixture
def tcp() -> Iterator[Stub]:
    """A scheduler that has TCP alone."""
    server = Stub()
    yield server
    server.close()


def default(tcp: Stub, path: Path) -> Endpoint:
    """The default endpoint with another port and another socket."""
    return Endpoint(tcp.url, "http", "127.0.0.1", int(tcp.url.rpartition(":")[2]), socket_path=str(path))


def answer(place: Endpoint) -> tuple[bool, bytes]:
    """Whether the socket answered a request, and the answer."""
    with closing(place.connect(20.0)) as connection:
        connection.request("GET", "/")
        return connection.sock.family == socket.AF_UNIX, connection.getresponse().read()


def test_client_calls_a_socket_by_a_local_name(tmp_path: Path) -> None:
    with unix_server(tmp_path / "api.sock"), Client(f"unix:{tmp_path}/api.sock", "") as client:
        assert client.ask("GET", "/").json() == "localhost"


@pytest.mark.parametrize("length", [107, 108, 250])
def test_socket_path_of_any_length_connects(tmp_path: Path, length: int) -> None:
    folder = tmp_path
    while len(str(folder)) < length - 60:
        folder /= "d" * min(100, max(1, length - 60 - len(str(folder))))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ("s" * (length - len(str(folder)) - 1))
    assert len(str(path)) == length
    with unix_server(path):
        assert answer(Endpoint("unix", "unix", socket_path=str(path))) == (True, b'"localhost"')


def test_default_socket_comes_before_tcp(tmp_path: Path, tcp: Stub) -> None:
    with unix_server(tmp_path / "api.sock"):
        (tmp_path / "default.sock").symlink_to(tmp_path / "api.sock")
        assert answer(default(tcp, tmp_path / "default.sock"))[0]
    assert tcp.asked == []


@pytest.mark.parametrize("case", ["missing", "dangling link", "nobody listens", "no socket"])
def test_default_socket_without_a_scheduler_is_left_for_tcp(tmp_path: Path, tcp: Stub, case: str) -> None:
    path = tmp_path / "default.sock"
    if case == "dangling link":
        path.symlink_to(tmp_path / "gone.sock")
    elif case == "nobody listens":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
    elif case == "no socket":
        path.touch()
    assert answer(default(tcp, path)) == (False, b"{}")


@as_root
def test_default_socket_that_may_not_be_opened_is_left_for_tcp(tmp_path: Path, tcp: Stub) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    with unix_server(tmp_path / "closed" / "api.sock"):
        os.seteuid(OTHER)
        try:
            assert answer(default(tcp, tmp_path / "closed" / "api.sock")) == (False, b"{}")
        finally:
            os.seteuid(0)


@pytest.mark.parametrize("code", [errno.ELOOP, errno.ENOTDIR, errno.EPROTOTYPE], ids=errno.errorcode.get)
def test_other_failures_of_the_default_socket_are_reported(tmp_path: Path, tcp: Stub, code: int) -> None:
    path = tmp_path / "default.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        if code == errno.ELOOP:
            path.symlink_to(path)
        elif code == errno.ENOTDIR:
            path.touch()
            path /= "x"
        else:
            other.bind(str(path))
        with pytest.raises(OSError, match=f"{path}: {os.strerror(code)}") as caught:
            answer(default(tcp, path))
    assert caught.value.errno == code
    assert tcp.connections == 0


def test_socket_that_is_named_is_not_left_for_tcp(tmp_path: Path) -> None:
    with Client(f"unix:{tmp_path}/api.sock", "") as client, pytest.raises(Unreachable, match="No such file"):
        client.stats()


def test_full_queue_of_a_socket_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        with pytest.raises(TimeoutError):
            Endpoint("unix", "unix", socket_path=str(path)).connect(0.2)
        late = threading.Timer(0.2, lambda: accepted.append(listener.accept()[0]))
        accepted: list[socket.socket] = []
        late.start()
        Endpoint("unix", "unix", socket_path=str(path)).connect(20.0).close()
        late.join()
        accepted[0].close()


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A folder of the other user, who can't enter the tests' own."""
    with tempfile.TemporaryDirectory(prefix="zsched-") as folder:
        os.chown(folder, OTHER, -1)
        yield Path(folder)


@as_root
def test_client_sends_nothing_to_another_user_on_a_socket(
    theirs: Path, tcp: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = theirs / "api.sock"
    with impostor(0, str(path)) as taken, Client(f"unix:{path}", TOKEN) as client:
        with pytest.raises(Untrusted, match=f"user {OTHER} listens at {path}.*set {SERVER_USERS}={OTHER}"):
            client.submit("id", secret_env={"DBPASS": SECRET})
        # Nor is it left for TCP: that would hide it.
        with pytest.raises(UntrustedError):
            default(tcp, path).connect(20.0)
        assert tcp.connections == 0
        monkeypatch.setenv(SERVER_USERS, str(OTHER))
        assert client.submit("id", secret_env={"DBPASS": SECRET}).id == 1
        client.close()
        heard = taken.heard()
        assert heard.count(TOKEN) == heard.count(SECRET) == 1


def test_kept_connection_is_not_checked_again(tcp: Stub) -> None:
    with Client(tcp.url, "") as client:
        for _ in range(3):
            client.stats()
    assert tcp.connections == 1


# --- TLS --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_tls_to_a_plain_port_fails_soon_and_says_why() -> None:
    """A server that waits for the rest of what it takes for a request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        begin = time.monotonic()
        with Client(url, "") as client, pytest.raises(Untrusted, match=f"TLS .* {url} failed: is this plain http"):
            client.stats()
        assert time.monotonic() - begin < TLS_HANDSHAKE_S + 3


def test_plain_http_to_a_tls_port_says_so() -> None:
    """OpenSSL's servers answer an HTTP request by an alert."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def alert() -> None:
            with listener.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")

        answering = threading.Thread(target=alert)
        answering.start()
        with Client(url, "") as client, pytest.raises(Unreachable) as caught:
            client.stats()
        answering.join()
    assert str(caught.value) == f"no scheduler answers at {url}: the server does not speak HTTP; is this https?"
    assert not caught.value.absent


def test_only_where_nothing_listens_a_scheduler_is_absent(tmp_path: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        urls = [
            f"unix:{tmp_path}/none.sock",
            f"http://127.0.0.1:{held.getsockname()[1]}",
            "http://no-such-host.invalid",
        ]
        said = []
        for url in urls:
            with Client(url, "") as client, pytest.raises(Unreachable) as caught:
                client.stats()
            said.append(caught.value.absent)
    assert said == [True, True, False]


def test_tls_to_a_port_that_answers_in_plain_says_so(tcp: Stub) -> None:
    with Client(tcp.url.replace("http:", "https:"), "") as client, pytest.raises(Untrusted, match="is this plain http"):
        client.stats()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of a server with a certificate of its own making for `localhost`, and the certificate's file."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "tls.key", folder / "tls.crt"
    kind = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    named = ("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate))
    subprocess.run(["openssl", "req", *kind.split(), *named], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Stub()
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    yield int(server.url.rpartition(":")[2]), certificate
    server.close()


def test_untrusted_certificate_names_the_variable(tls: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    port, certificate = tls
    with Client(f"https://localhost:{port}", TOKEN) as client:
        with pytest.raises(Untrusted, match=r"invalid certificate of .*: self-signed certificate; .* SSL_CERT_FILE$"):
            client.stats()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert client.stats() == {}


def test_certificate_of_another_name_says_so(tls: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    port, certificate = tls
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    mismatch = pytest.raises(Untrusted, match="call it by the name in its certificate")
    with Client(f"https://127.0.0.1:{port}", TOKEN) as client, mismatch:
        client.stats()
