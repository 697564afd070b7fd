"""The program at the other end of a connection: its address, its user, and its group for connection limits.

Created when a connection is accepted. The gate looks up the user, in the thread that serves the request.
"""

from __future__ import annotations

import socket
from typing import Any, Final, Protocol

from zsched.security import peer

# Both addresses of a connection to the Unix socket, as in `user 1000 at socket`.
SOCKET_ADDRESS: Final = "socket"


class Caller(Protocol):
    """`address` and `local_address` are those of both ends. Callers with the same `home` share a connection limit."""

    address: str
    local_address: str
    home: bytes

    def uid(self) -> int | None:
        """The user at the other end. None if it is not on this host, or unknown."""


class SocketCaller:
    """A caller by the Unix socket. The kernel recorded its user when it connected."""

    address = local_address = SOCKET_ADDRESS

    def __init__(self, accepted: socket.socket) -> None:
        """Raises OSError."""
        self._uid = peer.credentials(accepted)
        self.home = b"socket %d" % self._uid

    def uid(self) -> int | None:
        return self._uid


class TcpCaller:
    """A caller by TCP. Its user is looked up once, at the first request that needs it."""

    def __init__(self, accepted: socket.socket, address: tuple[Any, ...], kernel: peer.SockDiag | None) -> None:
        """`kernel` answers look-ups; without it each look-up opens a socket. Raises OSError."""
        local = accepted.getsockname()
        self.address, self.local_address = str(address[0]), str(local[0])
        self.home = peer.home(self.address)
        self._ports = (address[1], local[1])
        self._connection = accepted
        self._kernel = kernel
        self._found: tuple[int | None] | None = None

    def uid(self) -> int | None:
        if self._found is None:
            theirs, ours = self._ports
            uid = peer.uid_of(peer.end(self.address, theirs), peer.end(self.local_address, ours), self._kernel)
            # In this order: while our end is alive, no other program can have the caller's port.
            self._found = (uid if peer.connected(self._connection) else None,)
        return self._found[0]
