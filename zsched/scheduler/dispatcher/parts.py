"""Artifacts that come before their results, in parts, until the results take them.

They are kept in memory: a result without all of its parts is not acknowledged, and its worker sends both again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from zsched import protocol
from zsched.model.files import File, size_of
from zsched.model.limits import FILE_PATH_BYTES_MAX, FILES_BYTES_MAX, FILES_MAX, PARTS_BYTES_MAX

# More than what fits the bounds of a run's artifacts is not kept.
_RUN_BYTES: Final = FILES_BYTES_MAX + FILES_MAX * FILE_PATH_BYTES_MAX


@dataclass(slots=True)
class _Parts:
    """The parts of one run so far."""

    count: int = 0
    files: list[File] = field(default_factory=list)
    size: int = 0


class Parts:
    """By session and run, the oldest first."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, int], _Parts] = {}
        self._size = 0

    def on_artifacts(self, frame: protocol.Artifacts) -> None:
        """Keep a part. The first one begins again; one that does not follow the last one drops all."""
        known = self._drop(frame.s, frame.run)
        parts = _Parts() if frame.n == 0 else known
        if parts is None or parts.count != frame.n:
            return
        parts.count += 1
        for file in frame.files:
            _add(parts.files, file)
        parts.size = size_of(parts.files)
        if parts.size > _RUN_BYTES or len(parts.files) > FILES_MAX:
            return
        self._parts[frame.s, frame.run] = parts
        self._size += parts.size
        while self._size > PARTS_BYTES_MAX:
            self._drop(*next(iter(self._parts)))

    def take(self, session: str, result: protocol.RunResult) -> tuple[File, ...] | None:
        """All artifacts of a result; None if a part of them is missing."""
        if not result.parts:
            return result.files
        parts = self._drop(session, result.run)
        if parts is None or parts.count != result.parts:
            return None
        for file in result.files:
            _add(parts.files, file)
        return tuple(parts.files)

    def _drop(self, session: str, run: int) -> _Parts | None:
        parts = self._parts.pop((session, run), None)
        if parts is not None:
            self._size -= parts.size
        return parts


def _add(files: list[File], file: File) -> None:
    if files and files[-1].path == file.path:
        file = File(file.path, files.pop().data + file.data, file.mode)
    files.append(file)
