"""Many connections to the workers' port: what they cost, whom they keep out, and that only they are ended.

By hand, with the figures of this machine: python -m tests.system.test_port_crowd
"""

# ruff: noqa: T201  (stdout is the interface)

from __future__ import annotations

import http.client
import os
import resource
import selectors
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import zmq

from tests.system.process import peak_bytes
from tests.system.session import SCHEDULER, Scheduler, until
from tests.system.test_access import heard, introduction
from tests.system.test_port import DEADLINE_S, SILENCE_S, Options, Scene
from zsched import protocol
from zsched.model.limits import (
    CONNECTIONS_PER_KEY_MAX,
    FRAME_FROM_WORKER_BYTES_MAX,
    KEY_HANDSHAKES_MAX,
    MIB,
    RESULTS_PER_FRAME_MAX,
    STALE_FRAMES_MAX,
    UNHEARD_CONNECTIONS_MAX,
    UNREAD_FRAMES_MAX,
)
from zsched.scheduler import connections, listeners
from zsched.scheduler import port as port_module
from zsched.scheduler.connection_limits import Connection
from zsched.scheduler.connections import Sockets
from zsched.scheduler.port import Port
from zsched.security.keys import new_pair

pytestmark = pytest.mark.slow

# The greeting of ZMTP 3.0 of a CURVE client, and the head of a command that has 8 bytes for its length.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + b"\0" + bytes(31)
LONG_COMMAND = b"\x06"
# What ZeroMQ keeps of a stranger's command, nearly.
COMMAND_BYTES = FRAME_FROM_WORKER_BYTES_MAX - 64
# An address of this host that a listener on 127.0.0.1 does not cover.
ELSEWHERE = "127.0.0.2"


@pytest.fixture
def scene() -> Iterator[Scene]:
    with closing(Scene()) as opened:
        yield opened


@pytest.fixture
def patient_scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Its port gives up no handshake."""
    monkeypatch.setattr(port_module, "HANDSHAKE_MS", 600_000)
    with closing(Scene()) as opened:
        yield opened


def is_cut(stranger: socket.socket) -> bool:
    """Whether the other end has closed the connection. What it says is dropped."""
    stranger.setblocking(False)
    try:
        while stranger.recv(4096):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def strangers(address: tuple[str, int], count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as held:
        yield [held.enter_context(socket.create_connection(address, timeout=DEADLINE_S)) for _ in range(count)]


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_silent_connections_are_bounded(patient_scene: Scene) -> None:
    address = ("127.0.0.1", patient_scene.port.number)
    with strangers(address, UNHEARD_CONNECTIONS_MAX + 20) as opened:
        until(lambda: sum(map(is_cut, opened)) == 20)
        # And a worker comes in.
        patient_scene.caller(patient_scene.curve(patient_scene.worker))
        assert patient_scene.arrives() is not None


def test_newcomers_wait_in_the_kernel_until_a_place_is_free() -> None:
    places = 2
    with (
        zmq.Context() as context,
        closing(Port(context, "127.0.0.1", 0, connections_max=places)) as port,
        ExitStack() as held,
    ):
        there = [held.enter_context(context.socket(zmq.DEALER)) for _ in range(places)]

        def heard_all() -> bool:
            for dealer in there:
                dealer.send(b"here")
            while port.receive() is not None:
                pass
            with port._monitor._lock:
                return port._monitor._holding

        for dealer in there:
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.connect(f"tcp://127.0.0.1:{port.number}")
        until(heard_all)
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", port.number), timeout=0.3)
        there[0].close()
        socket.create_connection(("127.0.0.1", port.number), timeout=DEADLINE_S).close()


def test_connections_stay_bounded_when_looks_at_their_bytes_fail(
    patient_scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # As where the kernel's TCP_INFO is shorter.
    monkeypatch.setattr(connections, "_TCP_INFO_BYTES", 8)
    with strangers(("127.0.0.1", patient_scene.port.number), UNHEARD_CONNECTIONS_MAX + 20) as opened:
        until(lambda: "a connection to the workers' port could not be checked" in caplog.text)
        patient_scene.caller(patient_scene.curve(patient_scene.worker))
        until(lambda: sum(map(is_cut, opened)) > 20)
    assert "struct.error" in caplog.text
    assert len(caplog.messages) < 10


def test_connections_of_one_key_are_bounded(scene: Scene) -> None:
    """The newest stay: a worker's old connections may be ones in name only."""
    dealers = []
    for _ in range(KEY_HANDSHAKES_MAX):
        dealers.append(scene.caller(scene.curve(scene.worker)))
        assert scene.arrives() is not None
    answered = 0
    for dealer in dealers[-CONNECTIONS_PER_KEY_MAX:]:
        dealer.send(b"again")
        answered += scene.arrives() is not None
    assert answered == CONNECTIONS_PER_KEY_MAX
    # Those that were cut connect anew by themselves, and are refused for a while.
    scene.caller(scene.curve(scene.worker))
    assert scene.arrives(SILENCE_S / 2) is None


def test_frames_that_wait_unread_are_bounded(scene: Scene) -> None:
    frame, sent, most = bytes(FRAME_FROM_WORKER_BYTES_MAX - 1_000), 0, 100
    dealer = scene.context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.LINGER, 0)
    dealer.setsockopt(zmq.SNDHWM, 1)
    scene.curve(scene.worker)(dealer)
    dealer.connect(f"tcp://127.0.0.1:{scene.port.number}")
    with closing(dealer):
        dealer.send(b"hello")
        assert scene.arrives() is not None
        while sent < most and dealer.poll(2_000, zmq.POLLOUT):
            dealer.send(frame)
            sent += 1
        # The kernel's buffers hold some more on the way.
        assert UNREAD_FRAMES_MAX <= sent < UNREAD_FRAMES_MAX + 30


def test_fleet_behind_one_address_comes_in_at_once() -> None:
    """After a restart of the scheduler all workers connect at the same moment."""
    count = 300
    with closing(Scene()) as scene:
        pairs = [new_pair() for _ in range(count)]
        scene.known |= {pair.public for pair in pairs}
        scene.context.setsockopt(zmq.MAX_SOCKETS, 2_000)
        began = time.monotonic()
        for pair in pairs:
            scene.caller(reconnecting(scene.curve(pair)))
        seen: set[str] = set()
        while len(seen) < count:
            arrived = scene.arrives()
            assert arrived is not None
            seen.add(arrived.key)
        assert time.monotonic() - began < DEADLINE_S


def reconnecting(options: Options) -> Options:
    """As a worker connects."""

    def all_options(dealer: zmq.Socket[bytes]) -> None:
        options(dealer)
        dealer.setsockopt(zmq.RECONNECT_IVL, 100)
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, 1_000)

    return all_options


# --- only they are ended ---------------------------------------------------------------------------------------------


@contextmanager
def connection(server: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection to a listening socket, the caller's first."""
    with socket.create_connection(server.getsockname(), timeout=DEADLINE_S) as caller:
        accepted, _ = server.accept()
        with accepted:
            yield caller, accepted


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened


def test_descriptor_that_was_reused_is_left_alone(server: socket.socket) -> None:
    """By another connection to the same port, by one to another port, by a file, by nothing."""
    with closing(Sockets(server.getsockname()[1])) as sockets, connection(server) as (_, accepted):
        number = accepted.fileno()
        identity = sockets.identify(number)
        assert identity is not None
        ours = Connection(number, identity)
        accepted.detach()
        with connection(server) as (another, end):
            os.dup2(end.fileno(), number)
            sockets.end(ours)
            assert not is_cut(another)
        with socket.create_server(("127.0.0.1", 0)) as rest, connection(rest) as (caller, end):
            os.dup2(end.fileno(), number)
            sockets.end(ours)
            assert sockets.identify(number) is None
            assert not is_cut(caller)
        with Path(os.devnull).open() as file:
            os.dup2(file.fileno(), number)
            sockets.end(ours)
            assert sockets.identify(number) is None
        os.close(number)
        sockets.end(ours)
        assert sockets.identify(number) is None


def test_connection_is_ended_and_its_descriptor_left_to_its_owner(server: socket.socket) -> None:
    with closing(Sockets(server.getsockname()[1])) as sockets, connection(server) as (caller, accepted):
        identity = sockets.identify(accepted.fileno())
        assert identity is not None
        assert (identity.address, identity.home) == ("127.0.0.1", b"")
        sockets.end(Connection(accepted.fileno(), identity))
        assert is_cut(caller)
        # The owner sees the end, and closes.
        assert accepted.recv(1) == b""


def test_no_free_descriptor_is_needed_and_none_is_kept(server: socket.socket) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with closing(Sockets(server.getsockname()[1])) as sockets, connection(server) as (caller, accepted):
        before = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 10, limits[1]))
        taken: list[int] = []
        try:
            with suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            identity = sockets.identify(accepted.fileno())
            assert identity is not None
            sockets.end(Connection(accepted.fileno(), identity))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for number in taken:
                os.close(number)
        assert is_cut(caller)
        assert len(os.listdir("/proc/self/fd")) == before


# --- which addresses -------------------------------------------------------------------------------------------------


def reaches(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=DEADLINE_S).close()
    except ConnectionRefusedError:
        return False
    return True


@contextmanager
def opened(host: str, *, outward: bool = False) -> Iterator[Port]:
    with zmq.Context() as context, closing(Port(context, host, 0, outward=outward)) as port:
        yield port


def test_port_is_on_loopback_until_it_is_opened() -> None:
    with opened("") as port:
        assert reaches("127.0.0.1", port.number)
        assert reaches("::1", port.number)
        assert not reaches(ELSEWHERE, port.number)
        assert port.where == f"tcp://127.0.0.1:{port.number}, tcp://[::1]:{port.number}"
        for _ in range(2):
            port.open_outward()
            assert reaches(ELSEWHERE, port.number)
            assert reaches("::1", port.number)
            assert f"tcp://0.0.0.0:{port.number}" in port.where


@pytest.mark.parametrize(
    ("host", "outward", "elsewhere"),
    [("", True, True), ("0.0.0.0", False, True), ("*", False, True), ("127.0.0.1", True, False), ("::1", True, False)],
)
def test_address_that_is_set_is_the_one(host: str, outward: bool, elsewhere: bool) -> None:
    with opened(host, outward=outward) as port:
        port.open_outward()
        assert reaches(ELSEWHERE, port.number) == elsewhere


def test_connections_outlive_the_opening(scene: Scene) -> None:
    with zmq.Context() as context, closing(Port(context, "", 0)) as port, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"tcp://127.0.0.1:{port.number}")
        peers = set()
        for _ in range(2):
            dealer.send(b"hello")
            assert port.sockets[0].poll(int(DEADLINE_S * 1_000))
            arrived = port.receive()
            assert arrived is not None
            peers.add(arrived.peer)
            port.open_outward()
        assert len(peers) == 1


def test_port_taken_on_another_address_leaves_loopback_open() -> None:
    with opened("") as port, socket.socket() as taker:
        taker.bind((ELSEWHERE, port.number))
        taker.listen()
        with pytest.raises(OSError, match="Address already in use"):
            port.open_outward()
        assert reaches("127.0.0.1", port.number)
        taker.close()
        port.open_outward()
        assert reaches(ELSEWHERE, port.number)


def test_port_in_use_is_refused_also_after_it_was_opened() -> None:
    with opened("") as port:
        for _ in range(2):
            with zmq.Context() as context, pytest.raises(OSError, match="Address already in use"):
                Port(context, "", port.number)
            port.open_outward()


def test_name_stands_for_its_addresses() -> None:
    assert "127.0.0.1" in listeners.addresses("localhost")
    with pytest.raises(OSError, match=r"."):
        listeners.addresses("no.such.host.invalid")


# --- a whole scheduler -----------------------------------------------------------------------------------------------


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """This process may have so many descriptors open."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < count:
        pytest.skip(f"needs {count} open files, and {limits[1]} are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def slowest_answer_s(scheduler: Scheduler, stop: threading.Event) -> float:
    """How long the slowest of many calls took, one after another until `stop`."""
    slowest = 0.0
    while not stop.wait(0.02):
        began = time.monotonic()
        assert scheduler.get("/version")
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def crowd(port: int, count: int, said: bytes, seconds: float) -> None:
    """Strangers who connect at once, and send as fast as they can what they have to say. Those cut off stay away."""
    with ExitStack() as held, selectors.DefaultSelector() as selector:
        for _ in range(count):
            one = held.enter_context(socket.socket())
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(("127.0.0.1", port))
            selector.register(one, selectors.EVENT_WRITE, memoryview(said))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for key, _ in selector.select(0.05):
                stranger, rest = key.fileobj, key.data
                assert isinstance(stranger, socket.socket)
                try:
                    rest = rest[stranger.send(rest[:MIB]) :] if rest else rest
                except BlockingIOError:
                    continue
                except OSError:
                    rest = rest[:0]
                if rest:
                    selector.modify(stranger, selectors.EVENT_WRITE, rest)
                else:
                    selector.unregister(stranger)


@pytest.mark.parametrize(("count", "command_bytes"), [(150, 8_000_000), (1_000, 8_000_000), (1_000, COMMAND_BYTES)])
def test_memory_of_unfinished_handshakes_is_bounded(tmp_path: Path, count: int, command_bytes: int) -> None:
    """Each stranger sends one long command of a handshake, as fast as it goes."""
    said = GREETING + LONG_COMMAND + command_bytes.to_bytes(8) + bytes(command_bytes)
    with Scheduler(tmp_path, "-db", str(tmp_path / "s.db")) as scheduler, ThreadPoolExecutor(1) as pool:
        assert scheduler.program is not None
        stop = threading.Event()
        slowest_s = pool.submit(slowest_answer_s, scheduler, stop)
        with descriptors(count + 500):
            crowd(scheduler.zmq_port, count, said, 4.0)
        stop.set()
        assert slowest_s.result(DEADLINE_S) < 1.0
        assert peak_bytes(scheduler.program.pid) < 250 * MIB


def test_connections_to_the_workers_port_leave_files_for_rest(tmp_path: Path) -> None:
    argv = ("prlimit", "--nofile=2500:2500", *SCHEDULER)
    with Scheduler(tmp_path, "-db", str(tmp_path / "s.db"), argv=argv) as scheduler, ThreadPoolExecutor(1) as pool:
        assert scheduler.program is not None
        stop = threading.Event()
        slowest_s = pool.submit(slowest_answer_s, scheduler, stop)
        with descriptors(3_500):
            crowd(scheduler.zmq_port, 2_700, b"", 5.0)
        stop.set()
        assert slowest_s.result(DEADLINE_S) < 1.0
        assert "Too many open files" not in scheduler.program.log()


def slowest_turn_s(scheduler: Scheduler, stop: threading.Event) -> float:
    """How long the slowest of many commands took that change nothing, and that a turn of the loop answers."""
    key = {"worker_id": "other", "public_key": new_pair().public}
    slowest = 0.0
    while not stop.wait(0.02):
        began = time.monotonic()
        scheduler.post("/workers/enrol", key)
        slowest = max(slowest, time.monotonic() - began)
    return slowest


@contextmanager
def rogue(scheduler: Scheduler) -> Iterator[Callable[[], zmq.Socket[bytes]]]:
    """A worker with a key, which makes connections."""
    pair = new_pair()
    place = scheduler.post("/workers/enrol", {"worker_id": "rogue", "public_key": pair.public})
    with zmq.Context() as context, ExitStack() as held:

        def connect() -> zmq.Socket[bytes]:
            dealer = held.enter_context(context.socket(zmq.DEALER))
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.setsockopt(zmq.SNDHWM, 50)
            dealer.setsockopt(zmq.CURVE_SERVERKEY, place["server_key"].encode())
            dealer.setsockopt(zmq.CURVE_PUBLICKEY, pair.public.encode())
            dealer.setsockopt(zmq.CURVE_SECRETKEY, pair.secret.encode())
            dealer.connect(place["endpoint"])
            return dealer

        yield connect


@contextmanager
def watched(folder: Path) -> Iterator[Scheduler]:
    """A scheduler whose turns and whose log stay short, and whose memory stays small, whatever is done to it."""
    with Scheduler(folder, "-db", str(folder / "s.db")) as scheduler, ThreadPoolExecutor(1) as pool:
        stop = threading.Event()
        slowest_s = pool.submit(slowest_turn_s, scheduler, stop)
        try:
            yield scheduler
        finally:
            stop.set()
        assert slowest_s.result(DEADLINE_S) < 1.5
        assert scheduler.program is not None
        assert peak_bytes(scheduler.program.pid) < 250 * MIB
        assert len(scheduler.program.log().splitlines()) < 100


def flood(dealers: list[zmq.Socket[bytes]], body: bytes, seconds: float) -> int:
    """Send as fast as it goes; returns how many were sent. Answers are dropped."""
    sent, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for dealer in dealers:
            with suppress(zmq.Again):
                dealer.send(body, zmq.NOBLOCK)
                sent += 1
            with suppress(zmq.Again):
                dealer.recv(zmq.NOBLOCK)
        if not any(int(dealer.get(zmq.EVENTS)) & zmq.POLLOUT for dealer in dealers):
            time.sleep(0.001)
    return sent


def test_memory_of_the_connections_of_one_key_is_bounded(tmp_path: Path) -> None:
    with watched(tmp_path) as scheduler, rogue(scheduler) as connect:
        assert flood([connect() for _ in range(20)], bytes(FRAME_FROM_WORKER_BYTES_MAX - 1_000), 5.0) > 50


@pytest.mark.parametrize("count", [1, RESULTS_PER_FRAME_MAX])
def test_stale_results_leave_few_events_and_lines(tmp_path: Path, count: int) -> None:
    with watched(tmp_path) as scheduler, rogue(scheduler) as connect:
        scheduler.submit(*["true"] * RESULTS_PER_FRAME_MAX)
        dealer = connect()
        dealer.send(protocol.pack(introduction("rogue")))
        answer = heard(dealer)
        assert isinstance(answer, protocol.Registered)
        results = tuple(protocol.RunResult(run, "success", "exit", 1, exit_code=0) for run in range(1, count + 1))
        sent = flood([dealer], protocol.pack(protocol.Result(s=answer.s, results=results)), 5.0)
        assert sent > 50
        until(lambda: scheduler.get("/version") is not None)
        events = scheduler.get("/events?after=0&limit=1000")
        stale = [event for event in events if event.get("reason") == "stale"]
        assert 1 <= len(stale) <= STALE_FRAMES_MAX + 20


@pytest.mark.parametrize("name", ["other", "rogue"])
def test_registers_leave_few_events_and_lines(tmp_path: Path, name: str) -> None:
    """For another's name, and for its own."""
    with watched(tmp_path) as scheduler, rogue(scheduler) as connect:
        assert flood([connect()], protocol.pack(introduction(name)), 4.0) > 5_000
        assert len(scheduler.get("/events?after=0&limit=1000")) < 100


# --- by hand ---------------------------------------------------------------------------------------------------------


def slowest_health_s(scheduler: Scheduler, stop: threading.Event) -> float:
    """How long the slowest of many GET /healthz took, each by a connection of its own."""
    slowest = 0.0
    while not stop.wait(0.02):
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", scheduler.port, timeout=60)
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200
        connection.close()
        slowest = max(slowest, time.monotonic() - began)
    return slowest


def figures(name: str, attack: Callable[[Scheduler], object], argv: tuple[str, ...] = SCHEDULER) -> None:
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        Scheduler(Path(folder), "-db", f"{folder}/s.db", argv=argv) as scheduler,
        ThreadPoolExecutor(2) as pool,
    ):
        assert scheduler.program is not None
        scheduler.submit(*["true"] * RESULTS_PER_FRAME_MAX)
        stop, before = threading.Event(), len(scheduler.program.log())
        health_s, turn_s = (pool.submit(probe, scheduler, stop) for probe in (slowest_health_s, slowest_turn_s))
        attack(scheduler)
        stop.set()
        slowest = f"/healthz {health_s.result():.3f} s, command {turn_s.result():.3f} s"
        peak_mb = peak_bytes(scheduler.program.pid) / 1e6
        print(f"{name}: peak {peak_mb:.0f} MB, slowest {slowest}, {len(scheduler.program.log()) - before} bytes of log")


def attack_by_handshakes(scheduler: Scheduler, count: int, command_bytes: int) -> None:
    with descriptors(count + 500):
        said = GREETING + LONG_COMMAND + command_bytes.to_bytes(8) + bytes(command_bytes)
        crowd(scheduler.zmq_port, count, said, 4.0)


def attack_by_silence(scheduler: Scheduler) -> None:
    with descriptors(3_500):
        crowd(scheduler.zmq_port, 2_700, b"", 10.0)


def attack_by_frames(scheduler: Scheduler) -> None:
    with rogue(scheduler) as connect:
        flood([connect() for _ in range(20)], bytes(FRAME_FROM_WORKER_BYTES_MAX - 1_000), 5.0)


def attack_by_results(scheduler: Scheduler) -> None:
    with rogue(scheduler) as connect:
        dealer = connect()
        dealer.send(protocol.pack(introduction("rogue")))
        answer = heard(dealer)
        assert isinstance(answer, protocol.Registered)
        runs = range(1, RESULTS_PER_FRAME_MAX + 1)
        results = tuple(protocol.RunResult(run, "success", "exit", 1, exit_code=0) for run in runs)
        flood([dealer], protocol.pack(protocol.Result(s=answer.s, results=results)), 5.0)


def attack_by_registers(scheduler: Scheduler) -> None:
    with rogue(scheduler) as connect:
        flood([connect()], protocol.pack(introduction("other")), 4.0)


def attack_by_pipelining(scheduler: Scheduler) -> None:
    """Connections to REST, each with requests sent ahead that are refused."""
    said = b"GET /jobs HTTP/1.1\r\nHost: example.org\r\n\r\n" * 100
    end = time.monotonic() + 15
    with descriptors(1_500):
        while time.monotonic() < end:
            crowd(scheduler.port, 800, said, min(5.0, end - time.monotonic()))


def main() -> None:
    for count, command_bytes in ((150, 8_000_000), (1_000, 8_000_000), (1_000, COMMAND_BYTES)):
        name = f"{count} handshakes of {command_bytes} bytes"
        figures(name, partial(attack_by_handshakes, count=count, command_bytes=command_bytes))
    few = ("prlimit", "--nofile=2500:2500", *SCHEDULER)
    figures("2,700 silent connections, 2,500 descriptors", attack_by_silence, few)
    figures("20 connections of one key, 1 MiB frames", attack_by_frames)
    figures(f"frames of {RESULTS_PER_FRAME_MAX} stale results", attack_by_results)
    figures("registers for another worker's name", attack_by_registers)
    figures("800 connections to REST, requests sent ahead, 15 s", attack_by_pipelining)


if __name__ == "__main__":
    main()
