"""Connections on which little or nothing is said: how long they may stay, and that they keep nobody out."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.system.session import until
from tests.system.test_server import JOB, Caller, post
from tests.unit.rest import Rest
from zsched.api.http import crowd
from zsched.api.http.listeners import LocalSocket, listen
from zsched.api.http.server import Server
from zsched.model.limits import MIB
from zsched.scheduler.inbox import Inbox
from zsched.security.peer import home

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

GET = b"GET /jobs/1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
# In seconds here, not minutes.
SHORT_S = 1.0
# Of them 6 may come in one round of the poll, so 20 stay.
TCP_MAX = 26
SOON_S = 4.0
STEP_S = 0.05


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(crowd, "UNFINISHED_BYTES_MAX", 8 * MIB)
    with Rest(tmp_path) as rest:
        rest.submit()
        started = Server(rest.app, rest.inbox, listen("127.0.0.1", 0), 4, limiter=crowd.ConnectionLimiter(TCP_MAX))
        started.start()
        yield started
        started.close_door()
        started.stop()


def cut(caller: Caller) -> bool:
    """Whether the server has closed a connection on which it owes nothing."""
    caller.socket.setblocking(False)
    try:
        return caller.socket.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        caller.socket.settimeout(20)


def cut_within(caller: Caller, keep_on: Callable[[], None] = lambda: None) -> float:
    """Seconds until the server has cut the connection, whatever is sent meanwhile."""
    began = time.monotonic()
    while not cut(caller):
        assert time.monotonic() - began < SOON_S
        try:
            keep_on()
        except OSError:
            break
        time.sleep(STEP_S)
    return time.monotonic() - began


# --- how long --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [b"", GET])
def test_a_connection_on_which_nothing_is_asked_is_closed(
    server: Server, monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    monkeypatch.setattr(crowd, "IDLE_CONNECTION_S", SHORT_S)
    with Caller(server) as caller:
        if first:
            assert caller.ask(first)[0] == 200
        assert SHORT_S - 0.2 < cut_within(caller) < SOON_S


@pytest.mark.parametrize(
    ("first", "byte"),
    [
        (b"G", b"E"),
        (b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nX: ", b"x"),
        (b"\r\n", b"\r\n"),
        (post(b"x" * 100_000)[:-99_999], b"x"),
        (b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x"),
    ],
    ids=["method", "header", "empty lines", "body", "chunks", "a chunk's head"],
)
def test_a_request_that_comes_by_drops_is_cut_off_when_its_time_is_over(
    server: Server, monkeypatch: pytest.MonkeyPatch, first: bytes, byte: bytes
) -> None:
    """However steadily they drop."""
    monkeypatch.setattr(crowd, "REQUEST_S", SHORT_S)
    with Caller(server) as caller:
        caller.send(first)
        assert SHORT_S - 0.2 < cut_within(caller, lambda: caller.send(byte)) < SOON_S


def test_a_connection_that_asks_now_and_then_stays(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDLE_CONNECTION_S", "REQUEST_S", "ANSWER_S"):
        monkeypatch.setattr(crowd, name, SHORT_S)
    with Caller(server) as caller:
        began = time.monotonic()
        while time.monotonic() - began < 3 * SHORT_S:
            # Far below the limits, so that a busy machine does not reach them.
            time.sleep(SHORT_S / 10)
            caller.send(GET[:10])
            time.sleep(SHORT_S / 10)
            assert caller.ask(GET[10:])[0] == 200


def test_the_time_in_which_it_is_served_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "IDLE_CONNECTION_S", 2 * SHORT_S)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        time.sleep(2 * SHORT_S)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"{}"]

    server = Server(app, Inbox(1), listen("127.0.0.1", 0), 1)
    server.start()
    with Caller(server) as caller:
        assert caller.ask(GET)[0] == 200
        assert 2 * SHORT_S - 0.2 < cut_within(caller) < SOON_S
    server.close_door()
    server.stop()


def test_answer_without_a_reader_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = b"[" + b",".join([b'{"name": "j", "command": "%s"}' % (b"x" * 90_000)] * 90) + b"]"
    with Caller(server) as other:
        assert other.ask(post(jobs))[0] == 201
    # Only now: a busy machine may need longer for that large submit.
    monkeypatch.setattr(crowd, "ANSWER_S", SHORT_S)
    with Caller(server) as caller:
        caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.send(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
        open_ = server._all[0].active_channels
        until(lambda: any(one.unsent_bytes and not one.in_work for one in list(open_.values())), SOON_S)
        until(lambda: not open_, SOON_S)


# --- how many --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [b"", post(JOB)[:-1]], ids=["nothing", "all but a byte"])
def test_idle_crowd_keeps_nothing_out_and_its_oldest_connections_go(server: Server, part: bytes) -> None:
    with ExitStack() as held:
        crowd_ = []
        for _ in range(200):
            crowd_.append(held.enter_context(Caller(server)))
            crowd_[-1].send(part)
        with Caller(server) as other:
            began = time.monotonic()
            assert other.ask(post(JOB))[0] == 201
            assert time.monotonic() - began < 1
        until(lambda: sum(cut(caller) for caller in crowd_) >= 200 - 20)
        assert all(cut(caller) for caller in crowd_[:150])
        assert not any(cut(caller) for caller in crowd_[-15:])


def test_connection_being_served_is_not_cut_for_a_crowd() -> None:
    entered, leave = threading.Event(), threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        entered.set()
        leave.wait(20)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"{}"]

    server = Server(app, Inbox(1), listen("127.0.0.1", 0), 1, limiter=crowd.ConnectionLimiter(TCP_MAX))
    server.start()
    with Caller(server) as served, ExitStack() as held:
        served.send(GET)
        assert entered.wait(20)
        callers = [held.enter_context(Caller(server)) for _ in range(200)]
        until(lambda: sum(cut(caller) for caller in callers) >= 200 - 20)
        leave.set()
        assert served.answer()[0] == 200
    server.close_door()
    server.stop()


def test_unfinished_bodies_cost_a_bounded_amount_together(server: Server) -> None:
    with ExitStack() as held:
        callers = [held.enter_context(Caller(server)) for _ in range(12)]
        open_ = server._all[0].active_channels
        for caller in callers:
            caller.send(post(b"x" * (2 * MIB))[:-1])
        # The bytes are added up every 20 ms.
        until(lambda: sum(bool(one.request and one.request.error) for one in list(open_.values())) >= 8)
        until(lambda: sum(one.held_bytes for one in list(open_.values())) <= 8 * MIB)
        with Caller(server) as other:
            assert other.ask(post(JOB))[0] == 201
        # Each gets an answer, also those whose bodies were let go.
        for caller in callers:
            caller.send(b"x")
        answers = [caller.answer() for caller in callers]
        statuses = [status for status, _, _ in answers]
        assert set(statuses) == {400, 503}
        assert statuses.count(503) >= 8
        refused = answers[statuses.index(503)]
        assert refused[1]["retry-after"] == "1"
        assert refused[2]["code"] == "unavailable"
        with Caller(server) as other:
            body = b'{"name": "j", "command": "true"' + b" " * (7 * MIB) + b"}"
            assert other.ask(post(body))[0] == 201


def test_requests_that_wait_for_a_thread_count_and_the_served_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "UNFINISHED_BYTES_MAX", 8 * MIB)
    entered, leave = threading.Event(), threading.Event()
    read: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        entered.set()
        leave.wait(20)
        read.append(len(environ["wsgi.input"].read()))
        start_response("200 OK", [("Content-Length", "2")])
        return [b"{}"]

    server = Server(app, Inbox(1), listen("127.0.0.1", 0), 1)
    server.start()
    with Caller(server) as served, ExitStack() as held:
        served.send(post(b"x" * (6 * MIB)))
        assert entered.wait(20)
        callers = [held.enter_context(Caller(server)) for _ in range(6)]
        small = held.enter_context(Caller(server))
        until(lambda: len(server._all[0].active_channels) == 8)
        open_ = list(server._all[0].active_channels.values())
        for caller in callers:
            caller.send(post(b"x" * (MIB // 2)))
        small.send(post(b"y" * 100))
        # A body that will not be served is gone, though its place in the queue is not.
        until(lambda: sum(bool(one.requests and one.requests[0].error) for one in open_) >= 3)
        until(lambda: sum(one.held_bytes for one in open_) <= 8 * MIB)
        leave.set()
        assert served.answer()[0] == 200
        assert small.answer()[0] == 200
        statuses = [caller.answer()[0] for caller in callers]
        assert set(statuses) <= {200, 503}
        assert statuses.count(503) >= 3
        assert max(read) == 6 * MIB
        assert 100 in read
        until(lambda: not any(one.held_bytes for one in open_))
        assert not any(one.served or one._served for one in open_)
    server.close_door()
    server.stop()


def test_of_the_address_that_holds_most_the_costliest_request_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "UNFINISHED_BYTES_MAX", 100)

    class One:
        waits_s, owes_s, unsent_bytes = 0.0, 0.0, 0
        begun = in_work = by_socket = False

        def __init__(self, name: str, address: bytes, held_bytes: int, since_s: float, served: bool = False) -> None:
            self.name, self.home, self.held_bytes, self.since_s = name, address, held_bytes, since_s
            self.served = served

        def refuse(self) -> None:
            gone.append(self.name)
            self.held_bytes = 0

        def handle_close(self) -> None:
            raise AssertionError

    gone: list[str] = []
    whole = crowd.ConnectionLimiter()
    for one in (One("alone", b"a", 40, 0.0), One("served", b"b", 30, 0.0, served=True), One("late", b"b", 15, 9.0)):
        whole.enter(one)
    for one in (One("small", b"b", 1, 6.0), One("early", b"b", 13, 5.0)):
        whole.enter(one)
    whole.thin(10.0)
    assert whole.has_room(by_socket=False)
    assert gone == []
    whole.enter(One("little", b"a", 2, 10.0))
    whole.thin(10.1)
    assert whole.has_room(by_socket=False)
    assert gone == ["early"]


def test_the_address_with_the_most_connections_pays_first() -> None:
    class One:
        def __init__(self, address: str, since_s: float) -> None:
            self.home, self.since_s, self.waits_s, self.owes_s = home(address), since_s, since_s, since_s
            self.held_bytes = self.unsent_bytes = 0
            self.begun = self.in_work = self.served = self.closed = self.by_socket = False

        def refuse(self) -> None:
            raise AssertionError

        def handle_close(self) -> None:
            self.closed = True
            whole.leave(self)

    whole = crowd.ConnectionLimiter()
    few = [One("192.0.2.1", 0.0) for _ in range(10)]
    many = [One(f"2001:db8:0:1::{number:x}", 1.0 + number / 1_000) for number in range(1_000)]
    busy = [One("2001:db8:0:1::1", 0.0) for _ in range(10)]
    for one in busy:
        one.in_work = True
    for one in (*few, *many, *busy):
        whole.enter(one)
    whole.thin(2.0)
    assert whole.has_room(by_socket=False)
    assert not any(one.closed for one in (*few, *busy))
    gone = [one.closed for one in many]
    assert gone == sorted(gone, reverse=True)
    assert sum(gone) == 1_020 - 936
    for one in few:
        one.in_work = True
    for one in many:
        one.in_work = True
    for _ in range(10):
        whole.enter(One("192.0.2.2", 0.0))
    whole.thin(2.0)
    assert whole.has_room(by_socket=False)
    late = One("192.0.2.2", 0.0)
    late.in_work = True
    whole.enter(late)
    whole.thin(2.0)
    assert not whole.has_room(by_socket=False)


def test_answers_without_readers_cost_a_bounded_amount_together(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowd, "UNSENT_BYTES_MAX", 24 * MIB)
    jobs = b"[" + b",".join([b'{"name": "j", "command": "%s"}' % (b"x" * 90_000)] * 90) + b"]"
    with Caller(server) as caller:
        assert caller.ask(post(jobs))[0] == 201
    open_ = server._all[0].active_channels

    def unsent_bytes() -> int:
        return sum(one.unsent_bytes for one in list(open_.values()))

    with ExitStack() as held:
        callers = [held.enter_context(Caller(server)) for _ in range(12)]
        for caller in callers:
            caller.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            # One after another: of many large pages at once the server refuses some, and their callers owe nothing.
            with suppress(ConnectionError):
                caller.send(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
                caller.socket.recv(1, socket.MSG_PEEK)
        # Each has been answered. The others were cut off.
        until(lambda: not any(one.in_work for one in list(open_.values())) and unsent_bytes() <= 24 * MIB)
        assert unsent_bytes() > 8 * MIB
        with Caller(server) as other:
            status, _, found = other.ask(b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (status, len(found)) == (200, 91)
            # What was taken is kept no longer, though the connection stays.
            until(lambda: min(one.unsent_bytes for one in list(open_.values())) == 0)
            idle = [one for one in list(open_.values()) if not one.unsent_bytes]
            assert [len(buffer._pieces) for one in idle for buffer in one.outbufs] == [0] * len(idle)


def test_connection_that_owes_most_for_the_longest_time_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "UNSENT_BYTES_MAX", 100)

    class One:
        home, since_s, waits_s, held_bytes = b"", 0.0, 0.0, 0
        begun = in_work = served = by_socket = False

        def __init__(self, name: str, address: bytes, unsent_bytes: int, owes_s: float) -> None:
            self.name, self.home, self.unsent_bytes, self.owes_s = name, address, unsent_bytes, owes_s

        def refuse(self) -> None:
            raise AssertionError

        def handle_close(self) -> None:
            self.unsent_bytes = 0
            gone.append(self.name)
            whole.leave(self)

    gone: list[str] = []
    whole = crowd.ConnectionLimiter()
    alone = One("alone", b"a", 45, 0.0)
    young, old, little = One("young", b"b", 20, 9.0), One("old", b"b", 20, 5.0), One("little", b"b", 1, 0.0)
    for one in (alone, young, old, little):
        whole.enter(one)
    whole.thin(10.0)
    assert whole.has_room(by_socket=False)
    assert gone == []
    # Its address owes the most by now. In work or not makes no difference.
    big = One("big", b"b", 30, 8.0)
    big.in_work = True
    whole.enter(big)
    whole.thin(10.1)
    assert whole.has_room(by_socket=False)
    assert gone == ["old"]
    alone.unsent_bytes = 90
    whole.thin(10.2)
    assert whole.has_room(by_socket=False)
    assert gone == ["old", "alone"]


def test_crowd_over_tcp_takes_no_place_of_the_socket(tmp_path: Path) -> None:
    """All that TCP may have is in work, so that nothing of it can be closed for a newcomer."""
    leave = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/healthz":
            leave.wait(20)
        start_response("200 OK", [("Content-Length", "2")])
        return [b"{}"]

    with closing(LocalSocket(tmp_path)) as local, ExitStack() as held:
        limiter = crowd.ConnectionLimiter(84, 84)
        server = Server(app, Inbox(1), listen("127.0.0.1", 0), 100, local.listener, limiter=limiter)
        server.start()
        idle = held.enter_context(socket.socket(socket.AF_UNIX))
        idle.connect(str(local.path))
        for _ in range(20 + 64):
            held.enter_context(Caller(server)).send(GET)

        def busy() -> bool:
            there = list(limiter._open[False])
            return len(there) >= limiter._room(True) and all(caller.in_work for caller in there)

        until(busy)
        newcomer = held.enter_context(socket.socket(socket.AF_UNIX))
        newcomer.connect(str(local.path))
        for caller in (newcomer, idle):
            caller.settimeout(20)
            caller.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert caller.recv(100).startswith(b"HTTP/1.1 200 OK")
        leave.set()
        server.close_door()
        server.stop()


def test_loopback_is_one_home_and_a_subscribers_network_too() -> None:
    assert home("127.0.0.1") == home("127.3.4.5") == home("::1") == home("::ffff:127.0.0.1")
    assert home("192.0.2.1") != home("192.0.2.2")
    assert home("192.0.2.1") == home("::ffff:192.0.2.1")
    assert home("2001:db8::1") == home("2001:db8::ffff:1")
    assert home("2001:db8::1") != home("2001:db8:0:1::1")
