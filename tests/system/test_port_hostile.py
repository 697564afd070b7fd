"""What one peer of the workers' port can make the scheduler keep: messages of many parts, and frames unread."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext, suppress

import pytest
import zmq

from tests.system.session import until
from tests.system.test_port import DEADLINE_S, Scene
from zsched.model.limits import MIB, UNREAD_BYTES_MAX, UNSENT_TO_WORKER_BYTES_MAX
from zsched.scheduler.port import Port

# ZMTP 3.1 of a client without a mechanism: the greeting, and the command by which a DEALER is ready.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY" + b"\x0bSocket-Type" + (6).to_bytes(4) + b"DEALER"
MORE, LONG = 1, 2
# A stranger pauses for this long between two MiB, so that what it sends depends on the looks and not on the machine.
PAUSE_S = 0.005


@pytest.fixture
def scene() -> Iterator[Scene]:
    with closing(Scene()) as opened:
        yield opened


def part(size: int) -> bytes:
    """A part of a message that another one follows."""
    head = bytes((MORE | LONG,)) + size.to_bytes(8) if size > 255 else bytes((MORE, size))
    return head + bytes(size)


@pytest.mark.parametrize("piece", [part(MIB), part(0) * (MIB // 2)], ids=["large parts", "empty parts"])
def test_message_that_never_ends_costs_the_connection(piece: bytes) -> None:
    most, sent = 200 * MIB, 0
    deadline = time.monotonic() + DEADLINE_S
    with (
        zmq.Context() as context,
        closing(Port(context, "127.0.0.1", 0)) as port,
        socket.create_connection(("127.0.0.1", port.number), timeout=DEADLINE_S) as peer,
        suppress(OSError),
    ):
        peer.settimeout(PAUSE_S)
        peer.sendall(GREETING + b"\x04" + bytes((len(READY),)) + READY)
        answer = b""
        # ZeroMQ ends a connection that sends a message before the handshake is over.
        while b"READY" not in answer and time.monotonic() < deadline:
            with suppress(TimeoutError):
                answer += peer.recv(4_096)
            assert port.receive() is None
        rest = memoryview(piece)
        while sent < most and time.monotonic() < deadline:
            with suppress(TimeoutError):
                count = peer.send(rest)
                sent += count
                rest = rest[count:] or memoryview(piece)
            with suppress(TimeoutError):
                if not peer.recv(4_096):
                    break
            assert port.receive() is None
    assert time.monotonic() < deadline
    assert UNREAD_BYTES_MAX < sent < most // 2


def test_message_of_several_parts_costs_the_connection(scene: Scene) -> None:
    bystander = scene.caller(scene.curve(scene.worker))
    assert scene.arrives() is not None
    dealer = scene.caller(scene.curve(scene.worker))
    first = scene.arrives()
    assert first is not None
    with closing(dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)) as cut:
        dealer.send_multipart([b"x" * 1_000] * 1_000)
        garbage = scene.arrives()
        assert garbage == (first.peer, [], scene.worker.public)
        assert cut.poll(int(DEADLINE_S * 1_000))
        dealer.disable_monitor()
    bystander.send(b"and on")
    arrived = scene.arrives()
    while arrived is not None and arrived.parts != [b"and on"]:
        arrived = scene.arrives()
    assert arrived is not None


def test_worker_that_sends_whole_frames_stays_however_many(scene: Scene) -> None:
    """Also when the loop reads nothing for a while: TCP makes the worker wait."""
    frame, count = bytes(MIB - 1_000), 20
    dealer = scene.caller(scene.curve(scene.worker))
    assert scene.arrives() is not None
    with closing(dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)) as cut:
        for _ in range(count):
            dealer.send(frame)
        assert not cut.poll(500)
        for _ in range(count):
            arrived = scene.arrives()
            assert arrived is not None
            assert arrived.parts == [frame]
        assert not cut.poll(0)
        dealer.disable_monitor()


def test_frames_that_wait_for_a_worker_are_bounded_by_their_bytes(scene: Scene) -> None:
    frame, most, sent = bytes(MIB), 200, 0
    dealer = scene.context.socket(zmq.DEALER)
    dealer.setsockopt(zmq.RCVHWM, 1)
    scene.curve(scene.worker)(dealer)
    dealer.connect(f"tcp://127.0.0.1:{scene.port.number}")
    with closing(dealer):
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.send(b"hello")
        first = scene.arrives()
        assert first is not None

        def fill() -> int:
            count = 0
            with suppress(zmq.Again):
                while count < most:
                    scene.port.send(first.peer, frame)
                    count += 1
            return count

        sent = fill()
        # The kernel of the other end takes some.
        assert UNSENT_TO_WORKER_BYTES_MAX // MIB <= sent < most // 2
        for _ in range(sent):
            assert dealer.poll(int(DEADLINE_S * 1_000))
            assert dealer.recv() == frame
        # It reads again, so it gets frames again, as soon as its kernel has said so.
        deadline = time.monotonic() + DEADLINE_S
        while fill() == 0:
            assert time.monotonic() < deadline


@pytest.mark.parametrize("encrypted", [True, False])
def test_bytes_sent_are_counted_as_they_are_on_the_wire(scene: Scene, encrypted: bool) -> None:
    """Else a connection that lives for months would be taken for one that reads nothing."""
    sizes = [0, 1, 221, 222, 223, 254, 255, 256, 257, 8_000, 70_000] * 50
    port = scene.port if encrypted else Port(scene.context, "127.0.0.1", 0)
    dealer = scene.context.socket(zmq.DEALER)
    if encrypted:
        scene.curve(scene.worker)(dealer)
    dealer.connect(f"tcp://127.0.0.1:{port.number}")
    with closing(dealer), nullcontext() if encrypted else closing(port):
        # The monitor's thread may hear of the connection after the loop has its first frame. The next one counts then.
        for _ in range(2):
            dealer.send(b"hello")
            arrived = scene.arrives() if encrypted else port.receive() if port.sockets[0].poll(10_000) else None
            assert arrived is not None
            peer = arrived.peer
            until(lambda: len(port._monitor._limits.all()) == 1)
        (connection,) = port._monitor._limits.all()
        handshake = port._monitor._sockets.traffic(connection)
        assert handshake is not None
        for size in sizes:
            port.send(peer, bytes(size))
            assert dealer.poll(int(DEADLINE_S * 1_000))
            assert len(dealer.recv()) == size
        deadline = time.monotonic() + DEADLINE_S
        while True:
            with port._monitor._lock:
                traffic = port._monitor._sockets.traffic(connection)
            assert traffic is not None
            owed = connection.sent_bytes - traffic.taken_bytes
            if abs(owed) <= handshake.taken_bytes:
                break
            assert time.monotonic() < deadline, owed
