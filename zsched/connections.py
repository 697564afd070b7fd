"""The bounds of connections to the workers' port. ZeroMQ has none, and keeps up to FRAME_FROM_WORKER_BYTES_MAX of what
a stranger sends before its handshake is over.

ZeroMQ's socket monitor names the descriptor of each connection that comes or goes. A thread of its own follows it, so
that the bounds hold while a turn of the loop is long, and ends excess connections by shutdown(2). ZeroMQ then sees the
end of the stream and closes the descriptor. The monitor does not say which connection has finished its handshake, nor
by which key. So a connection counts as **heard** when the loop has read its first frame, which carries the descriptor
and the key. Until then it counts as unheard; workers send their first frame at once.
"""

from __future__ import annotations

import logging
import os
import resource
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import Final

import zmq

from zsched.limits import (
    CONNECTIONS_PER_KEY_MAX,
    FILES_RESERVED,
    LINE_INTERVAL_MS,
    UNHEARD_CONNECTIONS_MAX,
    WORKER_CONNECTIONS_MAX,
)
from zsched.peer import home
from zsched.rate import Throttled

log = logging.getLogger(__name__)

EVENTS: Final = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_MONITOR_STOPPED

# asm-generic/socket.h: a number that the kernel gives to one socket alone, for as long as it is up.
_SO_COOKIE: Final = 57
# Of a limit of open files that is too low for FILES_RESERVED, connections of workers may use this part.
_PART: Final = 4
# libzmq's event: a 16-bit number and a 32-bit value, which is a descriptor in those of EVENTS.
_EVENT: Final = struct.Struct("=Hi")


def connections_max(files_max: int) -> int:
    """How many connections the workers' port may have, of a limit of open files (RLIMIT_NOFILE)."""
    if files_max == resource.RLIM_INFINITY:
        return WORKER_CONNECTIONS_MAX
    return min(WORKER_CONNECTIONS_MAX, max(files_max - FILES_RESERVED, files_max // _PART))


def warn_of_few_files(files_max: int) -> None:
    """Log, once at the start, that a limit of open files is too low to keep FILES_RESERVED for everything else."""
    if files_max != resource.RLIM_INFINITY and files_max - FILES_RESERVED < files_max // _PART:
        log.warning(
            "the limit of open files is %d, too low for REST and workers together: set it to %d (LimitNOFILE= of the"
            " unit, or ulimit -n); until then the workers' port takes %d connections",
            files_max,
            FILES_RESERVED + WORKER_CONNECTIONS_MAX,
            connections_max(files_max),
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """A connection: the kernel's number of its socket, the address of its other end, and the network of that."""

    cookie: bytes
    address: str
    home: bytes


@dataclass(slots=True, eq=False)
class Connection:
    """A connection by its descriptor in ZeroMQ. `key` is None until a frame of it has been read."""

    descriptor: int
    identity: Identity
    key: str | None = None


class Limits:
    """Which connections are open, and which of them are too many. Pure; the methods return those to end, and count them
    as gone.
    """

    def __init__(self, connections_max: int, random: Random) -> None:
        self._connections_max = connections_max
        self._random = random
        self._open: dict[int, Connection] = {}
        # Those not heard yet, by their network; and the heard ones by their key, the oldest first.
        self._unheard: dict[bytes, dict[int, Connection]] = defaultdict(dict)
        self._unheard_count = 0
        self._of_key: dict[str, dict[int, Connection]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def unheard(self) -> int:
        """How many have not been heard yet."""
        return self._unheard_count

    def on_accepted(self, descriptor: int, identity: Identity) -> list[Connection]:
        """A connection was accepted. What had that descriptor before is gone."""
        self.on_closed(descriptor)
        connection = self._open[descriptor] = Connection(descriptor, identity)
        self._unheard[identity.home][descriptor] = connection
        self._unheard_count += 1
        excess = []
        while self._unheard_count > UNHEARD_CONNECTIONS_MAX or len(self._open) > self._connections_max:
            # Not the oldest: when a fleet comes back at once, its newcomers would end one handshake after the other
            # before any is over. Not the newest: who holds all places would keep everybody else out.
            most = max(self._unheard.values(), key=len)
            one = self._random.choice(list(most.values()))
            self.on_closed(one.descriptor)
            excess.append(one)
        return excess

    def on_heard(self, descriptor: int, key: str) -> list[Connection]:
        """A frame was read that came by this descriptor and by this key, empty where none is needed."""
        connection = self._open.get(descriptor)
        if connection is None or connection.key is not None:
            return []
        self._forget_unheard(connection)
        connection.key = key
        if not key:
            return []
        same = self._of_key[key]
        same[descriptor] = connection
        excess = list(same.values())[:-CONNECTIONS_PER_KEY_MAX]
        for one in excess:
            self.on_closed(one.descriptor)
        return excess

    def on_closed(self, descriptor: int) -> None:
        """A connection is gone. One that is not known changes nothing."""
        connection = self._open.pop(descriptor, None)
        if connection is None:
            return
        if connection.key is None:
            self._forget_unheard(connection)
        elif connection.key:
            self._of_key[connection.key].pop(descriptor)
            if not self._of_key[connection.key]:
                del self._of_key[connection.key]

    def is_heard(self, descriptor: int) -> bool:
        connection = self._open.get(descriptor)
        return connection is not None and connection.key is not None

    def _forget_unheard(self, connection: Connection) -> None:
        home = connection.identity.home
        self._unheard[home].pop(connection.descriptor)
        if not self._unheard[home]:
            del self._unheard[home]
        self._unheard_count -= 1


class Sockets:
    """Looks at connections that belong to ZeroMQ, and ends them, without ever touching another one.

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
        """The connection to our port behind a descriptor; None when there is none, or none any more."""
        with suppress(OSError), self._held(descriptor) as one:
            if one.getsockname()[1] == self._port:
                address = str(one.getpeername()[0])
                return Identity(one.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), address, home(address))
        return None

    def end(self, connection: Connection) -> None:
        """Shut a connection down, if it is still there."""
        with suppress(OSError), self._held(connection.descriptor) as one:
            if one.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8) == connection.identity.cookie:
                one.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _held(self, descriptor: int) -> Iterator[socket.socket]:
        """What a descriptor refers to. Raises OSError when that is no socket."""
        os.dup2(descriptor, self._ours, inheritable=False)
        try:
            one = socket.socket(fileno=self._ours)
            try:
                yield one
            finally:
                one.detach()
        finally:
            # As long as ours refers to a connection, that stays open after ZeroMQ has closed it.
            os.dup2(self._nothing, self._ours, inheritable=False)

    def close(self) -> None:
        os.close(self._ours)
        os.close(self._nothing)


class ConnectionMonitor:
    """Follows the connections of a ROUTER in a thread of its own, from `start` until `close`."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        router: zmq.Socket[bytes],
        port: int,
        connections_max: int = WORKER_CONNECTIONS_MAX,
    ) -> None:
        """`port`: the number of the router's port. No connection may have been accepted yet."""
        self._router = router
        self._sockets = Sockets(port)
        self._limits = Limits(connections_max, SystemRandom())
        self._lock = threading.Lock()
        self._line = Throttled(log, logging.WARNING, LINE_INTERVAL_MS)
        endpoint = f"inproc://zsched.connections.{id(router)}"
        router.monitor(endpoint, EVENTS)
        self._events = context.socket(zmq.PAIR)
        self._events.connect(endpoint)
        self._thread = threading.Thread(target=self._follow, name="connections", daemon=True)
        self._thread.start()

    def on_frame(self, descriptor: int, key: str) -> None:
        """A frame was read. Called by the loop for each."""
        if self._limits.is_heard(descriptor):
            return
        with self._lock:
            self._end(self._limits.on_heard(descriptor, key), "of one key")

    def _follow(self) -> None:
        while True:
            event, descriptor = _EVENT.unpack(self._events.recv_multipart()[0])
            if event == zmq.EVENT_MONITOR_STOPPED:
                self._events.close(linger=0)
                return
            with self._lock:
                try:
                    self._on_event(event, descriptor)
                except Exception:
                    # Our own bug: the bounds of the other connections hold on.
                    log.exception("a connection to the workers' port could not be followed")

    def _on_event(self, event: int, descriptor: int) -> None:
        if event == zmq.EVENT_DISCONNECTED:
            self._limits.on_closed(descriptor)
            return
        identity = self._sockets.identify(descriptor)
        if identity is not None:
            self._end(self._limits.on_accepted(descriptor, identity), "that have sent nothing yet")

    def _end(self, excess: list[Connection], which: str) -> None:
        for connection in excess:
            self._sockets.end(connection)
            self._line.write(
                time.monotonic_ns() // 1_000_000,
                "a connection to the workers' port was cut: there are too many %s; from %s",
                which,
                connection.identity.address,
            )

    def close(self) -> None:
        """Stop before the router is closed."""
        self._router.disable_monitor()
        self._thread.join()
        self._sockets.close()
