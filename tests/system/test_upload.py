"""Bodies that a thread reads while they are received: real sockets, and an application that does as each test needs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.system.session import until
from tests.system.test_server import Caller
from zsched.api.http import parser
from zsched.api.http.listeners import listen
from zsched.api.http.server import Server
from zsched.api.http.upload import UPLOAD, Upload, UploadError
from zsched.model.limits import KIB, MIB, SMALL_BODY_BYTES_MAX, UPLOAD_AHEAD_BYTES_MAX
from zsched.scheduler.inbox import Inbox

DEADLINE_S = 20.0
BODY = b"".join(b"%07d\n" % place for place in range(3 * MIB // 8))
HEAD = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson; charset=utf-8\r\n"
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class App:
    """A WSGI application that serves uploads with a function, and answers others with 200."""

    def __init__(self) -> None:
        self.serve: Callable[[Upload], str] = read_all
        self.uploads: list[Upload | None] = []

    def __call__(self, environ: dict[str, Any], start: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
        upload: Upload | None = environ[UPLOAD]
        self.uploads.append(upload)
        try:
            text = "200 none" if upload is None else self.serve(upload)
        except UploadError as error:
            text = f"{error.status} {error}"
        body = f'"{text[4:]}"'.encode()
        start(f"{text[:3]} X", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


def read_all(upload: Upload) -> str:
    digest = hashlib.sha256()
    while data := upload.read():
        digest.update(data)
    return f"200 {digest.hexdigest()}"


def refuse(_upload: Upload) -> str:
    return "403 no"


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def caller(app: App) -> Iterator[Caller]:
    server = Server(app, Inbox(1), listen("127.0.0.1", 0), 2)
    server.start()
    with Caller(server) as connected:
        yield connected
    server.close_door()
    server.stop()


def head(length: int = len(BODY), *more: bytes) -> bytes:
    return b"".join([HEAD, b"Content-Length: %d\r\n" % length, *more, b"\r\n"])


def chunked(body: bytes, size: int = 60_000) -> bytes:
    pieces = (body[begin : begin + size] for begin in range(0, len(body), size))
    return b"".join([*(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n"])


def test_a_body_is_read_while_it_comes_and_the_next_request_follows(caller: Caller) -> None:
    whole = hashlib.sha256(BODY).hexdigest()
    status, _, answer = caller.ask(head() + BODY)
    assert (status, answer) == (200, whole)
    status, _, answer = caller.ask(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY))
    assert (status, answer) == (200, whole)
    # Pipelined.
    caller.send(head(), BODY, GET)
    assert [caller.answer()[2] for _ in range(2)] == [whole, "none"]


def test_a_slow_reader_holds_the_connection_and_little_memory(caller: Caller, app: App) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def slowly(upload: Upload) -> str:
        first = upload.read()
        begun.set()
        assert go_on.wait(DEADLINE_S)
        digest = hashlib.sha256(first)
        while data := upload.read():
            digest.update(data)
        return f"200 {digest.hexdigest()}"

    app.serve = slowly
    body = BODY * 8
    sender = threading.Thread(target=caller.send, args=(head(len(body)), body))
    sender.start()
    assert begun.wait(DEADLINE_S)
    (upload,) = app.uploads
    assert upload is not None
    until(lambda: not upload.has_room)
    assert upload.held_bytes < UPLOAD_AHEAD_BYTES_MAX + 64 * KIB
    assert sender.is_alive()
    go_on.set()
    assert caller.answer()[2] == hashlib.sha256(body).hexdigest()
    sender.join(DEADLINE_S)


def test_only_a_large_body_of_lines_for_jobs_is_an_upload(caller: Caller, app: App) -> None:
    small = b"1\n" * (SMALL_BODY_BYTES_MAX // 2)
    caller.ask(head(len(small)) + small)
    for wrong in (
        head().replace(b"/jobs", b"/other"),
        head().replace(b"x-ndjson", b"json"),
        head().replace(b"POST", b"PUT"),
    ):
        caller.ask(wrong + BODY)
    assert app.uploads == [None] * 4


def test_a_caller_that_waits_sends_its_body_only_after_the_word_to_go_on(caller: Caller, app: App) -> None:
    caller.send(head(len(BODY), b"Expect: 100-continue\r\n"))
    assert caller.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    caller.send(BODY)
    assert caller.answer()[2] == hashlib.sha256(BODY).hexdigest()
    app.serve = refuse
    caller.send(head(len(BODY), b"Expect: 100-continue\r\n"))
    status, headers, _ = caller.answer()
    assert (status, headers["connection"]) == (403, "close")
    assert caller.closed()


def test_the_rest_of_a_refused_body_is_dropped(caller: Caller, app: App) -> None:
    app.serve = refuse
    caller.send(head())
    assert caller.answer()[0] == 403
    caller.send(BODY)
    app.serve = read_all
    assert caller.ask(GET)[2] == "none"
    assert app.uploads[0] is not None
    assert app.uploads[0].held_bytes == 0


def test_a_body_that_ends_early_is_an_error_of_the_reader(caller: Caller, app: App) -> None:
    failed: list[UploadError] = []
    done = threading.Event()

    def serve(upload: Upload) -> str:
        try:
            return read_all(upload)
        except UploadError as error:
            failed.append(error)
            raise
        finally:
            done.set()

    app.serve = serve
    caller.send(head(), BODY[:100_000])
    until(lambda: bool(app.uploads))
    caller.socket.close()
    assert done.wait(DEADLINE_S)
    assert [(error.status, str(error)) for error in failed] == [
        (400, "The connection was closed before the body was complete")
    ]


def test_a_wrong_chunk_is_an_error_of_the_reader(caller: Caller) -> None:
    status, _, answer = caller.ask(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(BODY)[:-5] + b"xyz\r\n")
    assert (status, answer[:11]) == (400, "Bad Request")


def test_a_body_that_is_too_long_is_refused(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "LINES_BODY_BYTES_MAX", MIB)
    status, _, error = caller.ask(head())
    assert (status, error["code"]) == (413, "too_large")
    assert caller.closed()


# A chunk without a length, and a body that is longer than it may be, with what follows in the same segment or later.
WRONG = chunked(BODY[:6_000])[:-5] + b"xyz\r\n"
LONG = chunked(BODY[:6_000])


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("serve", [read_all, refuse])
@pytest.mark.parametrize("broken", [(WRONG, MIB, 400), (LONG, 5_000, 413)])
def test_nothing_after_a_broken_body_is_a_request(
    caller: Caller,
    app: App,
    monkeypatch: pytest.MonkeyPatch,
    serve: Any,
    together: bool,
    broken: tuple[bytes, int, int],
) -> None:
    body, most, status = broken
    monkeypatch.setattr(parser, "LINES_BODY_BYTES_MAX", most)
    app.serve = serve
    caller.send(HEAD, b"Transfer-Encoding: chunked\r\n\r\n", body[:1_000])
    until(lambda: len(app.uploads) == 1)
    if serve is refuse:
        assert caller.answer()[0] == 403
    caller.send(body[1_000:], GET * 9 if together else b"")
    with suppress(ConnectionError):
        if serve is read_all:
            assert caller.answer()[0] == status
        caller.send(GET * 9)
    until(caller.closed)
    assert len(app.uploads) == 1
