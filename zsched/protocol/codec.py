"""Frames as bytes: packing, and strict unpacking. Pure.

Called by the scheduler's loop and by the agent's process, which see bytes; dispatcher and agent see frames. Unpacking
returns a frame or raises ProtocolError, whatever the bytes are.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack
import msgspec

from zsched.model.limits import (
    FRAME_FROM_WORKER_BYTES_MAX,
    FRAME_KEYS_MAX,
    FRAME_LIST_MAX,
    FRAME_TO_WORKER_BYTES_MAX,
    FRAME_VALUES_MAX,
)
from zsched.protocol.frames import SchedulerFrame, WorkerFrame

# msgpack's initial buffer. Its default, 256 KiB, costs ten times as much as packing a frame.
_BUFFER_BYTES: Final = 1024


class ProtocolError(Exception):
    """The peer sent bytes that are not a valid frame. The sentence may be sent back to it; no state was changed."""


def pack(frame: WorkerFrame | SchedulerFrame) -> bytes:
    """Encode a frame."""
    packed: bytes = msgpack.packb(
        msgspec.to_builtins(frame, builtin_types=(bytes,)), use_bin_type=True, buf_size=_BUFFER_BYTES
    )
    return packed


def unpack_from_worker(body: bytes) -> WorkerFrame:
    """Decode a frame that a worker sent. Raises only ProtocolError."""
    frame: WorkerFrame = _convert(body, FRAME_FROM_WORKER_BYTES_MAX, WorkerFrame)
    return frame


def unpack_from_scheduler(body: bytes) -> SchedulerFrame:
    """Decode a frame that the scheduler sent. Raises only ProtocolError."""
    frame: SchedulerFrame = _convert(body, FRAME_TO_WORKER_BYTES_MAX, SchedulerFrame)
    return frame


def _convert(body: bytes, bytes_max: int, frames: Any) -> Any:
    try:
        return msgspec.convert(_decode(body, bytes_max), frames)
    except msgspec.ValidationError as error:
        raise ProtocolError(str(error)) from None


def _decode(body: bytes, bytes_max: int) -> object:
    """Decode one msgpack value. msgpack itself limits nesting and false lengths; the stricter rules stand here."""
    if len(body) > bytes_max:
        raise ProtocolError(f"invalid frame: {len(body)} bytes; send at most {bytes_max} bytes")
    # Each value takes at least one byte, so the values of most frames need not be counted.
    if len(body) > FRAME_VALUES_MAX and _values_exceed(body, FRAME_VALUES_MAX):
        raise ProtocolError(f"invalid frame: too many values; send at most {FRAME_VALUES_MAX} values")
    try:
        return msgpack.unpackb(
            body,
            object_pairs_hook=_unique_keys,
            ext_hook=_no_extensions,
            max_array_len=FRAME_LIST_MAX,
            max_map_len=FRAME_KEYS_MAX,
        )
    except ProtocolError:
        raise
    # msgpack raises ValueError and its own classes, TypeError for unhashable keys, RecursionError for depth.
    except Exception as error:
        raise ProtocolError(f"not a msgpack map: {type(error).__name__}") from None


# The encoded size of a value by its first byte; for an array or a map, of its header alone. 0: a length field follows.
_SIZES: Final = bytes(
    (
        *[1] * 0xA0,  # small integers, maps and arrays
        *range(1, 33),  # short strings
        *(1, 1, 1, 1),  # nil, one that is never used, false, true
        *(0, 0, 0, 0, 0, 0),  # binaries, extensions
        *(5, 9),  # floats
        *(2, 3, 5, 9, 2, 3, 5, 9),  # integers
        *(3, 4, 6, 10, 18),  # short extensions
        *(0, 0, 0),  # strings
        *(3, 5, 3, 5),  # arrays, maps
        *[1] * 0x20,  # small negative integers
    )
)
# The width of the length field, and the bytes before the content, by the value's first byte.
_LENGTHS: Final = (
    {0xC4: (1, 2), 0xC5: (2, 3), 0xC6: (4, 5)}  # binaries
    | {0xC7: (1, 3), 0xC8: (2, 4), 0xC9: (4, 6)}  # extensions, which also have a type byte
    | {0xD9: (1, 2), 0xDA: (2, 3), 0xDB: (4, 5)}  # strings
)


def _values_exceed(body: bytes, values_max: int) -> bool:
    """Count the values without building any: step from header to header, at every depth of nesting."""
    at, end = 0, len(body)
    for _ in range(values_max + 1):
        if at >= end:
            return False
        if size := _SIZES[body[at]]:
            at += size
        else:
            width, before = _LENGTHS[body[at]]
            at += before + int.from_bytes(body[at + 1 : at + 1 + width])
    return True


def _unique_keys(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ProtocolError("invalid frame: duplicate key in a map")
    return members


def _no_extensions(_code: int, _data: bytes) -> object:
    raise ProtocolError("invalid frame: msgpack extension types are not supported")
