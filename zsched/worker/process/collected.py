"""What collect.py has written: the artifacts of a run. Pure.

Other processes of the job's user may disturb it, so this is read as any text from outside.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from zsched.model.files import File, path_fault

_LENGTH_BYTES: Final = 4


class Collected(Struct, frozen=True):
    """The artifacts of a run, the number of those that were left out, and why."""

    files: tuple[File, ...] = ()
    left_out: int = 0
    why: str = ""


NOTHING: Final = Collected()


class _Header(Struct, frozen=True):
    files: list[tuple[str, int, int]]
    left_out: int
    why: list[str]


def read_collected(data: bytes) -> Collected:
    """What collect.py has written. Raises ValueError for anything else."""
    begin = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "big")
    try:
        header = msgspec.json.decode(data[_LENGTH_BYTES:begin], type=_Header)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    files = []
    for path, size, mode in header.files:
        if size < 0 or begin + size > len(data) or path_fault(path) or mode & ~0o777:
            raise ValueError("invalid file")
        files.append(File(path, data[begin : begin + size], mode))
        begin += size
    if begin != len(data) or header.left_out < 0:
        raise ValueError("invalid length")
    return Collected(tuple(files), header.left_out, "; ".join(header.why))
