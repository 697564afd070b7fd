"""The agent's process: one thread with a DEALER socket, the guard's channel, and the agent's decisions between them.

The guard starts it as `python -m zsched.worker.agent.main`, with the channel as its standard input. It wakes a guard
that a signal has stopped (stopped.py). When the guard dies, it kills the guard's jobs, reports that to the scheduler,
and exits.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path

import zmq

from zsched.host import clock, logs, prctl
from zsched.host.clock import mono_ms
from zsched.host.files import PrivateFileError
from zsched.model.limits import AGENT_TURN_FRAMES_MAX
from zsched.model.units import counted
from zsched.protocol import ProtocolError, pack, unpack_from_scheduler
from zsched.worker.agent.agent import EXIT_REFUSED, Agent
from zsched.worker.agent.connection import Connection
from zsched.worker.agent.credentials import Credentials
from zsched.worker.agent.route import Route
from zsched.worker.channel import Channel, ChannelClosedError
from zsched.worker.messages import FromGuard, Hello, Refused
from zsched.worker.process.sweep import sweep
from zsched.worker.state import StateError, StateLockedError, lock
from zsched.worker.stopped import GuardWatchdog

# By name: this module runs as __main__.
log = logging.getLogger("zsched.worker.agent.main")


class Link:
    """The loop that carries frames and messages to and from the agent, until guard, agent or channel ends."""

    def __init__(
        self,
        channel: Channel[FromGuard],
        watchdog: GuardWatchdog,
        hello: Hello,
        early: list[FromGuard],
        credentials: Credentials,
    ) -> None:
        self._channel = channel
        self._watchdog = watchdog
        self._hello = hello
        self._early = early
        self._agent = Agent(hello, clock.now(), socket.gethostname()[:255])
        self._poller = zmq.Poller()
        self._poller.register(channel.fileno(), zmq.POLLIN)
        self._route = Route(hello, self._agent, credentials, self._poller, self._flush)

    def run(self) -> int:
        """Loop until the end. Returns the process's exit code."""
        for message in self._early:
            self._agent.on_guard(message, clock.now())
        try:
            while self._agent.exit_code is None:
                self._turn()
        except ChannelClosedError:
            self._on_guard_lost()
        if self._route.connection is not None:
            self._flush()
        self._route.close()
        return self._agent.exit_code or 0

    def _turn(self) -> None:
        now = clock.now()
        deadlines = [self._agent.on_tick(now), self._route.on_turn(now.mono_ms), self._watchdog.deadline_ms()]
        self._flush()
        deadline_ms = min(deadline_ms for deadline_ms in deadlines if deadline_ms is not None)
        ready = dict(self._poller.poll(max(0, deadline_ms - mono_ms())))
        if self._channel.fileno() in ready:
            self._on_messages()
        self._watchdog.check(mono_ms())
        self._route.on_events(ready)
        if (connection := self._route.connection) is not None and connection.dealer in ready:
            self._on_frames(connection)

    def _on_messages(self) -> None:
        messages = self._channel.receive()
        now = clock.now()
        self._watchdog.feed(now.mono_ms)
        for message in messages:
            self._agent.on_guard(message, now)

    def _on_frames(self, source: Connection) -> None:
        now = clock.now()
        for _ in range(AGENT_TURN_FRAMES_MAX):
            body = source.receive()
            if body is None:
                break
            try:
                frame = unpack_from_scheduler(body)
            except ProtocolError as error:
                log.warning("worker %s: invalid frame from the scheduler: %s", self._hello.worker, error)
            else:
                self._agent.on_frame(frame, now)

    def _flush(self) -> None:
        """Empty the agent's outboxes, the guard's first: it can start to work meanwhile."""
        for message in self._agent.to_guard:
            self._channel.put(message)
        self._agent.to_guard.clear()
        self._channel.flush()
        flags = zmq.POLLIN | (zmq.POLLOUT if self._channel.backed_up else 0)
        self._poller.modify(self._channel.fileno(), flags)
        for frame in self._agent.to_scheduler:
            if self._route.connection is not None:
                self._route.connection.send(pack(frame))
        self._agent.to_scheduler.clear()

    # --- the guard's end ---------------------------------------------------------------------------------------------

    def _on_guard_lost(self) -> None:
        """Kill the guard's jobs, then report its loss to the scheduler.

        Under the lock: a new guard that came first has swept already, and runs jobs by now.
        """
        log.error("worker %s: the guard has died", self._hello.worker)
        try:
            # This waits: the kernel may close a dead process's end of the channel before it releases the lock.
            lock(Path(self._hello.state_dir))
        except StateLockedError:
            log.info("worker %s: the next guard has taken over", self._hello.worker)
        except (StateError, OSError) as error:
            log.warning("worker %s: can't lock the state directory: %s", self._hello.worker, error)
        else:
            killed = sweep(self._hello.spool_id)
            log.warning("worker %s: killed %s that the guard had left", self._hello.worker, counted(killed, "process"))
        self._agent.on_guard_lost()


def main() -> int:
    """Run the agent. The guard's first message, Hello, has its whole configuration."""
    # Before any key is read.
    prctl.close_to_others()
    # Read before any message: if the guard has ended by now, its end of the channel is closed.
    guard = os.getppid()
    channel: Channel[FromGuard] = Channel(socket.socket(fileno=os.dup(0)), FromGuard)
    messages: list[FromGuard] = []
    poller = zmq.Poller()
    poller.register(channel.fileno(), zmq.POLLIN)
    try:
        watchdog = GuardWatchdog(guard, mono_ms())
        while not messages:
            poller.poll(max(0, watchdog.deadline_ms() - mono_ms()))
            messages = channel.receive()
            watchdog.check(mono_ms())
    except (ChannelClosedError, ProcessLookupError):
        return 0
    hello = messages[0]
    assert isinstance(hello, Hello)
    logs.start(hello.log_level)
    try:
        credentials = Credentials(hello)
    except PrivateFileError as error:
        log.error("worker %s: %s", hello.worker, error)
        channel.put(Refused(EXIT_REFUSED))
        channel.flush()
        return EXIT_REFUSED
    return Link(channel, watchdog, hello, messages[1:], credentials).run()


if __name__ == "__main__":
    sys.exit(main())
