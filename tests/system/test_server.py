"""The REST server as it listens: real sockets, and requests as bytes, also those that no library would send."""

from __future__ import annotations

import http.client
import io
import json
import logging
import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pytest
from waitress.channel import HTTPChannel

from tests.system.session import until
from tests.unit.rest import Rest
from zsched.api.http.listeners import ListenError, listen
from zsched.api.http.server import Server, ServerError
from zsched.model.limits import CHUNKS_MAX, HEADER_BYTES_MAX, JOBS_BODY_BYTES_MAX, MIB
from zsched.scheduler.inbox import Inbox

TIMEOUT_S = 20.0
JOB = b'{"name": "j", "command": "true"}'
ERROR_FIELDS = {"error", "type", "title", "status", "detail", "instance", "code", "errors", "request_id"}


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    with Rest(tmp_path_factory.mktemp("rest")) as started:
        yield started


@pytest.fixture(scope="module")
def server(rest: Rest) -> Iterator[Server]:
    # On all addresses, as the scheduler listens unless told otherwise.
    started = Server(rest.app, rest.inbox, listen("0.0.0.0", 0), 4)
    started.start()
    yield started
    started.close_door()
    started.stop()


class Reader(io.BufferedReader):
    """What has arrived on a connection. It stays open between answers: the next one may be in its buffer already."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(socket.SocketIO(connection, "r"))

    def makefile(self, *_: object) -> Reader:
        return self

    def close(self) -> None:
        pass


class Caller:
    """A connection on which a test writes bytes and reads answers."""

    def __init__(self, server: Server, address: str = "127.0.0.1", source: tuple[str, int] | None = None) -> None:
        self.socket = socket.create_connection((address, server.port), TIMEOUT_S, source)
        self._reader = Reader(self.socket)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *parts: bytes) -> None:
        self.socket.sendall(b"".join(parts))

    def answer(self) -> tuple[int, dict[str, str], Any]:
        """The next answer: status, headers in lower case, and the value of its JSON."""
        response = http.client.HTTPResponse(cast(socket.socket, self._reader))
        response.begin()
        body = response.read()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, json.loads(body) if body else None

    def ask(self, request: bytes) -> tuple[int, dict[str, str], Any]:
        self.send(request)
        return self.answer()

    def closed(self) -> bool:
        """Whether the server closes the connection without another byte."""
        try:
            return self._reader.read(1) == b""
        except ConnectionError:
            return True


def post(body: bytes, *headers: bytes, path: bytes = b"/jobs", host: bytes = b"localhost") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: " + host, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def refused(answer: tuple[int, dict[str, str], Any], status: int, code: str) -> None:
    """The answer is an error in the one body of errors, though the app never saw the request."""
    found, headers, body = answer
    assert found == status, body
    assert headers["content-type"] == "application/json"
    assert set(body) == ERROR_FIELDS
    assert (body["status"], body["code"]) == (status, code)
    assert body["error"] == body["detail"]
    assert "waitress" not in json.dumps([headers, body]).lower()


# --- bodies as clients send them -------------------------------------------------------------------------------------


def test_a_client_that_waits_for_100_continue_gets_it(server: Server) -> None:
    """PowerShell and .NET send the head first and wait."""
    with Caller(server) as caller:
        request = post(JOB, b"Expect: 100-continue", b"Content-Type: application/json")
        caller.send(request[: -len(JOB)])
        assert caller.socket.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.send(JOB)
        status, headers, body = caller.answer()
    assert (status, headers["location"]) == (201, f"/jobs/{body['id']}")


def test_a_body_in_chunks_is_one_body(server: Server) -> None:
    with Caller(server) as caller:
        head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        caller.send(head, b"5\r\n", JOB[:5], b"\r\n")
        caller.send(b"%x\r\n" % len(JOB[5:]), JOB[5:], b"\r\n0\r\n\r\n")
        assert caller.answer()[0] == 201


def test_a_body_in_endless_chunks_is_cut_off(server: Server) -> None:
    with Caller(server) as caller:
        caller.send(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"100000\r\n" + b" " * MIB + b"\r\n"
        try:
            for _ in range(JOBS_BODY_BYTES_MAX // MIB + 8):
                caller.send(chunk)
        except ConnectionError:
            return
        refused(caller.answer(), 413, "too_large")


def test_a_body_may_come_byte_by_byte_while_others_are_served(server: Server) -> None:
    with Caller(server) as slow:
        for byte in post(JOB):
            slow.send(bytes([byte]))
            if byte == ord("{"):
                with Caller(server) as other:
                    assert other.ask(post(JOB))[0] == 201
        assert slow.answer()[0] == 201


def test_more_half_sent_requests_than_threads_delay_no_other_request(server: Server) -> None:
    with ExitStack() as held:
        for _ in range(50):
            held.enter_context(Caller(server)).send(post(JOB)[:-1])
        with Caller(server) as other:
            assert other.ask(post(JOB))[0] == 201


# --- connections -----------------------------------------------------------------------------------------------------


def test_a_connection_serves_many_requests(server: Server) -> None:
    with Caller(server) as caller:
        for _ in range(3):
            assert caller.ask(post(JOB))[0] == 201
            assert caller.ask(b"GET /jobs/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] == 200
        assert caller.ask(post(b"{}"))[0] == 400
        status, headers, _ = caller.ask(post(JOB, b"Connection: close"))
        assert (status, headers["connection"]) == (201, "close")
        assert caller.closed()


def test_an_answer_leaves_in_one_piece(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = []
    send = HTTPChannel.send

    def sent(channel: HTTPChannel, data: bytes, **named: Any) -> Any:
        pieces.append(bytes(data))
        return send(channel, data, **named)

    monkeypatch.setattr(HTTPChannel, "send", sent)
    with Caller(server) as caller:
        status, _, body = caller.ask(post(JOB))
        [piece] = pieces
        assert (status, json.loads(piece.partition(b"\r\n\r\n")[2])) == (201, body)
        pieces.clear()
        # An answer without a body.
        caller.send(b"HEAD /jobs/1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        caller.socket.recv(65_536)
        assert [piece[-4:] for piece in pieces] == [b"\r\n\r\n"]


def test_requests_sent_ahead_are_answered_in_order(server: Server) -> None:
    with Caller(server) as caller:
        caller.send(*(post(b'{"name": "n%d", "command": "true"}' % number) for number in range(3)))
        raw = b""
        while raw.count(b'"name":') < 3:
            raw += caller.socket.recv(65_536)
    assert [raw.index(b'"n%d"' % number) for number in range(3)] == sorted(
        raw.index(b'"n%d"' % number) for number in range(3)
    )


def test_requests_sent_ahead_wait_unread(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    """A caller takes one place in the queue, however much it sends; and nobody's log is filled by callers that wait."""
    entered, leave = threading.Semaphore(0), threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        entered.release()
        leave.wait(TIMEOUT_S)
        body = environ["PATH_INFO"].encode() + b"\n"
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    ahead = 100
    server = Server(app, rest.inbox, listen("127.0.0.1", 0), 1)
    server.start()
    with ExitStack() as held:
        callers = [held.enter_context(Caller(server)) for _ in range(8)]
        for caller in callers:
            caller.send(*(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number for number in range(ahead)))
        assert entered.acquire(timeout=TIMEOUT_S)
        channels = server._all[0].active_channels
        until(lambda: sum(len(channel.requests) for channel in list(channels.values())) == len(callers))
        leave.set()
        for caller in callers:
            with caller.socket.makefile("rb") as answers:
                paths = (line for line in answers if line.startswith(b"/"))
                assert list(islice(paths, ahead)) == [b"/%d\n" % number for number in range(ahead)]
        server.close_door()
        server.stop()
    assert [record for record in caplog.records if record.name.startswith("waitress")] == []


def test_http_1_0_is_served(server: Server) -> None:
    with Caller(server) as caller:
        assert caller.ask(b"GET /jobs HTTP/1.0\r\nHost: localhost\r\n\r\n")[0] == 200
        assert caller.closed()


def test_an_answer_says_nothing_of_the_server_software(server: Server) -> None:
    with Caller(server) as caller:
        _, headers, _ = caller.ask(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert "server" not in headers
    ours = {"content-security-policy", "x-content-type-options", "x-request-id"}
    assert set(headers) == {"content-length", "content-type", "date", "etag", *ours}


# --- requests that never reach the app -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"nonsense\r\n\r\n", id="nonsense"),
        pytest.param(b"GET\r\n\r\n", id="no path"),
        pytest.param(b"GET /jobs HTTP/1.1\r\nno colon\r\n\r\n", id="a header without a colon"),
        pytest.param(b"GET /jobs HTTP/1.1\r\nHost : localhost\r\n\r\n", id="a space before the colon"),
        pytest.param(b"GET /jobs HTTP/1.1\r\n Host: localhost\r\n\r\n", id="a folded first line"),
        pytest.param(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nA: b\x00c\r\n\r\n", id="a NUL"),
        pytest.param(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", id="a negative length"),
        pytest.param(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1x\r\n\r\n", id="a length with x"),
        pytest.param(post(JOB, b"Content-Length: 1"), id="two lengths"),
        pytest.param(
            b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", id="a bad chunk"
        ),
        pytest.param(b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", id="a broken address"),
    ],
)
def test_invalid_http_is_refused_in_the_one_error_body(server: Server, request_: bytes) -> None:
    with Caller(server) as caller:
        status, headers, body = caller.ask(request_)
        refused((status, headers, body), 400, "invalid_request")
        assert caller.closed()


def test_a_request_with_two_measures_of_its_length_is_not_read_twice(server: Server) -> None:
    """Content-Length and Transfer-Encoding together: what one proxy takes for a body another takes for a request."""
    inner = b"DELETE /jobs/1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Caller(server) as caller:
        refused(caller.ask(post(b"0\r\n\r\n" + inner, b"Transfer-Encoding: chunked")), 400, "invalid_request")
        assert caller.closed()


def test_a_head_that_is_too_large_is_431(server: Server) -> None:
    with Caller(server) as caller:
        caller.send(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nX: ", b"x" * HEADER_BYTES_MAX)
        refused(caller.answer(), 431, "headers_too_large")
    with Caller(server) as caller:
        caller.send(b"GET /", b"x" * (HEADER_BYTES_MAX + 1))
        refused(caller.answer(), 431, "headers_too_large")
    with Caller(server) as caller:
        small = b"x" * (HEADER_BYTES_MAX - 1_000)
        assert caller.ask(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nX: " + small + b"\r\n\r\n")[0] == 200


def test_a_body_that_is_too_large_is_413_before_it_is_read(server: Server) -> None:
    with Caller(server) as caller:
        head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (100 * JOBS_BODY_BYTES_MAX)
        refused(caller.ask(head), 413, "too_large")
        assert caller.closed()


@pytest.mark.parametrize("method", [b"FOO", b"CONNECT", b"WEBSOCKET", b"PROPFIND", b"get"])
def test_unknown_method_is_refused(server: Server, method: bytes) -> None:
    with Caller(server) as caller:
        status, headers, body = caller.ask(method + b" /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert status in (400, 405, 501), body
    assert set(body) == ERROR_FIELDS
    assert headers["x-request-id"] == body["request_id"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in headers["content-security-policy"]


def test_method_of_no_middleware_is_refused_with_debug_lines_too(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "zsched.api.requests")
    test_unknown_method_is_refused(server, b"WEBSOCKET")


# --- who calls -------------------------------------------------------------------------------------------------------


def own_addresses() -> list[str]:
    """This machine's addresses beyond loopback."""
    found = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET, socket.SOCK_STREAM)
    addresses = {str(entry[4][0]) for entry in found}
    # A datagram socket that is connected knows its own address; nothing is sent. 192.0.2.1 is nobody's (RFC 5737).
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            addresses.add(probe.getsockname()[0])
        except OSError:
            pass
    return sorted(address for address in addresses if not address.startswith("127."))


def test_a_caller_by_loopback_is_served(server: Server) -> None:
    with Caller(server, "127.0.0.1") as caller:
        assert caller.ask(post(JOB))[0] == 201


def test_a_caller_by_this_hosts_own_address_is_not_local(server: Server) -> None:
    """The peer's address is this host's too then, so it is the address that was called which tells."""
    addresses = own_addresses()
    if not addresses:
        pytest.skip("this machine has no address but loopback")
    for address in addresses:
        with Caller(server, address) as caller:
            refused(caller.ask(post(JOB)), 403, "protected_mode")
            status, _, body = caller.ask(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
            refused((status, {"content-type": "application/json"}, body), 403, "protected_mode")


def test_second_host_header_does_not_bypass_the_host_check(server: Server) -> None:
    for pair in ((b"localhost", b"example.com"), (b"example.com", b"localhost")):
        with Caller(server) as caller:
            status, _, body = caller.ask(post(JOB, b"Host: " + pair[1], host=pair[0]))
        assert status in (400, 403)
        assert set(body) == ERROR_FIELDS


def test_a_request_without_a_host_is_refused(server: Server) -> None:
    with Caller(server) as caller:
        refused(caller.ask(b"GET /jobs HTTP/1.1\r\n\r\n"), 403, "protected_mode")


def test_absolute_request_target_does_not_bypass_the_host_check(server: Server) -> None:
    with Caller(server) as caller:
        status, _, body = caller.ask(b"GET http://example.com/jobs HTTP/1.1\r\nHost: example.com\r\n\r\n")
    assert (status, body["code"]) == (403, "protected_mode")


@pytest.mark.parametrize("name", [b"X-Forwarded-For", b"x_forwarded_for", b"Forwarded", b"Via", b"X-Real-IP"])
def test_the_servers_own_handling_of_proxies_hides_none(server: Server, name: bytes) -> None:
    """A header with underscores is dropped unread, so it can be no proxy's word either."""
    with Caller(server) as caller:
        status, _, body = caller.ask(post(JOB, name + b": 127.0.0.1"))
    assert (status, body.get("code")) == ((201, None) if b"_" in name else (403, "protected_mode"))


def test_reset_connection_is_not_served_as_another_socket_on_its_port(tmp_path: Path) -> None:
    """The caller resets its connection while the request is queued, and a socket of a trusted user gets its port."""
    entered, leave = threading.Event(), threading.Event()
    with Rest(tmp_path) as rest, ExitStack() as held:

        def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            if environ["PATH_INFO"] == "/wait":
                entered.set()
                leave.wait(TIMEOUT_S)
            return rest.app(environ, start_response)

        server = Server(app, rest.inbox, listen("127.0.0.1", 0), 1)
        server.start()
        busy = held.enter_context(Caller(server))
        busy.send(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert entered.wait(TIMEOUT_S)
        # No other program of this host has connections from this address, so its ports stay free.
        gone = held.enter_context(Caller(server, source=("127.19.84.5", 0)))
        place = gone.socket.getsockname()
        gone.send(post(JOB))
        until(lambda: bool(server._all[0].task_dispatcher.queue))
        gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        gone.socket.close()
        heir = held.enter_context(socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S, place))
        leave.set()
        assert busy.answer()[0] == 404
        # The only thread serves requests in the order in which they came.
        heir.sendall(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        response = http.client.HTTPResponse(heir)
        response.begin()
        assert json.loads(response.read()) == []
        server.close_door()
        server.stop()


# --- starting and stopping -------------------------------------------------------------------------------------------


def test_error_in_the_servers_thread_is_raised_by_check(rest: Rest) -> None:
    class Broken:
        def readable(self) -> bool:
            raise ValueError("broken")

    server = Server(rest.app, rest.inbox, listen("127.0.0.1", 0), 1)
    server.check()
    server._open[-1] = Broken()
    server.start()
    server._thread.join(20)
    with pytest.raises(ServerError) as found:
        server.check()
    assert isinstance(found.value.__cause__, ValueError)
    del server._open[-1]
    server.stop()


def test_a_port_in_use_is_named(server: Server) -> None:
    with pytest.raises(ListenError, match=f"127.0.0.1:{server.port} .*in use"):
        Server(lambda *_: [], Inbox(1), listen("127.0.0.1", server.port), 1)


def test_stopping_is_quiet_while_requests_are_open(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    entered, leave = threading.Semaphore(0), threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/wait":
            entered.release()
            leave.wait(TIMEOUT_S)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"{}"]

    with caplog.at_level(logging.DEBUG), ExitStack() as held:
        server = Server(app, Inbox(2), listen("127.0.0.1", 0), 2)
        server.start()
        idle, half, queued = (held.enter_context(Caller(server)) for _ in range(3))
        assert idle.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] == 200
        half.send(b"GET / HTTP/1.1\r\n")
        waiting = [held.enter_context(Caller(server)) for _ in range(2)]
        for caller in waiting:
            caller.send(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert entered.acquire(timeout=TIMEOUT_S)
        queued.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

        server.close_door()
        server.stop()
        for caller in (idle, half, *waiting):
            assert caller.closed()
        leave.set()

    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert capfd.readouterr() == ("", "")


def test_a_request_under_way_is_answered_before_the_server_stops() -> None:
    entered, leave = threading.Event(), threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        entered.set()
        leave.wait(TIMEOUT_S)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"{}"]

    server = Server(app, Inbox(1), listen("127.0.0.1", 0), 1)
    server.start()
    with Caller(server) as caller:
        caller.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert entered.wait(TIMEOUT_S)
        server.close_door()
        leave.set()
        server.stop()
        assert caller.answer()[0] == 200


def shut(server: Server) -> bool:
    """Whether a newcomer can't connect."""
    try:
        with Caller(server):
            return False
    except ConnectionError:
        return True


def test_closed_server_accepts_no_connection_and_serves_the_open_ones(rest: Rest) -> None:
    server = Server(rest.app, rest.inbox, listen("127.0.0.1", 0), 2)
    server.start()
    with Caller(server) as inside:
        assert inside.ask(post(JOB))[0] == 201
        server.close_door()
        assert inside.ask(post(JOB))[0] == 201
        until(lambda: shut(server))
        assert inside.ask(post(JOB))[0] == 201
        server.stop()
        assert inside.closed()


def test_large_bodies_take_no_descriptors(server: Server) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    body = b'{"name": "j", "command": "true"' + b" " * (JOBS_BODY_BYTES_MAX - 32) + b"}"
    chunk = b"%x\r\n%b\r\n" % (2 * MIB, b" " * (2 * MIB))
    with Caller(server) as caller, Caller(server) as other:
        open_ = server._all[0].active_channels
        until(lambda: len(open_) == 2, TIMEOUT_S)
        before = descriptors()
        caller.send(post(body)[:-1])
        other.send(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", chunk)
        until(lambda: sum(one.held_bytes for one in list(open_.values())) >= len(body) + 2 * MIB, TIMEOUT_S)
        assert descriptors() == before
        assert caller.ask(body[-1:])[0] == 201


# --- chunks ----------------------------------------------------------------------------------------------------------

CHUNKED = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("piece", [b"1\r\n \r\n", b"\r\n", b"1;a=b\r\n \r\n"], ids=["byte", "empty line", "extension"])
def test_body_of_too_many_chunks_is_refused_before_its_end(server: Server, piece: bytes) -> None:
    with Caller(server) as caller:
        caller.send(CHUNKED, piece * (CHUNKS_MAX - 1))
        caller.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            caller.socket.recv(1)
        caller.socket.settimeout(TIMEOUT_S)
        caller.send(piece * 3)
        refused(caller.answer(), 400, "invalid_request")
        assert caller.closed()


def test_chunks_of_a_kibibyte_are_any_number(server: Server) -> None:
    body = JOB + b" " * (2 * MIB)
    parts = [body[at : at + 1024] for at in range(0, len(body), 1024)]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT_S)
    connection.request("POST", "/jobs", iter(parts), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    assert connection.getresponse().status == 201
    connection.close()


# --- callers that wait ---


def test_short_calls_are_served_while_more_callers_wait_than_threads(tmp_path: Path) -> None:
    """Each waiting caller keeps a thread of Waitress, so further threads are started for them."""
    callers = 12
    with Rest(tmp_path, waiters_max=callers) as rest, ExitStack() as left:
        server = Server(rest.app, rest.inbox, listen("127.0.0.1", 0), 2)
        rest.live.on_waiting = server.keep_threads_free
        server.start()
        left.callback(server.stop)
        job = rest.submit()
        waiting = [left.enter_context(Caller(server)) for _ in range(callers)]
        for caller in waiting:
            caller.send(b"GET /jobs/%d?wait=20s HTTP/1.1\r\nHost: localhost\r\n\r\n" % job)
        until(lambda: rest.live.waiting == callers)
        with Caller(server) as further:
            status, _, view = further.ask(b"GET /jobs/%d?wait=20s HTTP/1.1\r\nHost: localhost\r\n\r\n" % job)
        assert (status, view["status"]) == (200, "pending")
        rest.post(f"/jobs/{job}/cancel")
        for caller in waiting:
            status, _, view = caller.answer()
            assert (status, view["status"]) == (200, "cancelled")
