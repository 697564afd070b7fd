"""The agent's way to its scheduler with a list of endpoints, over real sockets. Without REST, as by an access file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import cast

import pytest
import zmq

from tests.system.session import free_ports
from zsched.host.clock import mono_ms
from zsched.model.limits import ENROL_S
from zsched.model.types import Now
from zsched.worker.agent.agent import Agent
from zsched.worker.agent.credentials import Credentials
from zsched.worker.agent.enrol import Target
from zsched.worker.agent.route import Route
from zsched.worker.messages import Hello

DEADLINE_S = 20.0


class FakeAgent:
    """The agent's session as the test has it."""

    def __init__(self) -> None:
        self.timeout_ms: int | None = None
        self.silent_at_ms: int | None = None
        self.registered = False
        self.connects = self.seeks = 0

    def on_seek(self) -> None:
        self.seeks += 1

    def on_connected(self, _now: Now) -> None:
        self.connects += 1

    def on_disconnected(self, _now: Now, _why: str = "") -> None:
        self.registered = False


class FakeHello:
    worker = incarnation = "w1"


class FakeCredentials:
    """`before`: called before a scheduler accepts the worker, with its place in the list."""

    pair = None

    def __init__(self, *ports: int) -> None:
        self.schedulers = tuple(f"tcp://127.0.0.1:{port}" for port in ports)
        self.before: Callable[[int], None] = lambda index: None
        self.timeouts_s: list[float] = []

    def target(self, index: int, timeout_s: float) -> Target:
        self.timeouts_s.append(timeout_s)
        self.before(index)
        return Target(self.schedulers[index])


class World:
    """A route to two endpoints, where a scheduler listens or not."""

    def __init__(self) -> None:
        self.ports = free_ports(2)
        self.agent = FakeAgent()
        self.credentials = FakeCredentials(*self.ports)
        self._poller = zmq.Poller()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._routers: list[zmq.Socket[bytes]] = []
        self.route = Route(
            cast("Hello", FakeHello),
            cast("Agent", self.agent),
            cast("Credentials", self.credentials),
            self._poller,
            lambda: None,
        )

    def close(self) -> None:
        self.route.close()
        for router in self._routers:
            router.close(0)
        self._context.term()

    def listen(self, index: int) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        self._routers.append(router)
        router.bind(f"tcp://127.0.0.1:{self.ports[index]}")
        return router

    def turn(self) -> None:
        self.route.on_turn(mono_ms())
        self.route.on_events(dict(self._poller.poll(20)))

    def until(self, done: Callable[[], object]) -> float:
        """Turn until `done` is true. Returns how long it took."""
        begin = time.monotonic()
        while not done():
            assert time.monotonic() - begin < DEADLINE_S
            self.turn()
        return time.monotonic() - begin


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


@pytest.mark.slow
def test_search_without_rest_is_logged_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    # Two rounds, and the begin of the third.
    world.until(lambda: world.agent.seeks >= 5)
    (warning,) = [line for line in caplog.messages if line.endswith("; retrying")]
    assert all(endpoint in warning for endpoint in world.credentials.schedulers)
    assert [line for line in caplog.messages if "is reached" in line] == []
    assert sum("connecting to" in line for line in caplog.messages) <= 3
    world.listen(1)
    world.until(lambda: world.agent.connects)
    assert f"worker w1: the scheduler {world.credentials.schedulers[1]} is reached" in caplog.messages


def test_connection_that_is_cut_after_a_goodbye_is_left_at_once(world: World) -> None:
    """The scheduler ends: the session is over before its port is closed."""
    first = world.listen(0)
    world.until(lambda: world.agent.connects == 1)
    world.agent.registered = True
    world.turn()
    world.agent.registered = False
    world.until(lambda: world.agent.seeks == 2)
    world.listen(1)
    first.close(0)
    assert world.until(lambda: world.agent.connects == 2) < 2.5


def test_connection_that_comes_during_an_enrolment_keeps_the_place(world: World) -> None:
    """ZeroMQ connects again to the first scheduler while the second one takes the worker."""

    def before(index: int) -> None:
        if index == 1:
            world.listen(0)
            connection = world.route.connection
            assert connection is not None
            while connection.monitor.poll(1_000):
                if connection.changes() == [True]:
                    # As if nobody had looked.
                    connection.changes = lambda: [True]  # type: ignore[method-assign]
                    return

    world.credentials.before = before
    world.listen(1)
    second = world.credentials.schedulers[1]

    def there() -> bool:
        connection = world.route.connection
        return connection is not None and connection.target.endpoint == second and connection.answered

    world.until(there)
    assert world.route.connection is not None
    assert world.route.connection.index == 1


def test_enrolment_is_shorter_while_a_session_lives(world: World) -> None:
    """The session may still go on, and its heartbeats wait meanwhile."""
    world.listen(0)
    world.until(lambda: world.agent.connects == 1)
    assert world.credentials.timeouts_s == [ENROL_S]
    world.agent.registered, world.agent.timeout_ms, world.agent.silent_at_ms = True, 3_000, 0
    world.until(lambda: len(world.credentials.timeouts_s) == 2)
    assert world.credentials.timeouts_s[1] == 0.5
