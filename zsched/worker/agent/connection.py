"""A connection of the agent to a scheduler's worker port: a DEALER socket of ZeroMQ, and its monitor."""

from __future__ import annotations

import logging
from typing import Final

import zmq
from zmq.utils.monitor import recv_monitor_message

from zsched.host.clock import mono_ms
from zsched.model.limits import CONNECT_MS_MAX, FRAME_TO_WORKER_BYTES_MAX, RECONNECT_MS_MAX, UNACKED_MS_MAX
from zsched.security.keys import Pair
from zsched.worker.agent.enrol import Target

# The time for the last frame (bye) to leave.
_LINGER_MS: Final = 500
# Frames queued in each direction. More than a window of orders never arrives; the agent repeats what was not sent.
_HIGH_WATER: Final = 1_000
_RECONNECT_MS: Final = 100

# By name: of the agent's process, as main.py.
log = logging.getLogger("zsched.worker.agent.main")


class Connection:
    """A DEALER connected to one endpoint, with the monitor of its connection.

    It sets no routing id: a second socket with the same id would receive nothing, without an error.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], target: Target, pair: Pair, index: int) -> None:
        """`index`: the scheduler in the worker's list."""
        self.target = target
        self.index = index
        self.connected = False
        # Whether it was ever connected; whether its first attempt failed; whether a frame came since somebody looked.
        self.answered = False
        self.refused = False
        self.received = False
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
        self.monitor = self.dealer.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_DISCONNECTED
            | zmq.EVENT_CONNECT_RETRIED
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
        )
        self.dealer.connect(target.endpoint)
        self.pollable = (self.dealer, self.monitor)

    def changes(self) -> list[bool]:
        """The changes of the connection since the last call: True for established, False for cut."""
        changes = []
        while self.monitor.poll(0):
            event = recv_monitor_message(self.monitor)["event"]
            if event in (zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_DISCONNECTED):
                self.connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
                self.answered |= self.connected
                self.heard_ms = mono_ms()
                changes.append(self.connected)
            self.refused = not self.answered
        return changes

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
        self.received = True
        return parts[0] if len(parts) == 1 else b""

    def close(self) -> None:
        self.dealer.disable_monitor()
        self.monitor.close(linger=0)
        self.dealer.close()
