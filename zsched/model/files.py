"""Small files that go with a job to its worker, and that come back as artifacts: their rules, and how they are stored.

Paths are relative to the scratch folder of a run. A path is checked at the submit, again where it is used, and for
artifacts by the scheduler too, because a worker may be of another author. Pure.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from msgspec import Meta, Struct

from zsched.model.faults import SpecError
from zsched.model.fields import Codec
from zsched.model.limits import (
    ARTIFACT_PATTERNS_MAX,
    FILE_MODE_DEFAULT,
    FILE_PATH_BYTES_MAX,
    FILES_BYTES_MAX,
    FILES_MAX,
    PATH_PART_BYTES_MAX,
)

# What an error about size says: where larger files belong.
SHARED_STORAGE: Final = "put larger files on shared storage and pass their paths"
_MODE: Final = re.compile("0?[0-7]{3}")


class File(Struct, frozen=True, gc=False):
    """A small file. `mode`: its permission bits."""

    path: Annotated[str, Meta(min_length=1, max_length=FILE_PATH_BYTES_MAX)]
    data: Annotated[bytes, Meta(max_length=FILES_BYTES_MAX)]
    mode: Annotated[int, Meta(ge=0, le=0o777)] = FILE_MODE_DEFAULT


class FileBody(Struct, forbid_unknown_fields=True, frozen=True):
    """A file in JSON: its content as a text or in base64, and its permission bits in octal."""

    text: str | None = None
    base64: str | None = None
    mode: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """A stored file without its content."""

    path: str
    size: int
    mode: int


# --- paths -----------------------------------------------------------------------------------------------------------


def path_fault(path: str) -> str:
    """Why a path can't be that of a file in a scratch folder; empty if it can be."""
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        return "UTF-8 only"
    if size > FILE_PATH_BYTES_MAX:
        return f"at most {FILE_PATH_BYTES_MAX} bytes, not {size}"
    if "\0" in path:
        return "a NUL character can't be in a path"
    parts = path.split("/")
    if path.startswith("/"):
        return "a path relative to the scratch folder: leave out the leading /"
    if any(part in ("", ".", "..") for part in parts):
        return "a path without empty parts, . and .."
    if any(len(part.encode()) > PATH_PART_BYTES_MAX for part in parts):
        return f"at most {PATH_PART_BYTES_MAX} bytes between two slashes"
    return ""


def check_patterns(field: str, patterns: Sequence[str]) -> None:
    """Check the patterns of artifacts. Raises SpecError."""
    if len(patterns) > ARTIFACT_PATTERNS_MAX:
        raise SpecError(field, f"at most {ARTIFACT_PATTERNS_MAX} patterns, not {len(patterns)}")
    for place, pattern in enumerate(patterns):
        fault = path_fault(pattern) or ("" if pattern.isprintable() else "printable characters only")
        if fault:
            raise SpecError(f"{field}/{place}", fault)


# --- the files of a job ----------------------------------------------------------------------------------------------


def read_files(field: str, given: Mapping[str, str | FileBody]) -> tuple[File, ...]:
    """The files of a submitted job, by path. Raises SpecError."""
    if len(given) > FILES_MAX:
        raise SpecError(field, f"at most {FILES_MAX} files, not {len(given)}: pack them into an archive")
    files = tuple(_read_file(f"{field}/{_step(path)}", path, body) for path, body in sorted(given.items()))
    folders = {folder for file in files for folder in _folders(file.path)}
    for file in files:
        if file.path in folders:
            raise SpecError(f"{field}/{_step(file.path)}", "it is the folder of another file")
    if (size := sum(len(file.data) for file in files)) > FILES_BYTES_MAX:
        raise SpecError(field, f"at most {FILES_BYTES_MAX} bytes in all, not {size}: {SHARED_STORAGE}")
    return files


def _read_file(where: str, path: str, body: str | FileBody) -> File:
    if fault := path_fault(path) or ("" if path.isprintable() else "printable characters only"):
        raise SpecError(where, fault)
    if isinstance(body, str):
        return File(path, body.encode())
    if (body.text is None) == (body.base64 is None):
        raise SpecError(where, "either text or base64")
    mode = FILE_MODE_DEFAULT
    if body.mode is not None:
        if not _MODE.fullmatch(body.mode):
            raise SpecError(f"{where}/mode", "octal digits from 000 to 777, such as 755")
        mode = int(body.mode, 8)
    if body.base64 is None:
        return File(path, (body.text or "").encode(), mode)
    try:
        return File(path, base64.b64decode(body.base64, validate=True), mode)
    except ValueError:
        raise SpecError(f"{where}/base64", "base64 as RFC 4648 has it, with padding") from None


def _folders(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _step(name: str) -> str:
    """A name as a step of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def size_of(files: Iterable[File]) -> int:
    """Bytes of files with their paths, roughly as a frame has them."""
    return sum(len(file.data) + len(file.path) for file in files)


# --- artifacts -------------------------------------------------------------------------------------------------------


def accept(files: Iterable[File]) -> tuple[tuple[File, ...], int]:
    """The artifacts of a run that can be stored, in order, and the number of the others."""
    accepted: dict[str, File] = {}
    refused, room = 0, FILES_BYTES_MAX
    for file in files:
        fits = len(file.data) <= room and len(accepted) < FILES_MAX
        if not fits or file.path in accepted or path_fault(file.path):
            refused += 1
            continue
        accepted[file.path] = file
        room -= len(file.data)
    return tuple(accepted.values()), refused


# --- as stored -------------------------------------------------------------------------------------------------------


def pack(files: Iterable[File]) -> tuple[str, bytes]:
    """Files as two columns: what is known of each as JSON, and their contents one after another."""
    kept = list(files)
    listing = json.dumps([[file.path, len(file.data), file.mode] for file in kept], ensure_ascii=False)
    return listing, b"".join(file.data for file in kept)


def read_listing(listing: str) -> list[Listed]:
    """The files in a listing of `pack`. Raises ValueError, TypeError for a damaged one."""
    return [Listed(str(path), int(size), int(mode)) for path, size, mode in json.loads(listing)]


def unpack(listing: str, content: bytes) -> tuple[File, ...]:
    """What `pack` packed. Raises ValueError, TypeError for damaged columns."""
    files, begin = [], 0
    for listed in read_listing(listing):
        files.append(File(listed.path, content[begin : begin + listed.size], listed.mode))
        begin += listed.size
    if begin != len(content):
        raise ValueError("the stored files are damaged")
    return tuple(files)


def mode_text(mode: int) -> str:
    """Permission bits as JSON has them."""
    return f"{mode:04o}"


def _shown(files: Iterable[File]) -> dict[str, FileBody]:
    return {
        file.path: FileBody(base64=base64.b64encode(file.data).decode(), mode=mode_text(file.mode)) for file in files
    }


# Files as a worker that polls gets them.
FILES: Final = Codec(show=_shown, shown=dict[str, FileBody], nullable=True)
