"""Connections between workers and the scheduler: first in, first out, late, cut, and broken with a loss of the last.

A **path** is the way between one host and the scheduler. Each of its directions may be cut: what was sent waits there,
as TCP would send it again, and goes on when the path is mended. A **connection** runs over a path and has a lane in
each direction. When it breaks, each lane delivers some of what it holds, loses the rest, and then tells its end: so
either side may learn of it long after the other. A new connection is a new peer to the ROUTER.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

import zmq

from tests.sim.story import Story
from tests.sim.timeline import Action, Timeline
from tests.sim.wording import Way

WAYS: tuple[Way, ...] = ("up", "down")


class Path:
    """Between a host and the scheduler. `slowest_ms` bounds the delay of a frame."""

    def __init__(self, story: Story, chance: Random, name: str, slowest_ms: int) -> None:
        self.name = name
        self.story = story
        self._timeline = story.timeline
        self._chance = chance
        self._slowest_ms = slowest_ms
        self._cut: dict[Way, bool] = {"up": False, "down": False}
        self._lanes: list[Lane] = []

    def delay_ms(self) -> int:
        """Mostly next to nothing, now and then long."""
        if self._chance.random() < 0.8:
            return self._chance.randint(0, 2)
        return self._chance.randint(0, self._slowest_ms)

    def passes(self, way: Way) -> bool:
        return not self._cut[way]

    @property
    def whole(self) -> bool:
        return not any(self._cut.values())

    def cut(self, *ways: Way) -> None:
        for way in ways:
            self._cut[way] = True

    def mend(self) -> None:
        for way in WAYS:
            self._cut[way] = False
        self._lanes = [lane for lane in self._lanes if lane.waiting or not lane.closed]
        for lane in self._lanes:
            # What an end that is gone has left is sent again by the kernel, at intervals that have grown meanwhile.
            slow_ms = self._chance.randint(0, 3_000) if lane.closed else self.delay_ms()
            lane.hold(slow_ms)
            self._timeline.after(slow_ms, lane.pump)

    def add(self, lane: Lane) -> None:
        self._lanes.append(lane)


class Lane:
    """One direction of a connection."""

    def __init__(
        self, timeline: Timeline, path: Path, way: Way, deliver: Callable[[bytes], None], on_end: Action
    ) -> None:
        self._timeline = timeline
        self._path = path
        self._way: Way = way
        self._deliver = deliver
        self._on_end = on_end
        # Bodies, and None for the end, each with the moment it arrives if the path is whole.
        self._frames: deque[tuple[int, bytes | None]] = deque()
        self._last_ms = 0
        self.closed = False
        path.add(self)

    @property
    def waiting(self) -> int:
        return len(self._frames)

    def send(self, body: bytes | None) -> None:
        if self.closed:
            return
        self._last_ms = max(self._last_ms, self._timeline.now_ms + self._path.delay_ms())
        self._frames.append((self._last_ms, body))
        self._timeline.at(self._last_ms, self.pump)

    def hold(self, gap_ms: int) -> None:
        """Nothing arrives earlier than in gap_ms."""
        at_ms = self._timeline.now_ms + gap_ms
        self._frames = deque((max(at_ms, due_ms), body) for due_ms, body in self._frames)
        self._last_ms = max(self._last_ms, at_ms) if self._frames else self._last_ms

    def close(self, kept: int) -> None:
        """Deliver the first `kept` of the frames under way, lose the others, then tell the end."""
        if self.closed:
            return
        while len(self._frames) > kept:
            _, body = self._frames.pop()
            if body is not None:
                self._path.story.lose(self._path.name, body, self._way)
        self.send(None)
        self.closed = True

    def pump(self) -> None:
        """Deliver what has arrived."""
        while self._frames and self._frames[0][0] <= self._timeline.now_ms and self._path.passes(self._way):
            _, body = self._frames.popleft()
            if body is None:
                self._on_end()
            else:
                self._deliver(body)


class Dealer(Protocol):
    """The worker's end of a connection."""

    worker: str

    def on_body(self, connection: Connection, body: bytes) -> None: ...

    def on_cut(self, connection: Connection) -> None: ...


class Connection:
    """Between a DEALER and the ROUTER, which knows it as `peer`."""

    def __init__(
        self, timeline: Timeline, chance: Random, path: Path, peer: bytes, dealer: Dealer, router: Router
    ) -> None:
        self._chance = chance
        self.peer = peer
        self.dealer = dealer
        self.up = Lane(timeline, path, "up", lambda body: router.arrive(peer, body), lambda: router.fail_lost(peer))
        self.down = Lane(timeline, path, "down", lambda body: dealer.on_body(self, body), lambda: dealer.on_cut(self))
        router.peers[peer] = self

    def break_off(self) -> None:
        """The network resets it, or a process at an end of it dies."""
        for lane in (self.up, self.down):
            lane.close(self._chance.randint(0, lane.waiting))

    def break_late(self, gap_ms: int) -> None:
        """It breaks, but the kernel still delivers in gap_ms what the worker has sent: a packet was lost before."""
        self.up.hold(gap_ms)
        self.up.close(self.up.waiting)
        self.break_off()


class Router:
    """The scheduler's port as its loop uses it, over the connections of one process."""

    def __init__(self, frames_queued_max: int, on_arrival: Callable[[bytes, bytes], None]) -> None:
        self.peers: dict[bytes, Connection] = {}
        self.incoming: deque[tuple[bytes, bytes]] = deque()
        self.before_send: Callable[[Connection, bytes], None] = lambda connection, body: None
        self._frames_queued_max = frames_queued_max
        self._on_arrival = on_arrival
        # Connections that did not take a frame, since somebody last looked.
        self.full: set[bytes] = set()
        self.open = True
        # Frames that the process has not sent yet, since it stands still while it sends; None: it does not.
        self._held: list[tuple[bytes, bytes]] | None = None
        # It stands still after so many frames.
        self.pause_in: int | None = None
        self.on_pause: Callable[[], None] = lambda: None

    def arrive(self, peer: bytes, body: bytes) -> None:
        if self.open:
            self.incoming.append((peer, body))
            self._on_arrival(peer, body)

    def fail_lost(self, peer: bytes) -> None:
        self.peers.pop(peer, None)

    def close(self) -> None:
        """The process ends: every connection breaks."""
        self.open = False
        self.incoming.clear()
        for connection in list(self.peers.values()):
            connection.break_off()
        self.peers.clear()

    # --- what the loop calls ---

    @property
    def sockets(self) -> Sequence[zmq.Socket[bytes]]:
        return []

    def receive(self) -> tuple[bytes, list[bytes], str] | None:
        if not self.incoming:
            return None
        peer, body = self.incoming.popleft()
        return peer, [body], ""

    def answer_strangers(self) -> None:
        """There are none."""

    def open_outward(self) -> None:
        """There is one network here."""

    def send(self, peer: bytes, body: bytes) -> None:
        connection = self.peers.get(peer)
        if connection is None:
            raise zmq.ZMQError(errno.EHOSTUNREACH)
        if connection.down.waiting >= self._frames_queued_max:
            self.full.add(peer)
            raise zmq.ZMQError(errno.EAGAIN)
        if self.pause_in is not None:
            self.pause_in -= 1
            if self.pause_in < 0:
                self._held, self.pause_in = [], None
                self.on_pause()
        if self._held is not None:
            self._held.append((peer, body))
            return
        self.before_send(connection, body)
        connection.down.send(body)

    @property
    def holds(self) -> bool:
        """Whether the process stands still while it sends."""
        return self._held is not None

    def go_on(self) -> None:
        """The process sends what it was about to send."""
        held, self._held, self.pause_in = self._held, None, None
        for peer, body in held or ():
            if (connection := self.peers.get(peer)) is not None:
                self.before_send(connection, body)
                connection.down.send(body)
