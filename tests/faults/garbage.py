"""Says nothing that makes sense to the port that workers connect to.

Usage: python -m tests.faults.garbage KIND PORT SECONDS SEED

KIND: `bytes` over plain TCP, some after a proper greeting; `msgpack`: random values in ZeroMQ messages; `frames`: those
of a worker, damaged. A damaged frame that still is a sound introduction is left out, because a worker
that introduces itself changes the tables rightly. Prints one line of JSON: how much was sent.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import time
from collections.abc import Callable

import msgpack
import zmq

from zsched import protocol
from zsched.protocol import Held, Output, RunResult

# ZMTP 3.0: signature, version, mechanism, filler. What follows is random.
GREETING = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL" + bytes(16) + b"\0" + bytes(31)
READY = b"\x04\x29\x05READY\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0"

# After so many messages a new connection, so that the end of one is part of it.
MESSAGES_EACH = 2_000
LONGEST_BYTES = 256 * 1024
# About what a scheduler on a small machine can read; more of it is overload, which is another test.
BREATH_S = 0.01
CONNECTIONS_EACH_BREATH = 10
MESSAGES_EACH_BREATH = 100

FRAMES: tuple[protocol.WorkerFrame, ...] = (
    protocol.Register((1,), "w1", "i1", "b1", (1, 2), slots=2, heartbeat_ms=1_000, runs=(Held(1, "running"),)),
    protocol.Heartbeat(s="s1", seq=1, n=1, window=4, ahead=2, runs=(Held(1, "running"), Held(2, "finished"))),
    protocol.Ready(s="s1", window=4, ahead=2),
    protocol.Started(s="s1", run=1, pid=100, at_ms=1),
    protocol.Result(
        s="s1", results=(RunResult(1, "success", "exit", 2, started_ms=1, exit_code=0, stdout=Output(b"a", b"b", 9)),)
    ),
    protocol.Return(s="s1", runs=(1, 2, 3)),
    protocol.Log(s="s1", run=1, stream="stdout", offset=0, data=b"x" * 1_000),
    protocol.WorkerBye(s="s1", reason="guard_lost"),
)

Message = list[bytes]


def random_bytes(chance: random.Random) -> bytes:
    """Mostly short ones, for most readers stumble in the first bytes."""
    return chance.randbytes(int(LONGEST_BYTES ** chance.random()))


def random_value(chance: random.Random, depth: int = 0) -> object:
    kind = chance.randrange(9 if depth < 6 else 7)
    match kind:
        case 0:
            return chance.choice([None, True, False])
        case 1:
            return chance.randrange(-(2**63), 2**64)
        case 2:
            return chance.uniform(-1e300, 1e300)
        case 3:
            return chance.randbytes(chance.randrange(100))
        case 4:
            return "".join(map(chr, (chance.randrange(0xD800) for _ in range(chance.randrange(30)))))
        case 5:
            return chance.choice(["t", "v", "s", "run", "register", "result", "heartbeat", 1])
        case 6:
            return msgpack.ExtType(chance.randrange(128), chance.randbytes(4))
        case 7:
            return [random_value(chance, depth + 1) for _ in range(chance.randrange(8))]
        case _:
            keys = [chance.choice(["t", "v", "s", "runs", "results", "worker"]) for _ in range(chance.randrange(8))]
            return {key: random_value(chance, depth + 1) for key in keys}


def random_msgpack(chance: random.Random) -> Message:
    """A random value, or the right keys with random values."""
    value = random_value(chance)
    if chance.random() < 0.5:
        named = msgpack.unpackb(protocol.pack(chance.choice(FRAMES)))
        value = {key: random_value(chance) if chance.random() < 0.4 else told for key, told in named.items()}
    return [msgpack.packb(value)]


def damaged_frame(chance: random.Random) -> Message:
    """A frame with bytes changed, gone, doubled or mixed with another's; or in parts, where it should be whole."""
    body = bytearray(protocol.pack(chance.choice(FRAMES)))
    for _ in range(chance.randrange(4)):
        at = chance.randrange(len(body) + 1)
        match chance.randrange(5):
            case 0:
                body[at : at + 1] = chance.randbytes(1)
            case 1:
                del body[at : at + chance.randrange(1, 9)]
            case 2:
                body[at:at] = chance.randbytes(chance.randrange(1, 9))
            case 3:
                body[at:] = protocol.pack(chance.choice(FRAMES))[at:]
            case _:
                body[at:] = b""
    if chance.random() < 0.1:
        at = chance.randrange(len(body) + 1)
        return [bytes(body[:at]), bytes(body[at:])]
    return [bytes(body)]


def introduces(message: Message) -> bool:
    """Whether it is a sound `register` after all."""
    if len(message) != 1:
        return False
    try:
        return isinstance(protocol.unpack_from_worker(message[0]), protocol.Register)
    except protocol.ProtocolError:
        return False


def send_bytes(port: int, until_s: float, chance: random.Random) -> int:
    sent = 0
    while time.monotonic() < until_s:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            # Random as they are, some may be the head of a long message that the other end then waits for.
            connection.settimeout(1.0)
            opening = chance.choice([b"", GREETING[: chance.randrange(64)], GREETING, GREETING + READY])
            try:
                connection.sendall(opening + random_bytes(chance))
            except OSError:
                continue
            sent += 1
        if sent % CONNECTIONS_EACH_BREATH == 0:
            time.sleep(BREATH_S)
    return sent


def send_messages(port: int, until_s: float, chance: random.Random, make: Callable[[random.Random], Message]) -> int:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sent = 0
    while time.monotonic() < until_s:
        with context.socket(zmq.DEALER) as dealer:
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.setsockopt(zmq.SNDTIMEO, 1_000)
            dealer.connect(f"tcp://127.0.0.1:{port}")
            for _ in range(MESSAGES_EACH):
                message = make(chance)
                if introduces(message):
                    continue
                try:
                    dealer.send_multipart(message)
                except zmq.Again:
                    break
                sent += 1
                if sent % MESSAGES_EACH_BREATH == 0:
                    time.sleep(BREATH_S)
    context.term()
    return sent


def main() -> None:
    kind, port, seconds, seed = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    chance, until_s = random.Random(seed), time.monotonic() + seconds
    if kind == "bytes":
        sent = send_bytes(port, until_s, chance)
    else:
        sent = send_messages(port, until_s, chance, {"msgpack": random_msgpack, "frames": damaged_frame}[kind])
    sys.stdout.write(json.dumps({kind: sent}) + "\n")


if __name__ == "__main__":
    main()
