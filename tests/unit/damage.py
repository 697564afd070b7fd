"""What can become of bytes on the way, and of the values that they stand for."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgpack

# The first bytes of what has a length in msgpack, and some that mean something in JSON.
HEADS = bytes([0x80, 0x81, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, *range(0xC0, 0xE0), 0xFF, 0x00, 0x7F, *b'{}[]",:\\0-eE'])
# One of each type, and those at the edges of them.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0.0, -0.5, 1e308),
    *("", "a", "\0", "é" * 40, "a" * 300, [], [[]], [1, "a", None], {}, {"": 0}, {"t": "ready"}),
)
# What only msgpack has.
MSGPACK_VALUES: tuple[Any, ...] = (
    *VALUES,
    *(2**64 - 1, float("inf"), float("nan"), b"", b"\0", b"a" * 300, {1: 2}, {b"t": 1}, msgpack.ExtType(5, b"x")),
    *(msgpack.Timestamp(1), msgpack.Timestamp(-(2**62), 999_999_999)),
)


def flipped(chance: random.Random, body: bytes, _other: bytes) -> bytes:
    """Some bits are others."""
    made = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        if made:
            made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
    return bytes(made)


def cut(chance: random.Random, body: bytes, _other: bytes) -> bytes:
    """The end is missing, or the beginning, or something between."""
    begin, end = sorted(chance.randint(0, len(body)) for _ in range(2))
    return chance.choice((body[:end], body[begin:], body[:begin] + body[end:]))


def spliced(chance: random.Random, body: bytes, other: bytes) -> bytes:
    """A piece of another, or of itself, stands in it."""
    source = chance.choice((body, other))
    begin, end = sorted(chance.randint(0, len(source)) for _ in range(2))
    at, to = sorted(chance.randint(0, len(body)) for _ in range(2))
    return body[:at] + source[begin:end] + body[chance.choice((at, to)) :]


def headed(chance: random.Random, body: bytes, _other: bytes) -> bytes:
    """A byte is one that begins something else, and what follows is taken for a length."""
    made = bytearray(body)
    for _ in range(chance.randint(1, 3)):
        at = chance.randint(0, len(made))
        made[at : at + chance.randint(0, 1)] = bytes([chance.choice(HEADS)]) + chance.choice(
            (b"", b"\xff" * 4, bytes(4))
        )
    return bytes(made)


BYTES: dict[str, Callable[[random.Random, bytes, bytes], bytes]] = {
    "flips": flipped,
    "cuts": cut,
    "splices": spliced,
    "heads": headed,
}


def swapped(chance: random.Random, value: Any, values: tuple[Any, ...]) -> Any:
    """The same value with one within it replaced by another, of whatever type; or one more, or less."""
    if not isinstance(value, (dict, list)) or not value or chance.random() < 0.1:
        return chance.choice(values)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        kept = [value[at]] * chance.choice((1, 1, 1, 0, 2))
        return [*value[:at], *(swapped(chance, one, values) for one in kept), *value[at + 1 :]]
    made = dict(value)
    name = chance.choice(list(made))
    match chance.randrange(6):
        case 0:
            del made[name]
        case 1:
            made[chance.choice(("", "x", name * 2 if isinstance(name, str) else "x"))] = chance.choice(values)
        case _:
            made[name] = swapped(chance, made[name], values)
    return made
