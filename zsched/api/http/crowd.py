"""The connections of REST together: how long each may take, and which is closed when there are too many.

Anybody can open a connection and send little or nothing on it. So a newcomer is always accepted, and an idle connection
is closed for it: of the address with most of them, the one that has waited longest. A request that is being served is
never cut off for a newcomer.
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
    """What has to be known of one, times by the steady clock. `since_s` is when its present state began: no byte of a
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
        """Whether a part of a request has come."""

    @property
    def in_work(self) -> bool:
        """Whether a whole request is there and has not been served."""

    @property
    def held_bytes(self) -> int:
        """Bytes of requests that have not been served to the end, whole or in part."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes of answers that have not been taken."""

    def refuse(self) -> None:
        """Free what its requests hold, and answer them 503; or close it."""

    def handle_close(self) -> None: ...


class ConnectionLimiter:
    """All open connections of one server. Only the server's own thread may use it.

    Those over TCP and those by the Unix socket have a bound each, so that no crowd of one kind keeps the other out.
    """

    def __init__(self, tcp_max: int = CONNECTIONS_MAX, socket_max: int = SOCKET_CONNECTIONS_MAX) -> None:
        self._most = {False: tcp_max, True: socket_max}
        self._open: dict[bool, set[Connection]] = {False: set(), True: set()}
        self._swept_s = 0.0
        self._summed_s = 0.0

    def accepted_max(self, by_socket: bool) -> int:
        """How many newcomers of this kind may be accepted in one round of the poll."""
        return min(ACCEPTED_MAX, max(1, self._most[by_socket] // 4))

    def enter(self, one: Connection) -> None:
        self._open[one.by_socket].add(one)

    def leave(self, one: Connection) -> None:
        self._open[one.by_socket].discard(one)

    def has_room(self, by_socket: bool) -> bool:
        """Whether newcomers of this kind can be accepted."""
        return len(self._open[by_socket]) <= self._room(by_socket)

    def thin(self, now_s: float) -> None:
        """Close late connections and those that have to make room, and bound what all hold. Called before each round
        of the poll.
        """
        if now_s - self._swept_s >= _SWEEP_S:
            self._swept_s = now_s
            for one in [one for one in self._all() if now_s - one.since_s >= _limit_s(one)]:
                one.handle_close()
        for by_socket, ours in self._open.items():
            excess = len(ours) - self._room(by_socket)
            if excess > 0:
                for one in _waiting(ours)[:excess]:
                    one.handle_close()
        if now_s - self._summed_s >= _SUM_S:
            self._summed_s = now_s
            self._cut_holders(now_s)
            self._cut_debtors(now_s)

    def _room(self, by_socket: bool) -> int:
        """How many connections of a kind may be open when a crowd of newcomers comes."""
        return self._most[by_socket] - self.accepted_max(by_socket)

    def _cut_holders(self, now_s: float) -> None:
        """Keep what requests take within its bound: those that cost most are refused, in bytes times seconds. What
        threads serve counts too, but goes on.
        """
        held = {one: size for one in self._all() if (size := one.held_bytes)}
        costs = {one: size * (now_s - one.since_s) for one, size in held.items() if not one.served}
        for one in _excess(held, costs, UNFINISHED_BYTES_MAX):
            one.refuse()

    def _cut_debtors(self, now_s: float) -> None:
        """Keep the unsent bytes of all within their bound: those that cost most go, in bytes times seconds. In work or
        not: another answer for them would only add to what they owe.
        """
        owed = {one: unsent for one in self._all() if (unsent := one.unsent_bytes)}
        costs = {one: unsent * (now_s - one.owes_s) for one, unsent in owed.items()}
        for one in _excess(owed, costs, UNSENT_BYTES_MAX):
            one.handle_close()

    def _all(self) -> set[Connection]:
        return self._open[False] | self._open[True]


def _excess(sizes: dict[Connection, int], costs: dict[Connection, float], bytes_max: int) -> Iterator[Connection]:
    """The connections that must go until the sizes of all are within a bound: of the address with the most bytes, the
    connection that costs most. One without a cost stays.
    """
    excess = sum(sizes.values()) - bytes_max
    homes: Counter[bytes] = Counter()
    for one, size in sizes.items():
        homes[one.home] += size
    while excess > 0 and costs:
        worst = max(costs, key=lambda one: (homes[one.home], costs[one]))
        del costs[worst]
        homes[worst.home] -= sizes[worst]
        excess -= sizes[worst]
        yield worst


def _waiting(some: Collection[Connection]) -> list[Connection]:
    """Those of some on which nothing is being done, in the order in which they go."""
    many = Counter(one.home for one in some)
    return sorted((one for one in some if not one.in_work), key=lambda one: (-many[one.home], one.waits_s))


def _limit_s(one: Connection) -> float:
    """How long it may be in its present state."""
    if one.in_work or one.unsent_bytes:
        return ANSWER_S
    return REQUEST_S if one.begun else IDLE_CONNECTION_S
