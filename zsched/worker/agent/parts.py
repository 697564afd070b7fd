"""Results with artifacts as frames: what does not fit a result goes ahead in parts. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from zsched.model.files import File
from zsched.model.limits import PART_BYTES_MAX, RESULTS_BYTES_MAX
from zsched.protocol import Artifacts, Result, RunResult

# The bytes of a result in a frame, besides its output, its `detail` and its files; and those of a file, besides its
# content and its path.
_RESULT_BYTES: Final = 512
_FILE_BYTES: Final = 64


def result_bytes(result: RunResult) -> int:
    """An upper bound of its bytes in a frame."""
    kept = [result.stdout.head, result.stdout.tail, result.stderr.head, result.stderr.tail]
    files = sum(map(_file_bytes, result.files))
    return _RESULT_BYTES + 4 * len(result.detail) + sum(map(len, kept)) + files


def frames(session: str, results: tuple[RunResult, ...]) -> list[Artifacts | Result]:
    """The frames of results that are reported together: several only if they fit one frame."""
    made: list[Artifacts | Result] = []
    if len(results) == 1 and result_bytes(results[0]) > RESULTS_BYTES_MAX:
        (result,) = results
        for files in _split(result.files):
            made.append(Artifacts(s=session, run=result.run, n=len(made), files=files))
        results = (replace(result, files=(), parts=len(made)),)
    return [*made, Result(s=session, results=results)]


def _split(files: tuple[File, ...]) -> Iterator[tuple[File, ...]]:
    """Files in parts of PART_BYTES_MAX at most. A file may go on in the next part."""
    part: list[File] = []
    room = PART_BYTES_MAX
    for file in files:
        rest = file
        while _file_bytes(rest) > room:
            head = max(0, room - _file_bytes(replace(rest, data=b"")))
            if head:
                part.append(replace(rest, data=rest.data[:head]))
                rest = replace(rest, data=rest.data[head:])
            yield tuple(part)
            part, room = [], PART_BYTES_MAX
        part.append(rest)
        room -= _file_bytes(rest)
    if part:
        yield tuple(part)


def _file_bytes(file: File) -> int:
    """An upper bound of its bytes in a frame. A character of the path has at most four."""
    return _FILE_BYTES + 4 * len(file.path) + len(file.data)
