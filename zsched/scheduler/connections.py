"""The bounds of connections to the workers' port. ZeroMQ has none, and keeps up to FRAME_FROM_WORKER_BYTES_MAX of
what a stranger sends before its handshake is over.

ZeroMQ's socket monitor names the descriptor of each connection that comes or goes. A thread of its own follows it, so
that the bounds hold while a turn of the loop is long, and ends excess connections by shutdown(2). ZeroMQ then sees the
end of the stream and closes the descriptor. The monitor does not say which connection has finished its handshake, nor
by which key. So a connection counts as **heard** when the loop has read its first frame, which carries the descriptor
and the key. Until then it counts as unheard; workers send their first frame at once.

The thread also looks at the bytes that each connection has brought (TCP_INFO). ZeroMQ keeps the parts of a message
until the last one has come, and bounds neither their number nor their sum. What was sent to a worker and not taken is
counted the same way: ZeroMQ's own bound counts frames.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import struct
import termios
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import SystemRandom
from typing import Final

import zmq

from zsched.model.limits import (
    LINE_INTERVAL_MS,
    TRAFFIC_LOOK_MS,
    UNSENT_TO_WORKER_BYTES_MAX,
    WORKER_CONNECTIONS_MAX,
)
from zsched.model.rate import Throttled
from zsched.scheduler import listeners
from zsched.scheduler.connection_limits import Connection, Identity, Limits, Traffic
from zsched.security.peer import home

log = logging.getLogger(__name__)

EVENTS: Final = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_MONITOR_STOPPED

# asm-generic/socket.h: a number that the kernel gives to one socket alone, for as long as it is up.
_SO_COOKIE: Final = 57
# linux/tcp.h, struct tcp_info, since Linux 4.1: tcpi_bytes_acked and then tcpi_bytes_received, 64 bits each, come after
# 8 bytes, 24 numbers of 32 bits and two of 64.
_TCP_INFO: Final = struct.Struct("=QQ")
_TCP_INFO_AT: Final = 8 + 24 * 4 + 2 * 8
_TCP_INFO_BYTES: Final = _TCP_INFO_AT + _TCP_INFO.size
_INT: Final = struct.Struct("=i")
# ZMTP 3.1: the head of a short frame on the wire, up to so long, and of a longer one; and what CURVE adds (its name,
# nonce, tag and flags).
_SHORT_HEAD_BYTES: Final = 2
_SHORT_FRAME_BYTES: Final = 255
_HEAD_BYTES: Final = 9
_CURVE_BYTES: Final = 33
# The thread spends at most a twentieth of its time on looks.
_LOOK_PART: Final = 20
# libzmq's event: a 16-bit number and a 32-bit value, which is a descriptor in those of EVENTS.
_EVENT: Final = struct.Struct("=Hi")


class Sockets:
    """Looks at connections that belong to ZeroMQ, and ends them, without touching any other.

    ZeroMQ may close a descriptor at any moment, and the process may at once open something else under that number, a
    connection of REST for example. So nothing is done to the number itself: dup2(2) makes a descriptor of ours refer to
    what it refers to at that moment, and only that is looked at and ended. It counts as a connection of this port when
    its local port is ours, and it is ended only if its cookie is the one noted when it was accepted. Our descriptor is
    opened once and used again each time, so this also works when the process has none left.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._ours = os.dup(self._nothing)

    def identify(self, descriptor: int) -> Identity | None:
        """The connection to our port behind a descriptor; None when it is another one, or gone."""
        with suppress(OSError), self._held(descriptor) as held:
            if held.getsockname()[1] == self._port:
                address = str(held.getpeername()[0])
                return Identity(_cookie(held), address, home(address))
        return None

    def traffic(self, connection: Connection) -> Traffic | None:
        """What has come and gone by a connection; None when it is gone."""
        with suppress(OSError), self._held(connection.descriptor) as held:
            if _cookie(held) == connection.identity.cookie:
                unread = _INT.unpack(fcntl.ioctl(held, termios.FIONREAD, bytes(_INT.size)))[0]
                info = held.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
                taken, received = _TCP_INFO.unpack_from(info, _TCP_INFO_AT)
                return Traffic(received - unread, taken)
        return None

    def end(self, connection: Connection) -> None:
        """Shut a connection down, if it is still there."""
        with suppress(OSError), self._held(connection.descriptor) as held:
            if _cookie(held) == connection.identity.cookie:
                held.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _held(self, descriptor: int) -> Iterator[socket.socket]:
        """What a descriptor refers to. Raises OSError when that is not a socket."""
        os.dup2(descriptor, self._ours, inheritable=False)
        try:
            held = socket.socket(fileno=self._ours)
            try:
                yield held
            finally:
                held.detach()
        finally:
            # As long as ours refers to a connection, that stays open after ZeroMQ has closed it.
            os.dup2(self._nothing, self._ours, inheritable=False)

    def close(self) -> None:
        os.close(self._ours)
        os.close(self._nothing)


def _cookie(connection: socket.socket) -> bytes:
    return connection.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8)


class ConnectionMonitor:
    """Follows the connections of a ROUTER in a thread of its own, from `start` until `close`."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        router: zmq.Socket[bytes],
        port: int,
        connections_max: int = WORKER_CONNECTIONS_MAX,
        *,
        curve: bool = True,
    ) -> None:
        """`port`: the number of the router's port. `curve`: connections are encrypted. No connection may have been
        accepted yet.
        """
        self._curve_bytes = _CURVE_BYTES if curve else 0
        self._router = router
        self._sockets = Sockets(port)
        self._limits = Limits(connections_max, SystemRandom())
        self._lock = threading.Lock()
        self._line = Throttled(log, logging.WARNING, LINE_INTERVAL_MS)
        self._bug_line = Throttled(log, logging.ERROR, LINE_INTERVAL_MS)
        self._full_line = Throttled(log, logging.WARNING, LINE_INTERVAL_MS)
        self._listening: list[socket.socket] = []
        self._holding = False
        endpoint = f"inproc://zsched.scheduler.connections.{id(router)}"
        router.monitor(endpoint, EVENTS)
        self._events = context.socket(zmq.PAIR)
        self._events.connect(endpoint)
        self._look_at_s = time.monotonic() + TRAFFIC_LOOK_MS / 1_000
        self._thread = threading.Thread(target=self._follow, name="connections", daemon=True)
        self._thread.start()

    def listen(self, listening: list[socket.socket]) -> None:
        """These are the port's listening sockets from now on."""
        with self._lock:
            self._listening = listening
            self._holding = False
            self._hold()

    def on_frame(self, descriptor: int, key: str, peer: bytes) -> None:
        """A frame was read. Called by the loop for each."""
        connection = self._limits.get(descriptor)
        if connection is None:
            return
        connection.frames += 1
        if connection.key is None:
            with self._lock:
                self._end(self._limits.on_heard(descriptor, key, peer), "there are too many of one key")
                self._hold()

    def on_parts(self, descriptor: int, peer: bytes) -> None:
        """A message of several parts was read, which no worker sends. Called by the loop."""
        with self._lock:
            connection = self._limits.of_peer(peer)
            # The loop may be quicker than the event by which the other thread learns of a connection.
            if connection is None and (identity := self._sockets.identify(descriptor)) is not None:
                connection = Connection(descriptor, identity)
            if connection is not None:
                self._limits.on_closed(connection.descriptor)
                self._end([connection], "it sent a message of several parts")

    def may_send(self, peer: bytes) -> bool:
        """Whether fewer than UNSENT_TO_WORKER_BYTES_MAX wait for a peer. Called by the loop before each frame."""
        connection = self._limits.of_peer(peer)
        if connection is None:
            return True
        if connection.sent_bytes - connection.taken_bytes > UNSENT_TO_WORKER_BYTES_MAX:
            with self._lock:
                traffic = self._sockets.traffic(connection)
            if traffic is not None:
                connection.taken_bytes = traffic.taken_bytes
        return connection.sent_bytes - connection.taken_bytes <= UNSENT_TO_WORKER_BYTES_MAX

    def on_sent(self, peer: bytes, size: int) -> None:
        """A frame of that size was sent. Called by the loop for each."""
        connection = self._limits.of_peer(peer)
        if connection is not None:
            size += self._curve_bytes
            size += _SHORT_HEAD_BYTES if size <= _SHORT_FRAME_BYTES else _HEAD_BYTES
            # The other end has taken more than is counted: the handshake, and commands of ZeroMQ.
            connection.sent_bytes = max(connection.sent_bytes, connection.taken_bytes) + size

    def _follow(self) -> None:
        while True:
            self._look()
            wait_ms = max(0, int(1_000 * (self._look_at_s - time.monotonic())) + 1)
            if not self._events.poll(wait_ms if len(self._limits) else None):
                continue
            event, descriptor = _EVENT.unpack(self._events.recv_multipart()[0])
            if event == zmq.EVENT_MONITOR_STOPPED:
                return
            with self._lock, self._logged():
                self._on_event(event, descriptor)
                self._hold()

    def _look(self) -> None:
        """Cut connections that have brought too much unread, when it is time to look."""
        began = time.monotonic()
        if began < self._look_at_s:
            return
        with self._lock:
            connections = self._limits.all()
        for connection in connections:
            # One by one: the loop waits for the lock when a connection is new.
            with self._lock, self._logged():
                traffic = self._sockets.traffic(connection)
                if traffic is None:
                    # Its event comes, or was lost; newcomers must not wait for a place that is free.
                    self._limits.on_gone(connection)
                    self._hold()
                elif self._limits.on_traffic(connection, traffic):
                    self._end([connection], "it sent too much without a whole message")
        now = time.monotonic()
        self._look_at_s = now + max(TRAFFIC_LOOK_MS / 1_000, _LOOK_PART * (now - began))

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """Log an exception, our own bug, about one connection: the thread goes on to bound the others."""
        try:
            yield
        except Exception:
            now_ms, trace = time.monotonic_ns() // 1_000_000, traceback.format_exc()
            self._bug_line.write(now_ms, "a connection to the workers' port could not be checked: %s", trace)

    def _on_event(self, event: int, descriptor: int) -> None:
        if event == zmq.EVENT_DISCONNECTED:
            self._limits.on_closed(descriptor)
            return
        identity = self._sockets.identify(descriptor)
        if identity is not None:
            self._end(self._limits.on_accepted(descriptor, identity), "there are too many that have sent nothing yet")

    def _hold(self) -> None:
        """Let newcomers wait in the kernel while there is no place for them."""
        if self._limits.full == self._holding:
            return
        self._holding = self._limits.full
        if self._holding:
            line = "the workers' port has all the connections that it may have, %d: further workers wait"
            self._full_line.write(time.monotonic_ns() // 1_000_000, line, len(self._limits))
        for listener in self._listening:
            listeners.hold(listener, self._holding)

    def _end(self, excess: list[Connection], why: str) -> None:
        for connection in excess:
            self._sockets.end(connection)
            self._line.write(
                time.monotonic_ns() // 1_000_000,
                "a connection to the workers' port was cut: %s; from %s",
                why,
                connection.identity.address,
            )

    def close(self) -> None:
        """Stop before the router is closed."""
        self._router.disable_monitor()
        self._thread.join()
        # Here and not in the thread: one that failed would leave it open, and the context could not end.
        self._events.close(linger=0)
        self._sockets.close()
