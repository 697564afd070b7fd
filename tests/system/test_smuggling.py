"""Requests that another reader of the same bytes would read otherwise: none of them gets a second one past a proxy.

Each is sent with a further request hidden in it, and a harmless last one after it. What counts is how many answers
come, and that the hidden request is never done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from tests.system.test_server import JOB, Caller, post, refused
from tests.unit.rest import Rest
from zsched.api.http.listeners import listen
from zsched.api.http.server import Server
from zsched.model.limits import HEADER_BYTES_MAX, KIB

HIDDEN_JOB = b'{"name": "smuggled", "command": "true"}'
HIDDEN = post(HIDDEN_JOB)
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    with Rest(tmp_path_factory.mktemp("rest")) as started:
        yield started


@pytest.fixture(scope="module")
def server(rest: Rest) -> Iterator[Server]:
    started = Server(rest.app, rest.inbox, listen("127.0.0.1", 0), 4)
    started.start()
    yield started
    started.close_door()
    started.stop()


def answered(server: Server, request: bytes) -> list[int]:
    """The statuses of all answers, until the server closes."""
    raw = b""
    with Caller(server) as caller:
        try:
            caller.send(request, LAST)
            while piece := caller.socket.recv(65_536):
                raw += piece
        # Closed with some of it unread.
        except ConnectionError:
            pass
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", raw)]


def jobs(rest: Rest) -> list[str]:
    return [job["name"] for job in rest.get("/jobs", query_string="limit=1000").json]


def head(*headers: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([b"POST /jobs " + version, b"Host: localhost", *headers, b"", b""])


def chunk(content: bytes, size: bytes | None = None) -> bytes:
    return (b"%x" % len(content) if size is None else size) + b"\r\n" + content + b"\r\n"


def chunks(content: bytes) -> bytes:
    return chunk(content) + b"0\r\n\r\n"


def test_without_a_trick_the_requests_are_two_and_both_are_done(server: Server, rest: Rest) -> None:
    """The tests below see what they look for."""
    before = len(jobs(rest))
    assert answered(server, post(JOB) + HIDDEN) == [201, 201, 200]
    assert answered(server, head(CHUNKED) + chunks(JOB) + HIDDEN) == [201, 201, 200]
    assert answered(server, head(CHUNKED) + chunks(HIDDEN)) == [400, 200]
    assert len(jobs(rest)) == before + 4


BOTH = {
    "a length that ends before the chunks": (b"Content-Length: 4", CHUNKED),
    "chunks that end before the length": (CHUNKED, b"Content-Length: %d" % (len(HIDDEN) + 5)),
    "a length of none": (b"Content-Length: 0", CHUNKED),
    "a length that agrees": (CHUNKED, b"Content-Length: %d" % len(chunks(HIDDEN))),
}
CODINGS = {
    "an unknown one": b"Transfer-Encoding: xchunked",
    "identity": b"Transfer-Encoding: identity",
    "chunked and then identity": b"Transfer-Encoding: chunked, identity",
    "gzip and then chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked twice": b"Transfer-Encoding: chunked, chunked",
    "chunked and a comma": b"Transfer-Encoding: chunked,",
    "a comma and chunked": b"Transfer-Encoding: ,chunked",
    "none": b"Transfer-Encoding:",
    "two headers": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "two headers that agree": b"Transfer-Encoding: chunked\r\ntransfer-encoding: chunked",
    "a space before the colon": b"Transfer-Encoding : chunked",
    "a tab before the colon": b"Transfer-Encoding\t: chunked",
    "a space before the name": b" Transfer-Encoding: chunked",
    "a folded line": b"Transfer-Encoding:\r\n chunked",
    "folded by a tab": b"Transfer-Encoding:\r\n\tchunked",
    "folded behind": b"Transfer-Encoding: chunked\r\n ,identity",
    "a vertical tab": b"Transfer-Encoding: \x0bchunked",
    "a form feed": b"Transfer-Encoding: chunked\x0c",
    "quotes": b'Transfer-Encoding: "chunked"',
    "a parameter": b"Transfer-Encoding: chunked;q=1",
    "a NUL behind": b"Transfer-Encoding: chunked\x00",
    "a NUL in the name": b"Transfer-Encoding\x00: chunked",
    "another letter": b"Transfer-Encoding: chun\xe9ed",
    "a space of Latin-1": b"Transfer-Encoding: \xa0chunked",
    "behind a bare LF": b"X: y\nTransfer-Encoding: chunked",
    "behind a bare CR": b"X: y\rTransfer-Encoding: chunked",
}
LENGTHS = {
    "two that agree": b"%d\r\nContent-Length: %d",
    "two in one": b"%d, %d",
    "two, the second in small letters": b"%d\r\ncontent-length: 1%d",
    "a plus": b"+%d",
    "a minus": b"-%d",
    "hexadecimal": b"0x%x",
    "an underscore": b"1_%d",
    "a space within": b"%d 1",
    "a dot": b"%d.0",
    "an exponent": b"%de0",
    "another digit": b"\xb2%d",
    "none": b"",
    "folded": b"\r\n %d",
    "thousands of digits": b"9" * 5_000,
}
SIZES = {
    "hexadecimal by its prefix": b"0x%x",
    "a plus": b"+%x",
    "a minus": b"-%x",
    "a space before": b" %x",
    "a space behind": b"%x ",
    "a tab behind": b"%x\t",
    "an underscore": b"0_%x",
    "a bare LF": b"%x\n",
    "a bare CR": b"%x\r",
    "no size": b";a",
    "a bare LF in an extension": b"%x;a\nb",
    "a bare LF behind an extension": b"%x;a\n",
    "an open quote": b'%x;a="',
    "an extension without a name": b"%x;=a",
}
ALIASES = {
    "an encoded letter": b"/%6aobs",
    "an encoded capital letter, in small digits": b"/jobs/%4a",
    "an encoded digit": b"/jobs/%31",
    "an encoded dot": b"/jobs/%2e",
    "an encoded tilde": b"/jobs/%7E",
    "an encoded slash": b"/jobs%2f1",
    "an encoded slash in capitals": b"/jobs%2F1",
    "a double slash before": b"//jobs",
    "a double slash within": b"/jobs//1",
    "two slashes behind": b"/jobs//",
    "a double slash behind a host": b"http://localhost//jobs",
    "an encoded letter behind a host": b"http://localhost/%6Aobs",
    "a percent sign alone": b"/jobs%",
    "a percent sign and no number": b"/jobs/%zz",
    "a fragment": b"/jobs#x",
    "a fragment before a query": b"/jobs#?limit=1",
    "a tab": b"/jo\tbs",
    "a control character before": b"\x01/jobs",
    "another scheme": b"x:/jobs",
    "another scheme with a host": b"ftp://localhost/jobs",
    "no slash": b"jobs",
}
VERSIONS = [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1", b"HTTP/1.1 x", b""]


def is_refused(server: Server, rest: Rest, request: bytes) -> None:
    """One answer, a refusal, and the end of the connection."""
    before = jobs(rest)
    [status] = answered(server, request)
    assert status in (400, 501)
    assert jobs(rest) == before


@pytest.mark.parametrize("headers", BOTH.values(), ids=BOTH)
def test_a_length_and_chunks_exclude_each_other(server: Server, rest: Rest, headers: tuple[bytes, bytes]) -> None:
    is_refused(server, rest, head(*headers) + chunks(HIDDEN))


@pytest.mark.parametrize("header", CODINGS.values(), ids=CODINGS)
@pytest.mark.parametrize("length", [False, True])
def test_transfer_coding_is_exactly_chunked(server: Server, rest: Rest, header: bytes, length: bool) -> None:
    lengths = [b"Content-Length: %d" % len(chunks(HIDDEN))] if length else []
    is_refused(server, rest, head(*lengths, header) + chunks(HIDDEN))


@pytest.mark.parametrize("target", ALIASES.values(), ids=ALIASES)
def test_path_with_a_second_spelling_is_refused(server: Server, rest: Rest, target: bytes) -> None:
    """A proxy compares paths as they are written, or decoded, or both."""
    is_refused(server, rest, post(HIDDEN_JOB, path=target) + LAST)
    assert answered(server, b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n") == [400]


@pytest.mark.parametrize(
    "target",
    [
        b"/jobs",
        b"/jobs/",
        b"/jobs?limit=%31&status=a//b",
        b"http://localhost/jobs",
        b"/workers/a%40b%3A1",
        b"/workers/a@b:1",
    ],
)
def test_path_with_one_spelling_is_served(server: Server, target: bytes) -> None:
    [status, last] = answered(server, b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    # The worker is unknown, and so is that status.
    assert (status, last) in ((200, 200), (400, 200), (404, 200))
    assert (status == 404) is target.startswith(b"/workers")


@pytest.mark.parametrize("version", VERSIONS)
def test_chunks_are_of_http_1_1_alone(server: Server, rest: Rest, version: bytes) -> None:
    keep = b"Connection: keep-alive"
    is_refused(server, rest, head(CHUNKED, keep, version=version) + chunks(HIDDEN))
    is_refused(server, rest, head(b"Content-Length: 5", CHUNKED, keep, version=version) + b"0\r\n\r\n" + HIDDEN)
    if version != b"HTTP/1.0":
        is_refused(server, rest, head(b"Content-Length: %d" % len(JOB), keep, version=version) + JOB + HIDDEN)


@pytest.mark.parametrize("form", LENGTHS.values(), ids=LENGTHS)
def test_a_length_is_one_number_of_plain_digits(server: Server, rest: Rest, form: bytes) -> None:
    length = form.replace(b"%d", b"%d" % len(JOB)).replace(b"%x", b"%x" % len(JOB))
    is_refused(server, rest, head(b"Content-Length: " + length) + JOB + HIDDEN)


@pytest.mark.parametrize("form", SIZES.values(), ids=SIZES)
def test_a_chunks_size_is_hexadecimal_digits(server: Server, rest: Rest, form: bytes) -> None:
    size = form.replace(b"%x", b"%x" % len(JOB))
    is_refused(server, rest, head(CHUNKED) + chunk(JOB, size) + b"0\r\n\r\n" + HIDDEN)


def test_a_chunk_ends_where_it_says(server: Server, rest: Rest) -> None:
    for end in (b"", b"\n", b"\r", b"x\r\n", b"\n\r"):
        is_refused(server, rest, head(CHUNKED) + b"%x\r\n" % len(JOB) + JOB + end + b"0\r\n\r\n" + HIDDEN)


def test_extensions_and_trailers_of_chunks_are_skipped(server: Server, rest: Rest) -> None:
    """Extensions and a trailer are lawful; no header of a trailer counts."""
    before = jobs(rest)
    size = b'%x;a;b=c;d="e f"' % len(JOB)
    trailer = b"0\r\nContent-Length: 500\r\nTransfer-Encoding: chunked\r\nHost: example.com\r\n\r\n"
    assert answered(server, head(CHUNKED) + chunk(JOB, size) + trailer) == [201, 200]
    assert len(jobs(rest)) == len(before) + 1


@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(b"0" * 64 * KIB, id="a size"),
        pytest.param(b"5;a=" + b"a" * 64 * KIB, id="an extension"),
        pytest.param(b"0\r\n" + b"X: y\r\n" * 10 * KIB, id="a trailer"),
    ],
)
def test_chunk_extensions_and_trailers_have_a_bound(server: Server, rest: Rest, endless: bytes) -> None:
    """Each piece of it that arrives would be copied together with all before it."""
    began_s = time.process_time()
    with Caller(server) as caller:
        try:
            caller.send(head(CHUNKED), *[endless] * 100)
        except ConnectionError:
            pass
        else:
            refused(caller.answer(), 400, "invalid_request")
    assert time.process_time() - began_s < 2.0


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"GET /jobs HTTP/1.1\r\nHost: localhost\nX: y", id="a bare LF"),
        pytest.param(b"GET /jobs HTTP/1.1\nHost: localhost", id="a bare LF behind the request line"),
        pytest.param(b"GET /jobs HTTP/1.1\r\nHost: localhost\rX: y", id="a bare CR"),
        pytest.param(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b", id="a folded line"),
        pytest.param(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nX\x00: y", id="a NUL in a name"),
        pytest.param(b"GET /jobs HTTP/1.1\r\nHost: local\x00host", id="a NUL in Host"),
        pytest.param(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n: y", id="no name"),
        pytest.param(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nX\xff: y", id="a name beyond ASCII"),
        pytest.param(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n(X): y", id="a name in brackets"),
        pytest.param(b"GET  /jobs HTTP/1.1\r\nHost: localhost", id="two spaces"),
        pytest.param(b"GET\t/jobs HTTP/1.1\r\nHost: localhost", id="a tab"),
        pytest.param(b"GET /jobs  HTTP/1.1\r\nHost: localhost", id="two spaces before the version"),
        pytest.param(b"GET /jo bs HTTP/1.1\r\nHost: localhost", id="a space in the path"),
        pytest.param(b"GET http://example.com/jobs HTTP/1.1\r\nHost: localhost", id="another host in the line"),
        pytest.param(b"GET http://localhost/jobs HTTP/1.1\r\nHost: example.com", id="another host in Host"),
        pytest.param(b"GET http://localhost/jobs HTTP/1.1", id="a host in the line alone"),
        pytest.param(b"GET http://localhost@example.com/jobs HTTP/1.1\r\nHost: localhost", id="a user in the line"),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(server: Server, rest: Rest, line: bytes) -> None:
    is_refused(server, rest, line + b"\r\n\r\n" + HIDDEN)


def test_an_address_in_the_line_that_is_hosts_is_served(server: Server) -> None:
    assert answered(server, b"GET http://localhost/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n") == [200, 200]


def test_a_name_with_an_underscore_is_not_that_with_a_dash(server: Server, rest: Rest) -> None:
    before = jobs(rest)
    length = b"Content-Length: %d" % len(JOB)
    assert answered(server, head(length, b"Content_Length: 500", b"Transfer_Encoding: chunked") + JOB) == [201, 200]
    assert len(jobs(rest)) == len(before) + 1


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0"])
def test_nothing_else_than_http_is_spoken_on_a_connection(server: Server, upgrade: bytes) -> None:
    headers = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + upgrade + b"\r\nHTTP2-Settings: AAMAAABkAAQAAP__"
    assert answered(server, b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n\r\n") == [200, 200]
    assert answered(server, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == [400]


def test_many_small_headers_are_as_many_bytes_as_a_large_one(server: Server, rest: Rest) -> None:
    for header in (b"X: y\r\n", b"X-%d: y\r\n" % 1, b"X:\r\n"):
        many = header * (HEADER_BYTES_MAX // len(header) + 1)
        assert answered(server, b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n" + many + b"\r\n") == [431]
