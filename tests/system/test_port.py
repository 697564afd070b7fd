"""The workers' port on real sockets: who gets a frame in, and that nobody does when its doorkeeper fails."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import zmq
from zmq.utils import z85

from zsched.scheduler import port as port_module
from zsched.scheduler.port import Arrived, Keys, Port
from zsched.security.keys import Pair, new_pair

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

DEADLINE_S = 10.0
# How long nothing must come to be believed refused: a handshake on loopback takes some milliseconds.
SILENCE_S = 0.5

Socket = zmq.Socket[bytes]
Options = Callable[[Socket], None]


class Scene:
    """A port with a key, one worker's key that it knows, and callers of all kinds."""

    def __init__(self) -> None:
        self.context: zmq.Context[Socket] = zmq.Context()
        self.server, self.worker = new_pair(), new_pair()
        self.known = {self.worker.public}
        self._callers: list[Socket] = []
        self.port = Port(self.context, "127.0.0.1", 0, Keys(self.server, lambda key: key in self.known))
        self.answer: Callable[[], None] = self.port.answer_strangers

    def close(self) -> None:
        self.port.close()
        for caller in self._callers:
            caller.close(linger=0)
        self.context.term()

    def caller(self, options: Options) -> Socket:
        """A DEALER that has sent a frame, as far as it could."""
        dealer = self.context.socket(zmq.DEALER)
        self._callers.append(dealer)
        options(dealer)
        dealer.connect(f"tcp://127.0.0.1:{self.port.number}")
        dealer.send(b"hello")
        return dealer

    def curve(self, pair: Pair, server_key: str | None = None) -> Options:
        def options(dealer: Socket) -> None:
            dealer.setsockopt(zmq.CURVE_SERVERKEY, (server_key or self.server.public).encode())
            dealer.setsockopt(zmq.CURVE_PUBLICKEY, pair.public.encode())
            dealer.setsockopt(zmq.CURVE_SECRETKEY, pair.secret.encode())

        return options

    def arrives(self, within_s: float = DEADLINE_S) -> Arrived | None:
        """Serve the port; the first frame that comes, None when none does."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            for one in self.port.sockets:
                if not one.closed:
                    one.poll(5)
            self.answer()
            arrived = self.port.receive()
            if arrived is not None:
                return arrived
        return None


@pytest.fixture
def scene() -> Iterator[Scene]:
    with closing(Scene()) as opened:
        yield opened


def null(_: Socket) -> None:
    """As a client of a time before keys."""


def plain(dealer: Socket) -> None:
    dealer.setsockopt(zmq.PLAIN_USERNAME, b"admin")
    dealer.setsockopt(zmq.PLAIN_PASSWORD, b"admin")


def server_too(dealer: Socket) -> None:
    dealer.setsockopt(zmq.CURVE_SERVER, 1)
    dealer.setsockopt(zmq.CURVE_SECRETKEY, new_pair().secret.encode())


def test_a_known_key_comes_in_and_every_frame_says_which_it_is(scene: Scene) -> None:
    dealer = scene.caller(scene.curve(scene.worker))
    first = scene.arrives()
    assert first is not None
    assert (first.parts, first.key) == ([b"hello"], scene.worker.public)
    dealer.send(b"again")
    second = scene.arrives()
    assert second is not None
    assert (second.parts, second.key, second.peer) == ([b"again"], scene.worker.public, first.peer)
    scene.port.send(second.peer, b"answer")
    assert dealer.poll(int(DEADLINE_S * 1000))
    assert dealer.recv() == b"answer"


@pytest.mark.parametrize("kind", ["null", "plain", "curve server", "unknown key", "wrong server key", "no worker's"])
def test_nothing_of_a_stranger_comes_in(scene: Scene, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    kinds: dict[str, Options] = {
        "null": null,
        "plain": plain,
        "curve server": server_too,
        "unknown key": scene.curve(new_pair()),
        "wrong server key": scene.curve(scene.worker, new_pair().public),
        # The scheduler's own key is no worker's.
        "no worker's": scene.curve(scene.server),
    }
    refused = "a connection to the workers' port was refused for a key that is not known; from 127.0.0.1"
    is_refused = kind in ("unknown key", "no worker's")
    end = time.monotonic() + DEADLINE_S
    with caplog.at_level("INFO"):
        scene.caller(kinds[kind])
        assert scene.arrives(SILENCE_S) is None
        while is_refused and refused not in caplog.text and time.monotonic() < end:
            assert scene.arrives(SILENCE_S) is None
    assert (refused in caplog.text) == is_refused
    assert scene.server.secret not in caplog.text
    # And who is known comes in beside it.
    scene.caller(scene.curve(scene.worker))
    arrived = scene.arrives()
    assert arrived is not None
    assert arrived.key == scene.worker.public


def test_a_key_that_is_forgotten_gets_no_new_connection(scene: Scene) -> None:
    scene.caller(scene.curve(scene.worker))
    assert scene.arrives() is not None
    scene.known.clear()
    scene.caller(scene.curve(scene.worker))
    assert scene.arrives(SILENCE_S) is None


def test_a_public_key_alone_is_worth_nothing(scene: Scene) -> None:
    """Everybody may know it."""
    scene.caller(scene.curve(Pair(scene.worker.public, new_pair().secret)))
    assert scene.arrives(SILENCE_S) is None


# --- a doorkeeper that fails -----------------------------------------------------------------------------------------


def test_port_without_a_zap_handler_admits_no_peer(scene: Scene) -> None:
    """As if it had never been bound."""
    assert scene.port._zap is not None
    # A mere close leaves its name known for a while, and whoever asks by it gets no answer.
    scene.port._zap.unbind(port_module._ZAP_ENDPOINT)
    scene.port._zap.close()
    for options in (null, scene.curve(scene.worker), scene.curve(new_pair())):
        scene.caller(options)
    assert not scene.port.sockets[0].poll(int(SILENCE_S * 1_000))


def test_port_admits_no_peer_while_its_zap_handler_is_silent(scene: Scene) -> None:
    scene.answer = lambda: None
    for options in (null, scene.curve(scene.worker), scene.curve(new_pair())):
        scene.caller(options)
    assert scene.arrives(SILENCE_S) is None
    scene.answer = scene.port.answer_strangers
    arrived = scene.arrives()
    assert arrived is not None
    assert arrived.key == scene.worker.public


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda parts: [b""], id="nothing"),
        pytest.param(lambda parts: [b"\xff" * 1_000] * 6, id="nonsense"),
        pytest.param(lambda parts: parts[:3], id="half of it"),
        pytest.param(lambda parts: [*parts, b""], id="more than it"),
        pytest.param(lambda parts: [b"9.9", *parts[1:]], id="another version"),
        pytest.param(lambda parts: [parts[0], b"other", *parts[2:]], id="another question"),
        pytest.param(lambda parts: [*parts[:2], b"", *parts[3:]], id="no status"),
        pytest.param(lambda parts: [*parts[:2], b"2000", *parts[3:]], id="a long status"),
        pytest.param(lambda parts: [*parts[:2], b"100", *parts[3:]], id="a status that is none"),
        pytest.param(lambda parts: [*parts[:2], b"300", *parts[3:]], id="later"),
        pytest.param(lambda parts: [*parts[:2], b"500", *parts[3:]], id="failed"),
        pytest.param(lambda parts: [*parts[:5], b"\x05abc"], id="bad metadata"),
    ],
)
def test_zap_handler_that_answers_nonsense_admits_no_peer(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    verdict = scene.port._verdict
    monkeypatch.setattr(scene.port, "_verdict", lambda asked: change(verdict(asked)))
    scene.caller(scene.curve(scene.worker))
    assert scene.arrives(SILENCE_S) is None


def question(scene: Scene, **changed: bytes) -> list[bytes]:
    """What ZeroMQ asks of a worker's key that is known."""
    plain = {
        "version": b"1.0",
        "id": b"1",
        "domain": b"zsched",
        "address": b"192.0.2.7",
        "routing": b"",
        "mechanism": b"CURVE",
        "credentials": z85.decode(scene.worker.public),
    }
    return list((plain | changed).values())


def test_the_doorkeeper_says_yes_to_what_is_known_alone(scene: Scene) -> None:
    def status(asked: list[bytes]) -> bytes:
        version, _, status, _, user, metadata = scene.port._verdict(asked)
        assert (version, metadata) == (b"1.0", b"")
        assert user == (scene.worker.public.encode() if status == b"200" else b"")
        return status

    good = question(scene)
    assert status(good) == b"200"
    assert scene.port._verdict(good)[1] == b"1"
    for changed in (
        {"domain": b""},
        {"domain": b"global"},
        {"mechanism": b"NULL"},
        {"mechanism": b"PLAIN"},
        {"mechanism": b"curve"},
        {"credentials": b""},
        {"credentials": bytes(32)},
        {"credentials": z85.decode(scene.worker.public)[:-1]},
        {"credentials": z85.decode(scene.worker.public) + b"\0"},
        {"credentials": scene.worker.public.encode()},
    ):
        assert status(question(scene, **changed)) == b"400", changed
    for odd in ([], [b""], good[:-1], [*good, b""], [*good[:-1], b"admin", b"admin"]):
        assert status(odd) == b"400"
    assert status(question(scene, address=b"\xff\n\x1b[2J")) == b"200"


def test_peer_that_connects_again_and_again_fills_no_log(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        for _ in range(1_000):
            scene.port._verdict(question(scene, credentials=bytes(32), address=b"\n\x1b[2J\xff"))
    assert 1 <= len(caplog.records) <= 3
    assert "\n" not in caplog.records[0].getMessage()
    assert "\x1b" not in caplog.records[0].getMessage()


def test_unfinished_handshake_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_module, "HANDSHAKE_MS", 200)
    with (
        closing(Scene()) as scene,
        socket.create_connection(("127.0.0.1", scene.port.number), timeout=DEADLINE_S) as stranger,
    ):
        began = time.monotonic()
        # The greeting of ZMTP, and then the end of the connection.
        while stranger.recv(64):
            pass
        assert time.monotonic() - began < 3


# --- where no keys are needed ----------------------------------------------------------------------------------------


def test_a_port_without_a_key_takes_everybody_and_believes_no_key() -> None:
    with zmq.Context() as context, closing(Port(context, "127.0.0.1", 0)) as port, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(f"tcp://127.0.0.1:{port.number}")
        dealer.send(b"hello")
        assert port.sockets[0].poll(int(DEADLINE_S * 1000))
        arrived = port.receive()
        assert arrived is not None
        assert (arrived.parts, arrived.key) == ([b"hello"], "")


def test_peer_of_an_early_zmtp_is_heard_and_harms_nothing() -> None:
    """ZMTP 1.0: a frame is a length, flags and a body; the first names the peer. libzmq keeps no descriptor of it."""
    with zmq.Context() as context, closing(Port(context, "127.0.0.1", 0)) as port:
        with socket.create_connection(("127.0.0.1", port.number), timeout=DEADLINE_S) as peer:
            peer.sendall(b"\x01\x00" + b"\x06\x00hello")
            assert port.sockets[0].poll(int(DEADLINE_S * 1000))
            arrived = port.receive()
        assert arrived is not None
        assert (arrived.parts, arrived.key) == ([b"hello"], "")
