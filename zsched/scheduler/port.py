"""The workers' port: a ROUTER socket with CURVE, and the answers to its ZAP requests.

CURVE encrypts every connection and proves which key is at its other end. ZeroMQ asks over an internal socket whether a
key may connect (ZAP, ZeroMQ RFC 27), and the loop answers between two turns. Without an answer no peer is let in,
because the ZAP domain is enforced. connections.py bounds the number of connections.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import zmq
from zmq.utils import z85

from zsched.model.limits import (
    FRAME_FROM_WORKER_BYTES_MAX,
    HANDSHAKE_MS,
    KEY_HANDSHAKE_GAP_MS,
    KEY_HANDSHAKES_MAX,
    LINE_INTERVAL_MS,
    QUEUED_FRAMES_MAX,
    UNREAD_FRAMES_MAX,
    WORKER_CONNECTIONS_MAX,
    ZAP_REQUESTS_MAX,
)
from zsched.model.rate import Rate, Throttled
from zsched.scheduler import listeners
from zsched.scheduler.connections import ConnectionMonitor
from zsched.security.keys import Pair
from zsched.store.contract import Store, StoreError

log = logging.getLogger(__name__)

_LINGER_MS: Final = 500

_ZAP_ENDPOINT: Final = "inproc://zeromq.zap.01"
_ZAP_DOMAIN: Final = b"zsched"
_ZAP_VERSION: Final = b"1.0"
_KEY_BYTES: Final = 32


class Arrived(NamedTuple):
    """A message as it came: the peer's name within this socket, its parts, and its key (empty where none is needed)."""

    peer: bytes
    parts: list[bytes]
    key: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The scheduler's own key pair, and whether a worker's public key may connect."""

    pair: Pair
    knows: Callable[[str], bool]


def is_admitted(store: Store, key: str) -> bool:
    """Whether a worker with this public key may connect: it is known, and was not revoked."""
    try:
        known = store.access.key(key)
    except StoreError:
        return False
    return known is not None and known.revoked_ms is None


class Port:
    """Bound from the start until `close`. Only the loop's thread may use it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        host: str,
        port: int,
        keys: Keys | None = None,
        *,
        outward: bool = False,
        connections_max: int = WORKER_CONNECTIONS_MAX,
    ) -> None:
        """Bind; port 0 takes any free one. `host` empty: loopback, and all addresses if `outward`, or from the first
        `open_outward` on. `keys` None: connections are not encrypted, and any worker may connect.

        Raises OSError when the port can't be bound.
        """
        self._keys = keys
        # Whether other addresses are left out until they are needed.
        self._inward = not host and not outward
        self._refused = Throttled(log, logging.INFO, LINE_INTERVAL_MS)
        self._handshakes = Rate(KEY_HANDSHAKES_MAX, KEY_HANDSHAKE_GAP_MS)
        self._listening = listeners.listen(
            listeners.EVERYWHERE if outward and not host else listeners.addresses(host), port
        )
        self._zap = context.socket(zmq.REP) if keys is not None else None
        self._router = context.socket(zmq.ROUTER)
        self._monitor = ConnectionMonitor(context, self._router, self.number, connections_max, curve=keys is not None)
        try:
            if self._zap is not None:
                self._zap.setsockopt(zmq.LINGER, 0)
                self._zap.bind(_ZAP_ENDPOINT)
            self._set_up(keys)
            self._serve(self._listening)
            self._monitor.listen(self._listening)
        except zmq.ZMQError:
            self.close()
            raise

    def _set_up(self, keys: Keys | None) -> None:
        router = self._router
        # Without MANDATORY a frame to a worker that is gone, or slow, vanishes without a word. HANDOVER would let a
        # newcomer with the same routing id silence another: workers set none.
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.ROUTER_HANDOVER, 0)
        router.setsockopt(zmq.MAXMSGSIZE, FRAME_FROM_WORKER_BYTES_MAX)
        router.setsockopt(zmq.SNDHWM, QUEUED_FRAMES_MAX)
        router.setsockopt(zmq.RCVHWM, UNREAD_FRAMES_MAX)
        router.setsockopt(zmq.LINGER, _LINGER_MS)
        router.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        router.setsockopt(zmq.IPV6, 1)
        if keys is not None:
            router.setsockopt(zmq.CURVE_SERVER, 1)
            router.setsockopt(zmq.CURVE_SECRETKEY, keys.pair.secret.encode())
            # Before the bind: without an enforced domain, a missing ZAP handler lets every peer in.
            router.setsockopt(zmq.ZAP_DOMAIN, _ZAP_DOMAIN)
            router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def _serve(self, listening: list[socket.socket]) -> None:
        """Give listening sockets to ZeroMQ, which closes its own descriptor of each."""
        for listener in listening:
            self._router.setsockopt(zmq.USE_FD, os.dup(listener.fileno()))
            self._router.bind(f"tcp://{listeners.name(listener)}")

    def open_outward(self) -> None:
        """Listen on the addresses that other hosts reach, unless that is done or the settings name an address.

        Raises OSError when another program has the port there; loopback goes on then.
        """
        if not self._inward:
            return
        opened = listeners.listen(listeners.EVERYWHERE, self.number, self._listening)
        self._serve(opened)
        self._listening += opened
        self._monitor.listen(self._listening)
        self._inward = False
        log.info("the workers' port is open to other hosts: %s", self.where)

    @property
    def number(self) -> int:
        """The port in use."""
        return int(self._listening[0].getsockname()[1])

    @property
    def where(self) -> str:
        """The addresses in use, for people."""
        return ", ".join(f"tcp://{listeners.name(listener)}" for listener in self._listening)

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """What to poll."""
        return [self._router] if self._zap is None else [self._router, self._zap]

    def receive(self) -> Arrived | None:
        """The next message, or None. A message of several parts costs its sender the connection and is returned
        without any part.
        """
        # Asked once more than there are messages: the exception alone would cost three times as much.
        if not _holds(self._router):
            return None
        try:
            peer = self._router.recv(zmq.NOBLOCK)
        except zmq.Again:
            return None
        # The parts of a message come together: a ROUTER puts the peer's name before those of each.
        part = self._router.recv(zmq.NOBLOCK, copy=False)
        key = str(part.get("User-Id")) if self._zap is not None else ""
        descriptor = _descriptor(part)
        self._monitor.on_frame(descriptor, key, peer)
        if not part.more:
            return Arrived(peer, [part.bytes], key)
        self._monitor.on_parts(descriptor, peer)
        while self._router.get(zmq.RCVMORE):
            self._router.recv(zmq.NOBLOCK, copy=False)
        return Arrived(peer, [], key)

    def send(self, peer: bytes, body: bytes) -> None:
        """Raises zmq.ZMQError when it surely does not leave: no such peer, or too much waits for it already."""
        if not self._monitor.may_send(peer):
            raise zmq.Again
        self._router.send_multipart((peer, body), zmq.NOBLOCK)
        self._monitor.on_sent(peer, len(body))

    def answer_strangers(self) -> None:
        """Answer ZAP requests: whether a key may connect."""
        zap = self._zap
        for _ in range(ZAP_REQUESTS_MAX):
            if zap is None or not _holds(zap):
                return
            zap.send_multipart(self._verdict(zap.recv_multipart()))

    def _verdict(self, asked: list[bytes]) -> list[bytes]:
        """The answer to a ZAP request: version, id, domain, address, routing id, mechanism, credentials."""
        status, text, user = b"400", b"not known here", b""
        address = "?"
        if len(asked) == 7:
            _, _, domain, source, _, mechanism, credentials = asked
            address = source.decode(errors="replace")
            if domain == _ZAP_DOMAIN and mechanism == b"CURVE" and len(credentials) == _KEY_BYTES:
                key = z85.encode(credentials)
                if self._keys is None or not self._keys.knows(key.decode()):
                    self._refuse("for a key that is not known", address)
                elif not self._handshakes.take(key.decode(), _mono_ms()):
                    self._refuse("for too many of one worker in a short time", address)
                    text = b"too many connections of this key"
                else:
                    status, text, user = b"200", b"", key
        return [_ZAP_VERSION, asked[1] if len(asked) > 1 else b"", status, text, user, b""]

    def _refuse(self, why: str, address: str) -> None:
        line = "a connection to the workers' port was refused %s; from %s"
        self._refused.write(_mono_ms(), line, why, ascii(address)[1:-1])

    def close(self) -> None:
        self._monitor.close()
        self._router.close()
        if self._zap is not None:
            self._zap.close()
        for listener in self._listening:
            listener.close()


def _mono_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _holds(source: zmq.Socket[bytes]) -> bool:
    """Whether a message waits there."""
    return bool(int(source.get(zmq.EVENTS)) & zmq.POLLIN)


def _descriptor(part: zmq.Frame) -> int:
    """The descriptor of the connection that a part came by, -1 when ZeroMQ does not say.

    It does not for peers of an early version of ZMTP. That has no mechanism, so they come in only where no keys are
    needed.
    """
    try:
        return int(part.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1
