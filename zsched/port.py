"""The port that workers connect to: a ROUTER socket, and the door in front of it.

CURVE encrypts every connection and proves which key is at its other end; which keys may come in, ZeroMQ asks over an
internal socket (ZAP, ZeroMQ RFC 27), and the loop answers between two turns. Without an answer nobody gets in: a ROUTER
whose domain is enforced takes no peer that ZAP has not let through.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import zmq
from zmq.utils import z85

from zsched.keys import Pair
from zsched.limits import FRAME_BYTES_MAX

log = logging.getLogger(__name__)

# Frames waiting for one worker's connection. Beyond it a send says EAGAIN, and the runs in it go elsewhere.
_FRAMES_QUEUED_MAX: Final = 1_000
# Frames of one peer that have been received and not read yet. Beyond it TCP makes the peer wait. Each may have
# FRAME_BYTES_MAX, so it is what a peer that talks faster than it is listened to can cost.
_FRAMES_RECEIVED_MAX: Final = 16
_LINGER_MS: Final = 500

_ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
_ZAP_DOMAIN: Final = b"zsched"
_ZAP_VERSION: Final = b"1.0"
# A handshake that is not over by then is given up, so that who begins many holds few connections.
_HANDSHAKE_MS: Final = 10_000
_KEY_BYTES: Final = 32
# Questions answered between two turns.
_STRANGERS_MAX: Final = 100
# Who is refused is told of this often: anybody can come again and again.
_TELL_S: Final = 1.0


class Arrived(NamedTuple):
    """A message as it came: the peer's name within this socket, its parts, and its key (empty where none is needed)."""

    peer: bytes
    parts: list[bytes]
    key: str


class Port:
    """Bound from the start until `close`. Only the loop's thread may use it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        host: str,
        port: int,
        pair: Pair | None = None,
        knows: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Bind; port 0 takes any free one. `pair`: the scheduler's own, None to let everybody in; `knows`: whether a
        worker's public key may come in.

        Raises zmq.ZMQError when the port can't be bound.
        """
        self._knows = knows
        self._refused, self._told_s = 0, 0.0
        self._zap = context.socket(zmq.REP) if pair is not None else None
        self._router = context.socket(zmq.ROUTER)
        try:
            if self._zap is not None:
                self._zap.setsockopt(zmq.LINGER, 0)
                self._zap.bind(_ZAP_ENDPOINT)
            self._bind(host, port, pair)
        except zmq.ZMQError:
            self.close()
            raise

    def _bind(self, host: str, port: int, pair: Pair | None) -> None:
        router = self._router
        # Without MANDATORY a frame to a worker that is gone, or slow, vanishes without a word. HANDOVER would let a
        # newcomer with the same routing id silence another: workers set none.
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.ROUTER_HANDOVER, 0)
        router.setsockopt(zmq.MAXMSGSIZE, FRAME_BYTES_MAX)
        router.setsockopt(zmq.SNDHWM, _FRAMES_QUEUED_MAX)
        router.setsockopt(zmq.RCVHWM, _FRAMES_RECEIVED_MAX)
        router.setsockopt(zmq.LINGER, _LINGER_MS)
        router.setsockopt(zmq.BACKLOG, 1_024)
        router.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        router.setsockopt(zmq.IPV6, int(":" in host))
        if pair is not None:
            router.setsockopt(zmq.CURVE_SERVER, 1)
            router.setsockopt(zmq.CURVE_SECRETKEY, pair.secret.encode())
            # Before the bind: without a domain, or where it is not enforced, a missing ZAP handler lets everybody in.
            router.setsockopt(zmq.ZAP_DOMAIN, _ZAP_DOMAIN)
            router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        address = f"[{host}]" if ":" in host else host
        router.bind(f"tcp://{address}:{port or '*'}")

    @property
    def number(self) -> int:
        """The port in use."""
        return int(self._router.getsockopt_string(zmq.LAST_ENDPOINT).rpartition(":")[2])

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """What to poll."""
        return [self._router] if self._zap is None else [self._router, self._zap]

    def receive(self) -> Arrived | None:
        """The next message; None when there is none."""
        # Asked once more than there are messages: the exception alone would cost three times as much.
        if not _holds(self._router):
            return None
        try:
            peer, *parts = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        key = str(parts[-1].get("User-Id")) if self._zap is not None and parts else ""
        return Arrived(peer.bytes, [part.bytes for part in parts], key)

    def send(self, peer: bytes, body: bytes) -> None:
        """Raises zmq.ZMQError when it surely does not leave: no such peer, or too much waits for it already."""
        self._router.send_multipart((peer, body), zmq.NOBLOCK)

    def answer_strangers(self) -> None:
        """Say who of those that want to connect may."""
        zap = self._zap
        for _ in range(_STRANGERS_MAX):
            if zap is None or not _holds(zap):
                return
            zap.send_multipart(self._verdict(zap.recv_multipart()))

    def _verdict(self, asked: list[bytes]) -> list[bytes]:
        """The answer to one question of ZAP: version, id, domain, address, routing id, mechanism, credentials."""
        status, text, user = b"400", b"not known here", b""
        address = "?"
        if len(asked) == 7:
            _, _, domain, told, _, mechanism, credentials = asked
            address = told.decode(errors="replace")
            if domain == _ZAP_DOMAIN and mechanism == b"CURVE" and len(credentials) == _KEY_BYTES:
                key = z85.encode(credentials)
                if self._knows(key.decode()):
                    status, text, user = b"200", b"", key
        if status != b"200":
            self._tell_refused(address)
        return [_ZAP_VERSION, asked[1] if len(asked) > 1 else b"", status, text, user, b""]

    def _tell_refused(self, address: str) -> None:
        self._refused += 1
        now_s = time.monotonic()
        if now_s - self._told_s >= _TELL_S:
            told = "connections to the workers' port refused for a key that is not known: %d, the last from %s"
            log.info(told, self._refused, ascii(address)[1:-1])
            self._refused, self._told_s = 0, now_s

    def close(self) -> None:
        self._router.close()
        if self._zap is not None:
            self._zap.close()


def _holds(source: zmq.Socket[bytes]) -> bool:
    """Whether a message waits there."""
    return bool(int(source.get(zmq.EVENTS)) & zmq.POLLIN)
