"""The port that workers connect to: a ROUTER socket, and the door in front of it.

CURVE encrypts every connection and proves which key is at its other end; which keys may come in, ZeroMQ asks over an
internal socket (ZAP, ZeroMQ RFC 27), and the loop answers between two turns. Without an answer nobody gets in: a ROUTER
whose domain is enforced takes no peer that ZAP has not let through. How many may connect, connections.py bounds.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
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


class Port:
    """Bound from the start until `close`. Only the loop's thread may use it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        host: str,
        port: int,
        pair: Pair | None = None,
        knows: Callable[[str], bool] = lambda _: False,
        *,
        outward: bool = False,
        connections_max: int = WORKER_CONNECTIONS_MAX,
    ) -> None:
        """Bind; port 0 takes any free one. `host` empty: loopback, and all addresses if `outward`, or from the first
        `open_outward` on. `pair`: the scheduler's own, None to let everybody in; `knows`: whether a worker's public key
        may come in.

        Raises OSError when the port can't be bound.
        """
        self._knows = knows
        # Whether other addresses are left out until they are needed.
        self._inward = not host and not outward
        self._refused = Throttled(log, logging.INFO, LINE_INTERVAL_MS)
        self._handshakes = Rate(KEY_HANDSHAKES_MAX, KEY_HANDSHAKE_GAP_MS)
        self._listening = listeners.listen(
            listeners.EVERYWHERE if outward and not host else listeners.addresses(host), port
        )
        self._zap = context.socket(zmq.REP) if pair is not None else None
        self._router = context.socket(zmq.ROUTER)
        self._monitor = ConnectionMonitor(context, self._router, self.number, connections_max, curve=pair is not None)
        try:
            if self._zap is not None:
                self._zap.setsockopt(zmq.LINGER, 0)
                self._zap.bind(_ZAP_ENDPOINT)
            self._set_up(pair)
            self._serve(self._listening)
            self._monitor.listen(self._listening)
        except zmq.ZMQError:
            self.close()
            raise

    def _set_up(self, pair: Pair | None) -> None:
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
        if pair is not None:
            router.setsockopt(zmq.CURVE_SERVER, 1)
            router.setsockopt(zmq.CURVE_SECRETKEY, pair.secret.encode())
            # Before the bind: without a domain, or where it is not enforced, a missing ZAP handler lets everybody in.
            router.setsockopt(zmq.ZAP_DOMAIN, _ZAP_DOMAIN)
            router.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def _serve(self, listening: list[socket.socket]) -> None:
        """Give listening sockets to ZeroMQ, which closes its own descriptor of each."""
        for one in listening:
            self._router.setsockopt(zmq.USE_FD, os.dup(one.fileno()))
            self._router.bind(f"tcp://{listeners.name(one)}")

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
        return ", ".join(f"tcp://{listeners.name(one)}" for one in self._listening)

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """What to poll."""
        return [self._router] if self._zap is None else [self._router, self._zap]

    def receive(self) -> Arrived | None:
        """The next message; None when there is none. Of one with several parts, which costs its sender the connection,
        there are none.
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
        """Say who of those that want to connect may."""
        zap = self._zap
        for _ in range(ZAP_REQUESTS_MAX):
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
                if not self._knows(key.decode()):
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
        for one in self._listening:
            one.close()


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
