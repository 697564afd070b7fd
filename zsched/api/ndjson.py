"""POST /jobs as lines of JSON: the first line is a job, each further one is the entry of one of its tasks.

Such a body may have a million lines, so it is never in memory. It is read while it comes, its entries are packed, and
the packed blocks wait in a file without a name until the store takes them.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import falcon
import msgspec

from zsched.api.body import parse
from zsched.api.http.parser import NDJSON
from zsched.api.http.upload import UPLOAD, Upload, UploadError
from zsched.api.problem import Problem, invalid
from zsched.model.entries import Block, Entries, Packer
from zsched.model.faults import SpecError
from zsched.model.limits import ENTRY_LINE_BYTES_MAX, JOB_LINE_BYTES_MAX, KIB, LINES_MAX, MIB
from zsched.store.contract import StoreError

if TYPE_CHECKING:
    from hashlib import _Hash

_decode: Final = msgspec.json.decode
# Lines are split in pieces of the body of this size.
_PIECE_BYTES: Final = 64 * KIB
_REMEDY: Final = 'each line after the first is one JSON value, such as "a.txt"; `jq -R .` makes them from lines of text'


class Lines(NamedTuple):
    """A body: the JSON of its job, and the entries."""

    job: Any
    entries: Entries


class BlockFile(Sequence[Block]):
    """Packed blocks in a file without a name: the number of the first entry, and the block. The loop's thread reads
    them, perhaps when the request has given up, so the file is closed when nobody has this object any more.
    """

    def __init__(self, folder: Path | None) -> None:
        """Raises OSError."""
        # Open for as long as this object.
        file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        self._descriptor = file.fileno()
        self._blocks: list[tuple[int, int, int]] = []
        self._end = 0
        weakref.finalize(self, file.close)

    def append(self, block: Block) -> None:
        """Raises OSError."""
        first, packed = block
        left = memoryview(packed)
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._blocks.append((first, self._end, len(packed)))
        self._end += len(packed)

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, place: Any) -> Any:
        """Raises StoreError if the file can't be read."""
        first, begin, size = self._blocks[place]
        try:
            packed = os.pread(self._descriptor, size, begin)
        except OSError as error:
            raise StoreError(f"the stored entries can't be read: {error.strerror}") from None
        if len(packed) != size:
            raise StoreError("the stored entries can't be read: the file is too short")
        return first, packed


def receive(
    req: falcon.Request, folder: Path | None, digest: _Hash, check: Callable[[dict[str, Any]], object]
) -> Lines:
    """Read the body to its end, and add it to a digest. `check` is called with the job as soon as it is there, and may
    raise a Problem. Raises a 400, 408, 413 or 503 Problem.
    """
    job: Any = None
    try:
        packer = Packer(BlockFile(folder))
        for number, lines in _lines(_reader(req), digest):
            begin = 0
            if job is None:
                begin = next((place for place, line in enumerate(lines, 1) if line.strip()), 0)
                if not begin:
                    continue
                job = _job(number + begin - 1, bytes(lines[begin - 1]))
                check(job)
            _add(packer, number + begin, lines[begin:])
    except UploadError as error:
        code = {408: "timeout", 413: "too_large"}.get(error.status, "invalid_request")
        raise Problem(error.status, code, str(error)) from None
    except OSError as error:
        detail = f"The lines of the body can't be stored now: {error.strerror}"
        raise Problem(503, "unavailable", detail, headers={"Retry-After": "1"}) from None
    if job is None:
        raise invalid("#", "the body is empty: its first line is the job, a JSON object")
    try:
        return Lines(job, packer.finish())
    except SpecError as error:
        raise invalid(f"#/{error.field}", error.detail) from None


def is_lines(req: falcon.Request) -> bool:
    """Whether the body of a request is lines of JSON."""
    return (req.content_type or "").partition(";")[0].strip().lower() == NDJSON


def _reader(req: falcon.Request) -> Callable[[], bytes]:
    """A function that reads on; empty bytes are the end."""
    upload: Upload | None = req.env.get(UPLOAD)
    if upload is not None:
        return upload.read
    return lambda: bytes(req.bounded_stream.read(MIB))


def _lines(read: Callable[[], bytes], digest: _Hash) -> Iterator[tuple[int, list[bytearray]]]:
    """The complete lines of each piece of the body, after the number of the first of them. Raises a 413 Problem."""
    number, rest = 1, bytearray()
    for data in _pieces(read):
        digest.update(data)
        begin, newline, end = data.rpartition(b"\n")
        rest += begin if newline else end
        if newline:
            lines = rest.split(b"\n")
            yield number, lines
            number, rest = number + len(lines), bytearray(end)
        bytes_max = JOB_LINE_BYTES_MAX if number == 1 else ENTRY_LINE_BYTES_MAX
        if len(rest) > bytes_max:
            raise Problem(413, "too_large", f"line {number}: too long: at most {bytes_max} bytes")
        if number > LINES_MAX:
            raise Problem(413, "too_many", f"The body has at most {LINES_MAX} lines, empty ones included")
    if rest:
        yield number, [rest]


def _pieces(read: Callable[[], bytes]) -> Iterator[bytes]:
    """The body in small pieces: each line is an object, and a MiB may be a million lines."""
    while data := read():
        for begin in range(0, len(data), _PIECE_BYTES):
            yield data[begin : begin + _PIECE_BYTES]


def _job(number: int, line: bytes) -> dict[str, Any]:
    """The job, which stands in a line of its own. Raises a 400 Problem."""
    try:
        job = parse(line)
    except Problem as problem:
        if problem.status != 400:
            raise
        ((pointer, _),) = problem.errors
        raise _fault(number, pointer, f"{problem.detail}; the job is one line of JSON, the first one") from None
    if not isinstance(job, dict):
        raise _fault(number, "#", "the first line is the job, a JSON object")
    return job


def _add(packer: Packer, number: int, lines: Sequence[bytearray]) -> None:
    """Add the entries of lines. Raises a 400 Problem that names the line."""
    for place, line in enumerate(lines, number):
        if not line or line.isspace():
            continue
        try:
            packer.add(_entry(line))
        except ValueError as error:
            raise _fault(place, f"#/each/{packer.count}", f"{error}; {_REMEDY}") from None
        except SpecError as error:
            raise _fault(place, f"#/{error.field}", error.detail) from None


def _entry(line: bytearray) -> str:
    """The entry in a line of JSON, which is read as strictly as any body. Raises ValueError with the reason."""
    fault = ""
    try:
        value = _decode(line)
    except (ValueError, RecursionError) as error:
        value, fault = None, str(error)
    if type(value) is str:
        # So are most lines, and the decoder takes no string that a body may not have.
        return value
    try:
        value = parse(bytes(line))
    except Problem as problem:
        # A syntax error is that of the decoder, which counts the bytes of the line.
        raise ValueError(fault if fault and "not JSON" in problem.detail else problem.detail) from None
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _fault(number: int, pointer: str, why: object) -> Problem:
    return Problem(400, "invalid_request", f"line {number}: {why}", errors=((pointer, f"line {number}: {why}"),))
