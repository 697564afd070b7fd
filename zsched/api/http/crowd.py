"""Limits of all REST connections: how long each may take, and which is closed when there are too many.

Anybody can open connections and send little or nothing on them. So a new connection is always accepted, and an idle one
is closed for it: of the address with the most, the one that has waited longest. A request that is being served is never
cut off for a new connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final, Protocol

from zsched.model.limits import (
    ACCEPTED_MAX,
    ANSWER_S,
    CONNECTIONS_MAX,
    IDLE_CONNECTION_S,
    REQUEST_S,
    SOCKET_CONNECTIONS_MAX,
    UNFINISHED_BYTES_MAX,
    UNSENT_BYTES_MAX,
)

_SWEEP_S: Final = 1.0
# How often held and unsent bytes are added up: threads change them at any time.
_SUM_S: Final = 0.02


class Connection(Protocol):
    """The state of a connection. Times are of the steady clock. `since_s` is when its present state began: no byte of a
    request is there, or not all of one, or an answer is made and taken. `waits_s` is since when it has been waiting for
    a whole request; that a part comes changes nothing. `served`: a thread has its request. `owes_s` is since when it
    has had unsent bytes. `home`: where it comes from. `by_socket`: by the Unix socket.
    """

    home: bytes
    by_socket: bool
    since_s: float
    waits_s: float
    owes_s: float
    served: bool

    @property
    def begun(self) -> bool:
        """Whether a part of a request was received."""

    @property
    def in_work(self) -> bool:
        """Whether a complete request has not been served yet."""

    @property
    def held_bytes(self) -> int:
        """Bytes of complete and incomplete requests that have not been served."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes of answers that have not been sent."""

    def refuse(self) -> None:
        """Free the bodies of its requests and answer them 503; or close it."""

    def handle_close(self) -> None: ...


class ConnectionLimiter:
    """All open connections of one server. Only the server's own thread may use it.

    TCP and the Unix socket have separate limits, so that neither kind keeps the other out.
    """

    def __init__(self, tcp_max: int = CONNECTIONS_MAX, socket_max: int = SOCKET_CONNECTIONS_MAX) -> None:
        self._most = {False: tcp_max, True: socket_max}
        self._open: dict[bool, set[Connection]] = {False: set(), True: set()}
        self._swept_s = 0.0
        self._summed_s = 0.0

    def accepted_max(self, by_socket: bool) -> int:
        """How many connections of this kind may be accepted in one round of the poll."""
        return min(ACCEPTED_MAX, max(1, self._most[by_socket] // 4))

    def enter(self, connection: Connection) -> None:
        self._open[connection.by_socket].add(connection)

    def leave(self, connection: Connection) -> None:
        self._open[connection.by_socket].discard(connection)

    def has_room(self, by_socket: bool) -> bool:
        """Whether connections of this kind can be accepted."""
        return len(self._open[by_socket]) <= self._room(by_socket)

    def thin(self, now_s: float) -> None:
        """Close late connections, excess ones, and those that hold too many bytes. Called before each round of the
        poll.
        """
        if now_s - self._swept_s >= _SWEEP_S:
            self._swept_s = now_s
            for connection in [late for late in self._all() if now_s - late.since_s >= _limit_s(late)]:
                connection.handle_close()
        for by_socket, ours in self._open.items():
            excess = len(ours) - self._room(by_socket)
            if excess > 0:
                for connection in _waiting(ours)[:excess]:
                    connection.handle_close()
        if now_s - self._summed_s >= _SUM_S:
            self._summed_s = now_s
            self._cut_holders(now_s)
            self._cut_debtors(now_s)

    def _room(self, by_socket: bool) -> int:
        """How many connections of a kind may be open before new ones are accepted."""
        return self._most[by_socket] - self.accepted_max(by_socket)

    def _cut_holders(self, now_s: float) -> None:
        """Keep the bytes of requests within their limit: refuse those that cost most, in bytes times seconds. Requests
        that are being served count too, but are not refused.
        """
        sizes = {holder: size for holder in self._all() if (size := holder.held_bytes)}
        costs = {holder: size * (now_s - holder.since_s) for holder, size in sizes.items() if not holder.served}
        for holder in _excess(sizes, costs, UNFINISHED_BYTES_MAX):
            holder.refuse()

    def _cut_debtors(self, now_s: float) -> None:
        """Keep the unsent bytes within their limit: close the connections that cost most, in bytes times seconds, even
        with a request in work, because its answer would only add to the unsent bytes.
        """
        sizes = {debtor: size for debtor in self._all() if (size := debtor.unsent_bytes)}
        costs = {debtor: size * (now_s - debtor.owes_s) for debtor, size in sizes.items()}
        for debtor in _excess(sizes, costs, UNSENT_BYTES_MAX):
            debtor.handle_close()

    def _all(self) -> set[Connection]:
        return self._open[False] | self._open[True]


def _excess(sizes: dict[Connection, int], costs: dict[Connection, float], bytes_max: int) -> Iterator[Connection]:
    """The connections to close until all sizes are within a limit: of the address with the most bytes, the connection
    that costs most. Connections without a cost stay.
    """
    excess = sum(sizes.values()) - bytes_max
    homes: Counter[bytes] = Counter()
    for connection, size in sizes.items():
        homes[connection.home] += size
    while excess > 0 and costs:
        worst = max(costs, key=lambda connection: (homes[connection.home], costs[connection]))
        del costs[worst]
        homes[worst.home] -= sizes[worst]
        excess -= sizes[worst]
        yield worst


def _waiting(connections: Collection[Connection]) -> list[Connection]:
    """The connections without a request in work, in the order in which they are closed."""
    homes = Counter(connection.home for connection in connections)
    idle = (connection for connection in connections if not connection.in_work)
    return sorted(idle, key=lambda connection: (-homes[connection.home], connection.waits_s))


def _limit_s(connection: Connection) -> float:
    """How long a connection may be in its present state."""
    if connection.in_work or connection.unsent_bytes:
        return ANSWER_S
    return REQUEST_S if connection.begun else IDLE_CONNECTION_S
