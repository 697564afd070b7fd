"""The Python client with a list of schedulers: which one gets a call, and when it goes to the next one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.system.answers import Reply, Stub, as_json, problem, replies
from tests.system.session import free_ports
from zsched.client.client import Client, ClientError, NotFound, Refused, Unreachable
from zsched.model.limits import TRY_ALIVE_S_MAX, TRY_CONNECT_S_MAX, TRY_SILENT_GAP_S, TRY_SILENT_S_MAX

JOB = {"id": 7, "name": "n", "command": "c", "status": "success"}
# A hung scheduler holds a call no longer than this.
HUNG_S = max(TRY_CONNECT_S_MAX, TRY_SILENT_S_MAX + TRY_ALIVE_S_MAX) + 1.0
TOKEN = "zs_abcdefabcdef_this-is-secret"


@pytest.fixture
def stubs() -> Iterator[list[Stub]]:
    """Three schedulers that answer with a job."""
    started = [Stub() for _ in range(3)]
    for stub in started:
        stub.answer = replies(as_json(JOB))
    yield started
    for stub in started:
        stub.close()


@pytest.fixture
def nobody() -> str:
    """An address where nothing listens."""
    return f"http://127.0.0.1:{free_ports(1)[0]}"


def standby(active: str = "") -> Callable[[str, str, bytes], Reply]:
    body = {"error": "this scheduler stands by", "code": "standby", "active": active}
    return replies(as_json(body, 503, **{"Retry-After": "1"}))


def asked(stubs: list[Stub]) -> list[int]:
    return [len(stub.asked) for stub in stubs]


def test_list_is_text_with_commas_or_sequence(stubs: list[Stub], nobody: str) -> None:
    for url in (f"{nobody},{stubs[0].url}", f" {nobody} , {stubs[0].url}".strip(), [nobody, stubs[0].url]):
        with Client(url) as client:
            assert client.url == nobody
            assert client.get(7).status == "success"
            assert client.url == stubs[0].url


def test_list_comes_from_the_environment(stubs: list[Stub], nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZSCHED_URL", f"{nobody},{stubs[0].url}")
    with Client() as client:
        assert client.get(7).status == "success"


@pytest.mark.parametrize("url", ["https://a,b", "http://a,", "http://a:8080,b:8080"])
def test_address_without_its_scheme_is_refused(url: str) -> None:
    with pytest.raises(ClientError, match=r"invalid (scheduler )?URL"):
        Client(url)


def test_call_goes_to_the_scheduler_that_answered_last(stubs: list[Stub], nobody: str) -> None:
    with Client([nobody, stubs[0].url, stubs[1].url]) as client:
        for _ in range(3):
            client.get(7)
        assert asked(stubs) == [3, 0, 0]
        stubs[0].answer = standby()
        for _ in range(3):
            client.submit("true")
        assert asked(stubs) == [4, 3, 0]


def test_standby_names_the_one_of_the_list_to_call_next(stubs: list[Stub]) -> None:
    first, second, third = stubs
    first.answer, second.answer = standby(active=third.url), standby(active=third.url)
    with Client([stub.url for stub in stubs]) as client:
        assert client.submit("true").id == 7
    assert asked(stubs) == [1, 0, 1]


def test_address_outside_the_list_gets_nothing(stubs: list[Stub]) -> None:
    first, second, outside = stubs
    first.answer = standby(active=outside.url)
    with Client([first.url, second.url], TOKEN) as client:
        client.submit("true")
    assert (asked(stubs), outside.connections) == ([1, 1, 0], 0)
    assert second.headers[0]["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("status", "code"), [(400, "invalid"), (404, "unknown_job"), (429, "too_many"), (503, "store")]
)
def test_other_refusals_are_final(stubs: list[Stub], status: int, code: str) -> None:
    stubs[0].answer = replies(problem(status, code))
    with Client([stub.url for stub in stubs]) as client, pytest.raises(Refused) as caught:
        client.submit("true")
    assert (caught.value.status, caught.value.code) == (status, code)
    assert isinstance(caught.value, NotFound) == (status == 404)
    assert asked(stubs) == [1, 0, 0]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_proxy_without_its_scheduler_is_passed_over(stubs: list[Stub], status: int) -> None:
    stubs[0].answer = replies((status, {}, b"<html>"))
    with Client([stub.url for stub in stubs]) as client:
        assert client.get(7).id == 7
        client.submit("true")
        stubs[1].answer = replies((status, {}, b"<html>"))
        # It may have been done.
        with pytest.raises(Refused):
            client.ask("POST", "/jobs/7/cancel")
    assert asked(stubs) == [1, 3, 0]


def test_submit_goes_on_with_its_key_when_the_answer_is_lost(stubs: list[Stub]) -> None:
    stubs[0].answer = replies(None)
    with Client([stub.url for stub in stubs]) as client:
        # As `submit` does, without its patience.
        assert client.ask("POST", "/jobs", {"name": "n", "command": "true"}, key="k").json()["id"] == 7
    assert asked(stubs) == [1, 1, 0]
    keys = {stub.headers[0]["Idempotency-Key"] for stub in stubs[:2]}
    assert len(keys) == 1


def test_write_that_may_have_been_done_is_not_sent_again(stubs: list[Stub], nobody: str) -> None:
    stubs[0].answer = replies(None)
    with Client([stub.url for stub in stubs]) as client, pytest.raises(Unreachable) as caught:
        client.ask("POST", "/jobs/7/cancel")
    assert not caught.value.unsent
    assert asked(stubs) == [1, 0, 0]
    # One that was certainly not done is.
    stubs[1].answer = standby()
    with Client([nobody, stubs[1].url, stubs[2].url]) as client:
        client.ask("POST", "/jobs/7/cancel")
    assert asked(stubs) == [1, 1, 1]


def test_error_names_each_address_and_its_reason(stubs: list[Stub], nobody: str) -> None:
    stubs[0].answer = replies(None)
    with Client([nobody, stubs[0].url]) as client, pytest.raises(Unreachable) as caught:
        client.get(7)
    assert f"no scheduler answers: {nobody}: Connection refused; {stubs[0].url}: Remote end closed" in str(caught.value)
    assert not caught.value.absent
    stubs[0].answer = standby()
    with Client([nobody, stubs[0].url]) as client, pytest.raises(Unreachable) as caught:
        client.ask("POST", "/jobs/7/cancel")
    assert f"no active scheduler answers: {nobody}: Connection refused; {stubs[0].url}: " in str(caught.value)
    assert "this scheduler stands by" in str(caught.value)
    with Client([nobody, nobody.replace("127.0.0.1", "127.0.0.2")]) as client, pytest.raises(Unreachable) as caught:
        client.get(7)
    assert caught.value.absent


def test_submit_waits_for_a_standby_to_take_over(stubs: list[Stub], nobody: str) -> None:
    stubs[0].answer = replies(*[standby()("", "", b"")] * 3, as_json(JOB))
    with Client([nobody, stubs[0].url]) as client:
        assert client.submit("true").id == 7
    assert asked(stubs) == [4, 0, 0]
    assert len({headers["Idempotency-Key"] for headers in stubs[0].headers}) == 1


def test_wait_goes_on_at_the_next_scheduler(stubs: list[Stub]) -> None:
    running = as_json({**JOB, "status": "running"})
    stubs[0].answer = replies(running, None)
    with Client([stub.url for stub in stubs]) as client:
        assert client.get(7).wait().status == "success"
    assert asked(stubs)[1:] == [1, 0]


# --- hung schedulers --------------------------------------------------------------------------------------------------


def hang(release: threading.Event) -> Callable[[str, str, bytes], Reply]:
    """Answers nothing, as when the process is stopped behind a port that still accepts."""

    def answer(*_: object) -> Reply:
        release.wait()
        return None

    return answer


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.slow
@pytest.mark.parametrize("hold_s", [0.0, 20.0])
def test_silent_scheduler_is_left_soon(stubs: list[Stub], release: threading.Event, hold_s: float) -> None:
    stubs[0].answer = hang(release)
    with Client([stub.url for stub in stubs]) as client:
        begin = time.monotonic()
        assert client.view(7, hold_s=hold_s)["id"] == 7
        assert TRY_SILENT_S_MAX <= time.monotonic() - begin < HUNG_S
        # From now on it is called last.
        begin = time.monotonic()
        stubs[1].answer = standby(active=stubs[0].url)
        client.submit("true")
        assert time.monotonic() - begin < 1.0
    assert [path for _, path in stubs[0].asked][1:] == ["/healthz"]


@pytest.mark.slow
def test_hung_scheduler_is_left_out_while_another_stands_by(stubs: list[Stub], release: threading.Event) -> None:
    stubs[0].answer = hang(release)
    stubs[1].answer = replies(*[standby(stubs[0].url)("", "", b"")] * 3, as_json(JOB))
    with Client([stubs[0].url, stubs[1].url]) as client:
        begin = time.monotonic()
        assert client.submit("true").id == 7
        assert time.monotonic() - begin < HUNG_S + 1.0
    assert len(stubs[0].asked) == 2


def test_refusal_shows_that_a_scheduler_no_longer_hangs(stubs: list[Stub]) -> None:
    stubs[0].answer = replies(problem(404, "unknown_job"))
    with Client([stub.url for stub in stubs[:2]]) as client:
        schedulers = client._schedulers
        wire = schedulers._wires[0]
        schedulers._hung_until_s = {each: time.monotonic() + 60.0 for each in schedulers._wires}
        with pytest.raises(NotFound):
            client.get(7)
        assert not schedulers._hangs(wire)


@pytest.mark.slow
def test_slow_answer_of_a_living_scheduler_is_awaited(stubs: list[Stub]) -> None:
    slow = TRY_SILENT_S_MAX + TRY_SILENT_GAP_S + 1.0

    def answer(_method: str, path: str, _body: bytes) -> Reply:
        if path != "/healthz":
            threading.Event().wait(slow)
        return as_json(JOB)

    stubs[0].answer = answer
    with Client([stub.url for stub in stubs], TOKEN) as client:
        assert client.submit("true").id == 7
    assert [path for _, path in stubs[0].asked] == ["/jobs", "/healthz", "/healthz"]
    assert asked(stubs)[1:] == [0, 0]
    assert "Authorization" not in stubs[0].headers[1]


@pytest.mark.slow
def test_large_submit_to_a_hung_scheduler_goes_to_the_next(stubs: list[Stub]) -> None:
    """It accepts and reads nothing, so that sending stands still."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    held.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        with Client([f"http://127.0.0.1:{listener.getsockname()[1]}", stubs[0].url]) as client:
            begin = time.monotonic()
            assert client.submit("true", env={"LARGE": "x" * 7_000_000}).id == 7
            assert time.monotonic() - begin < HUNG_S
        listener.shutdown(socket.SHUT_RDWR)
        for connection in held:
            connection.close()


@pytest.mark.slow
def test_port_that_accepts_nothing_is_left_soon(stubs: list[Stub]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        begin = time.monotonic()
        with Client([url, stubs[0].url]) as client:
            assert client.get(7).id == 7
        assert time.monotonic() - begin < HUNG_S
