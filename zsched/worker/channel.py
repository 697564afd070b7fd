"""The socket between guard and agent.

A message on the wire is its length in four bytes, big-endian, and the message in msgpack. msgspec encodes it, at a
fifth of the cost of msgpack and a conversion. This imports no ZeroMQ, since the guard uses it too.
"""

from __future__ import annotations

import socket
from typing import Final, Generic, TypeVar

import msgspec

from zsched.worker.messages import Message


class ChannelClosedError(Exception):
    """The other process has ended."""


ReceivedT = TypeVar("ReceivedT")

_LENGTH_BYTES: Final = 4
_READ_BYTES: Final = 256 * 1024


class Channel(Generic[ReceivedT]):
    """One end of the socket pair. Never blocks: messages that the socket does not take wait in memory.

    Their number is bounded by the worker's window: its runs and their results.
    """

    def __init__(self, end: socket.socket, received: object) -> None:
        """`received`: the union of the messages that the other side sends."""
        end.setblocking(False)
        self._socket = end
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[ReceivedT] = msgspec.msgpack.Decoder(received)
        self._incoming = bytearray()
        self._outgoing = bytearray()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def backed_up(self) -> bool:
        """Whether messages wait for the socket."""
        return bool(self._outgoing)

    def put(self, message: Message) -> None:
        """Queue a message for the next flush."""
        body = self._encoder.encode(message)
        self._outgoing += len(body).to_bytes(_LENGTH_BYTES, "big")
        self._outgoing += body

    def flush(self) -> None:
        """Send as much as the socket takes now. A closed other end is reported by `receive`."""
        while self._outgoing:
            try:
                sent = self._socket.send(self._outgoing, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self._outgoing.clear()
                return
            del self._outgoing[:sent]

    def receive(self) -> list[ReceivedT]:
        """The complete messages so far, at most one read's. Raises ChannelClosedError at the end."""
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            raise ChannelClosedError
        self._incoming += data
        return self._split()

    def close(self) -> None:
        self._socket.close()

    def _split(self) -> list[ReceivedT]:
        messages = []
        start = 0
        with memoryview(self._incoming) as view:
            while len(view) - start >= _LENGTH_BYTES:
                body = start + _LENGTH_BYTES
                end = body + int.from_bytes(view[start:body], "big")
                if end > len(view):
                    break
                messages.append(self._decoder.decode(view[body:end]))
                start = end
        del self._incoming[:start]
        return messages
