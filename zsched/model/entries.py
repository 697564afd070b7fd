"""The entries of an array by `each`: one text for each task, kept in packed blocks. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from zsched.model.faults import SpecError
from zsched.model.limits import (
    ARRAY_TASKS_MAX,
    ENTRY_BLOCK_BYTES,
    ENTRY_BLOCK_LINES,
    ENTRY_BYTES_MAX,
)

# Level 1 takes a fifth of the time of the usual one, for a tenth more bytes.
_LEVEL: Final = 1
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(list[str])

# The index of a block's first entry, and its entries as `unpack` takes them.
Block = tuple[int, bytes]


class Blocks(Protocol):
    """Where packed blocks are kept: a list, or a file."""

    def append(self, block: Block, /) -> None: ...
    def __len__(self) -> int: ...
    def __getitem__(self, place: int, /) -> Block: ...
    def __iter__(self) -> Iterator[Block]: ...


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of a job. `blocks` may be read from a file: the store goes through them once."""

    count: int
    blocks: Blocks


class Packer:
    """Packs entries one by one, in bounded memory besides the blocks."""

    def __init__(self, blocks: Blocks | None = None) -> None:
        """`blocks`: where they are kept; None: in memory."""
        self.count = 0
        self._blocks: Blocks = [] if blocks is None else blocks
        self._lines: list[str] = []
        self._bytes = 0

    def add(self, entry: str) -> None:
        """Raises SpecError, with the place of the entry."""
        size = len(entry.encode())
        if size > ENTRY_BYTES_MAX:
            raise SpecError(f"each/{self.count}", f"at most {ENTRY_BYTES_MAX} bytes, not {size}: pass it in a file")
        if "\0" in entry:
            raise SpecError(f"each/{self.count}", "a NUL character can't be passed to a job")
        if self.count == ARRAY_TASKS_MAX:
            raise SpecError("each", f"at most {ARRAY_TASKS_MAX} entries: submit several jobs")
        self._lines.append(entry)
        self._bytes += size
        self.count += 1
        if len(self._lines) == ENTRY_BLOCK_LINES or self._bytes >= ENTRY_BLOCK_BYTES:
            self._close_block()

    def finish(self) -> Entries:
        """Raises SpecError without any entry."""
        if not self.count:
            raise SpecError("each", "at least one entry")
        if self._lines:
            self._close_block()
        return Entries(self.count, self._blocks)

    def _close_block(self) -> None:
        packed = zlib.compress(_ENCODER.encode(self._lines), _LEVEL)
        self._blocks.append((self.count - len(self._lines), packed))
        self._lines, self._bytes = [], 0


def pack(entries: Iterable[object]) -> Entries:
    """The entries as they are stored. A text is the entry itself; another JSON value is written as compact JSON. Raises
    SpecError.
    """
    packer = Packer()
    for entry in entries:
        packer.add(entry if isinstance(entry, str) else msgspec.json.encode(entry).decode())
    return packer.finish()


def unpack(packed: bytes) -> list[str]:
    """The entries of a block. Raises ValueError for a damaged one."""
    try:
        return _DECODER.decode(zlib.decompress(packed))
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"the stored entries are damaged: {error}") from None
