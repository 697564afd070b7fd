"""Which connections to the workers' port are open, and which of them are too many. Pure; connections.py obeys it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from random import Random

from zsched.model.limits import CONNECTIONS_PER_KEY_MAX, UNHEARD_CONNECTIONS_MAX, UNREAD_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Identity:
    """A connection: the kernel's number of its socket, the address of its other end, and the network of that."""

    cookie: bytes
    address: str
    home: bytes


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that ZeroMQ has read from a connection, and bytes written to it that the other end's kernel has taken."""

    brought_bytes: int
    taken_bytes: int


@dataclass(slots=True, eq=False)
class Connection:
    """A connection by its descriptor in ZeroMQ. `key` is None until a frame of it has been read. Only the loop's thread
    writes `frames` and `sent_bytes`, by single assignments.
    """

    descriptor: int
    identity: Identity
    key: str | None = None
    # The ROUTER's name of it, and the frames that the loop has read of it.
    peer: bytes = b""
    frames: int = 0
    # What it had brought when the last look saw a new frame, and how many frames that look saw.
    brought_bytes: int = 0
    frames_seen: int = 0
    # What was sent by it, as on the wire, and what of that the other end has taken, by the last look.
    sent_bytes: int = 0
    taken_bytes: int = 0


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
        self._of_peer: dict[bytes, Connection] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def full(self) -> bool:
        """Whether there is no place for a newcomer."""
        return not self._unheard_count and len(self._open) >= self._connections_max

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
            # before any is over. Not the newest: a peer that holds all places would keep all others out.
            largest = max(self._unheard.values(), key=len)
            victim = self._random.choice(list(largest.values()))
            self.on_closed(victim.descriptor)
            excess.append(victim)
        return excess

    def on_heard(self, descriptor: int, key: str, peer: bytes = b"") -> list[Connection]:
        """A frame was read that came by this descriptor and by this key, empty where none is needed. `peer`: the
        ROUTER's name of the connection.
        """
        connection = self._open.get(descriptor)
        if connection is None or connection.key is not None:
            return []
        self._forget_unheard(connection)
        connection.key = key
        connection.peer = peer
        self._of_peer[peer] = connection
        if not key:
            return []
        same = self._of_key[key]
        same[descriptor] = connection
        excess = list(same.values())[:-CONNECTIONS_PER_KEY_MAX]
        for connection in excess:
            self.on_closed(connection.descriptor)
        return excess

    def on_closed(self, descriptor: int) -> None:
        """A connection is gone. One that is not known changes nothing."""
        connection = self._open.pop(descriptor, None)
        if connection is None:
            return
        if self._of_peer.get(connection.peer) is connection:
            del self._of_peer[connection.peer]
        if connection.key is None:
            self._forget_unheard(connection)
        elif connection.key:
            self._of_key[connection.key].pop(descriptor)
            if not self._of_key[connection.key]:
                del self._of_key[connection.key]

    def on_gone(self, connection: Connection) -> None:
        """This connection is gone. Another one may have its descriptor by now."""
        if self._open.get(connection.descriptor) is connection:
            self.on_closed(connection.descriptor)

    def get(self, descriptor: int) -> Connection | None:
        return self._open.get(descriptor)

    def of_peer(self, peer: bytes) -> Connection | None:
        """A connection that has been heard, by the ROUTER's name of it."""
        return self._of_peer.get(peer)

    def all(self) -> list[Connection]:
        return list(self._open.values())

    def on_traffic(self, connection: Connection, traffic: Traffic) -> bool:
        """What a connection has brought and taken so far; returns whether it has brought too much since the loop last
        read a frame of it, and counts it as gone then.

        Bytes are counted from the look that saw the last frame, so commands of ZeroMQ itself never add up.
        """
        connection.taken_bytes = traffic.taken_bytes
        frames = connection.frames
        if frames != connection.frames_seen:
            connection.frames_seen, connection.brought_bytes = frames, traffic.brought_bytes
        if traffic.brought_bytes - connection.brought_bytes <= UNREAD_BYTES_MAX:
            return False
        self.on_closed(connection.descriptor)
        return True

    def _forget_unheard(self, connection: Connection) -> None:
        home = connection.identity.home
        self._unheard[home].pop(connection.descriptor)
        if not self._unheard[home]:
            del self._unheard[home]
        self._unheard_count -= 1
