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
import time
from pathlib import Path
from typing import Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from zsched.host import logs, prctl
from zsched.host.clock import mono_ms
from zsched.host.files import PrivateFileError
from zsched.model.limits import (
    AGENT_TURN_FRAMES_MAX,
    CONNECT_MS_MAX,
    FRAME_TO_WORKER_BYTES_MAX,
    RECONNECT_MS_MAX,
    UNACKED_MS_MAX,
)
from zsched.model.types import Now
from zsched.model.units import counted
from zsched.protocol import ProtocolError, pack, unpack_from_scheduler
from zsched.security.keys import Pair
from zsched.worker.agent.agent import EXIT_REFUSED, Agent
from zsched.worker.agent.credentials import Credentials
from zsched.worker.agent.enrol import EnrolError, EnrolRefusedError, NameTakenError, Target
from zsched.worker.agent.pace import GrowingDelay
from zsched.worker.channel import Channel, ChannelClosedError
from zsched.worker.messages import FromGuard, Hello, Refused
from zsched.worker.process.sweep import sweep
from zsched.worker.state import StateError, StateLockedError, lock
from zsched.worker.stopped import GuardWatchdog

# Without `registered` for this long after connecting, enrol again: the scheduler may have another port now.
_ENROL_AGAIN_MS: Final = 5_000
# Without a session, a connection is closed after a silence of half the scheduler's timeout, or of this long while that
# is unknown. TCP would go on for a quarter of an hour, in the end with one attempt every 2 min.
_DEAD_MS: Final = 15_000
# The time for the last frame (bye) to leave.
_LINGER_MS: Final = 500
# Frames queued in each direction. More than a window of orders never arrives; the agent repeats what was not sent.
_HIGH_WATER: Final = 1_000
# Frames handled in one turn. The rest waits for the next turn, after the guard's messages.
_RECONNECT_MS: Final = 100

# By name: this module runs as __main__.
log = logging.getLogger("zsched.worker.agent.main")


class Socket:
    """A DEALER connected to one endpoint, with the monitor of its connection.

    It sets no routing id: a second socket with the same id would receive nothing, without an error.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], target: Target, pair: Pair) -> None:
        self.target = target
        self.connected = False
        # Whether it was ever connected.
        self.answered = False
        self.heard_ms = mono_ms()
        self.dealer = context.socket(zmq.DEALER)
        if target.server_key:
            self.dealer.setsockopt(zmq.CURVE_SERVERKEY, target.server_key.encode())
            self.dealer.setsockopt(zmq.CURVE_PUBLICKEY, pair.public.encode())
            self.dealer.setsockopt(zmq.CURVE_SECRETKEY, pair.secret.encode())
        # For an IPv6 address only: with it, ZeroMQ resolves a name with both kinds of address to IPv6 alone.
        self.dealer.setsockopt(zmq.IPV6, int("[" in target.endpoint))
        # Queue nothing while no scheduler is connected: it would arrive late, in another session.
        self.dealer.setsockopt(zmq.IMMEDIATE, 1)
        self.dealer.setsockopt(zmq.LINGER, _LINGER_MS)
        self.dealer.setsockopt(zmq.SNDHWM, _HIGH_WATER)
        self.dealer.setsockopt(zmq.RCVHWM, _HIGH_WATER)
        self.dealer.setsockopt(zmq.MAXMSGSIZE, FRAME_TO_WORKER_BYTES_MAX)
        self.dealer.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        self.dealer.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX)
        self.dealer.setsockopt(zmq.TCP_MAXRT, UNACKED_MS_MAX)
        self.dealer.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS_MAX)
        self.monitor = self.dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        self.dealer.connect(target.endpoint)
        self.pollable = (self.dealer, self.monitor)

    def connections(self) -> list[bool]:
        """The changes of the connection since the last call: True for established, False for cut."""
        events = []
        while self.monitor.poll(0):
            self.connected = recv_monitor_message(self.monitor)["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self.answered |= self.connected
            self.heard_ms = mono_ms()
            events.append(self.connected)
        return events

    def send(self, body: bytes) -> None:
        """Send a frame, or drop it: the agent repeats every frame that matters."""
        try:
            self.dealer.send(body, zmq.NOBLOCK)
        except zmq.Again:
            log.debug("frame of %d bytes dropped: not connected, or the queue is full", len(body))

    def receive(self) -> bytes | None:
        """The next frame's body, or None. Returns b"" for a message of several parts, which is not a frame."""
        # Every turn ends with one call too many: this check costs a third of the exception.
        if not int(self.dealer.get(zmq.EVENTS)) & zmq.POLLIN:
            return None
        try:
            parts = self.dealer.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        self.heard_ms = mono_ms()
        return parts[0] if len(parts) == 1 else b""

    def close(self) -> None:
        self.dealer.disable_monitor()
        self.monitor.close(linger=0)
        self.dealer.close()


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
        self._credentials = credentials
        self._hello = hello
        self._early = early
        self._agent = Agent(hello, _now(), socket.gethostname()[:255])
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._poller.register(channel.fileno(), zmq.POLLIN)
        self._socket: Socket | None = None
        self._enrol_at_ms = 0
        self._enrol_delay = GrowingDelay(hello.incarnation)
        self._unreachable = ""
        # The log says that the worker port does not answer.
        self._unanswered = False

    def run(self) -> int:
        """Loop until the end. Returns the process's exit code."""
        for message in self._early:
            self._agent.on_guard(message, _now())
        try:
            while self._agent.exit_code is None:
                self._turn()
        except ChannelClosedError:
            self._on_guard_lost()
        if self._socket is not None:
            self._flush()
            self._socket.close()
        self._context.term()
        return self._agent.exit_code or 0

    def _turn(self) -> None:
        now = _now()
        deadline_ms = self._agent.on_tick(now)
        if not self._agent.registered and now.mono_ms >= self._enrol_at_ms:
            self._enrol()
        self._flush()
        if not self._agent.registered:
            deadline_ms = min(self._enrol_at_ms, deadline_ms if deadline_ms is not None else self._enrol_at_ms)
        check_ms = self._watchdog.deadline_ms()
        deadline_ms = check_ms if deadline_ms is None else min(deadline_ms, check_ms)
        ready = dict(self._poller.poll(max(0, deadline_ms - _now().mono_ms)))
        if self._channel.fileno() in ready:
            self._on_messages()
        self._watchdog.check(mono_ms())
        if self._socket is not None:
            if self._socket.monitor in ready:
                self._on_connections(self._socket)
            if self._socket.dealer in ready:
                self._on_frames(self._socket)

    def _on_messages(self) -> None:
        messages = self._channel.receive()
        now = _now()
        self._watchdog.feed(now.mono_ms)
        for message in messages:
            self._agent.on_guard(message, now)

    def _on_connections(self, source: Socket) -> None:
        now = _now()
        for established in source.connections():
            if established:
                self._unanswered = False
                self._agent.on_connected(now)
            else:
                self._agent.on_disconnected(now)

    def _on_frames(self, source: Socket) -> None:
        now = _now()
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
            if self._socket is not None:
                self._socket.send(pack(frame))
        self._agent.to_scheduler.clear()

    # --- where the scheduler is --------------------------------------------------------------------------------------

    def _enrol(self) -> None:
        """Ask for the endpoint, and connect unless already connected to it. Blocks for some seconds at most."""
        self._agent.on_seek()
        self._flush()
        try:
            target = self._credentials.target()
        except EnrolRefusedError as error:
            self._agent.on_refused(str(error))
            return
        except EnrolError as error:
            if not self._unreachable:
                log.warning("worker %s: %s; retrying", self._hello.worker, error)
            self._unreachable = str(error)
            if isinstance(error, NameTakenError):
                # By asking each second we soon learn whether that worker is alive.
                self._enrol_delay.reset()
            if self._agent.timeout_ms is not None:
                self._enrol_delay.fit(self._agent.timeout_ms)
            self._enrol_at_ms = _now().mono_ms + self._enrol_delay.next_ms()
            return
        if self._unreachable:
            log.info("worker %s: the scheduler %s is reached", self._hello.worker, self._credentials.scheduler)
        self._unreachable = ""
        self._enrol_delay.reset()
        self._enrol_at_ms = _now().mono_ms + _ENROL_AGAIN_MS
        self._connect(target)

    def _connect(self, target: Target) -> None:
        before = self._socket.target if self._socket is not None else None
        if self._socket is not None:
            # The connection may have changed during the enrolment.
            self._on_connections(self._socket)
            # After a refused or invalid handshake ZeroMQ does not try again, and does not report it.
            if self._socket.target == target and self._socket.connected and not self._dead(self._socket):
                return
            for pollable in self._socket.pollable:
                self._poller.unregister(pollable)
            self._socket.close()
            if not (self._socket.answered or self._unanswered):
                self._unanswered = True
                why = "the scheduler is not running or unreachable from here"
                if self._socket.target.server_key:
                    why += ", or does not accept this worker's key (see `zsched access list` there)"
                log.warning(
                    "worker %s: no answer from %s: %s; retrying",
                    self._hello.worker,
                    self._socket.target.endpoint,
                    why,
                )
        if target != before or not self._unanswered:
            log.info("worker %s: connecting to %s", self._hello.worker, target.endpoint)
        self._socket = Socket(self._context, target, self._credentials.pair)
        for pollable in self._socket.pollable:
            self._poller.register(pollable, zmq.POLLIN)

    def _dead(self, source: Socket) -> bool:
        """Whether a connection is dead: a cut network gives no notice."""
        timeout_ms = self._agent.timeout_ms
        return mono_ms() - source.heard_ms >= (_DEAD_MS if timeout_ms is None else timeout_ms // 2)

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


def _now() -> Now:
    return Now(mono_ms(), time.time_ns() // 1_000_000)


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
