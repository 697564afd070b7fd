"""The files of the spool: one append-only file of records for each database, readable after any crash.

A record is the length of its body and a CRC32 of length and body, four bytes each, big-endian, and then the body. The
spool defines the bodies. An appended record survives the death of this process at once, and a power cut after `sync`.
Every method may raise OSError; after that the file is not reliable, and must be replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from zsched.host.files import make_folder, sync_folder
from zsched.model.limits import FOREIGN_RESULTS_S, MIB, RECORD_BYTES_MAX

_HEAD: Final = struct.Struct(">II")
# Free space on the disk that is required before a failed file is replaced.
_ROOM_BYTES: Final = 1 * MIB
_WRITE_BYTES: Final = 1 * MIB
# Database names that serve as file names. Others are hashed, to names that can't match this.
_PLAIN: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
# A longer name in `current` is damaged.
_DB_CHARS_MAX: Final = 64

log = logging.getLogger(__name__)


class Journal:
    """The folder of the files. At most one file is open: after `replace`, not after `load`."""

    def __init__(self, folder: Path) -> None:
        """Create the folder if it does not exist. Raises OSError."""
        make_folder(folder)
        self._folder = folder
        self._path = folder / _file_name("")
        self._fd: int | None = None
        self._current = self._read_current()
        # Databases whose files are known to end with a complete record.
        self._sound: set[str] = set()
        # The size of the open file.
        self.size = 0

    @property
    def is_open(self) -> bool:
        return self._fd is not None

    @property
    def current(self) -> str:
        """The last remembered database; empty without one."""
        return self._current

    def remember(self, db: str) -> None:
        """Make this the current database, also after a power cut."""
        if db != self._current:
            os.close(self._put_aside(self._folder / "current", (db.encode("utf-8", "surrogatepass"),)))
            self._current = db

    def load(self, db: str) -> Iterator[bytes]:
        """The bodies in this database's file, up to the first damaged record. A damaged rest is logged.

        Removes files of other databases that are too old.
        """
        self.close()
        self._path = self._folder / _file_name(db)
        # A file that can't be removed is not a reason to read nothing.
        with contextlib.suppress(OSError):
            self._sweep()
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            intact = 0
            for body in _bodies(file):
                intact += _HEAD.size + len(body)
                yield body
            size = os.fstat(file.fileno()).st_size
        if intact < size:
            log.error(
                "%s is damaged: the first %d of %d bytes are intact, the others are lost",
                self._path,
                intact,
                size,
            )

    def replace(self, bodies: Iterable[bytes], *, room: bool) -> None:
        """Replace the file by a new one with these bodies, synced, and open it.

        `room`: only if the disk has free space for more.
        """
        self.close()
        self._fd = self._put_aside(self._path, bodies, room=room)
        self.size = os.fstat(self._fd).st_size

    def append(self, bodies: Iterable[bytes]) -> None:
        assert self._fd is not None
        self.size += _write(self._fd, b"".join(map(_record, bodies)))

    def sync(self) -> None:
        """Sync all appended records to the disk."""
        assert self._fd is not None
        os.fdatasync(self._fd)

    def clear(self) -> None:
        """Drop all records of the open file."""
        assert self._fd is not None
        os.ftruncate(self._fd, 0)
        self.size = 0

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def leave(self, *, keep: bool) -> None:
        """Close the file: another database becomes the current one. `keep`: the file stays; its age counts from now."""
        self.close()
        self._sound.clear()
        with contextlib.suppress(FileNotFoundError):
            if keep:
                os.utime(self._path)
            else:
                self._path.unlink()

    # --- files of other databases ------------------------------------------------------------------------------------

    def others(self) -> list[str]:
        """Databases that have files here, without the current one, and without hashed names."""
        names = [path.stem for path in self._folder.glob("*.spool") if path != self._path]
        return [name for name in names if _PLAIN.fullmatch(name)]

    def read_other(self, db: str) -> Iterator[bytes]:
        """The bodies in another database's file, up to the first damaged record."""
        try:
            with (self._folder / _file_name(db)).open("rb") as file:
                yield from _bodies(file)
        except FileNotFoundError:
            return

    def append_other(self, db: str, bodies: Iterable[bytes]) -> None:
        """Append to another database's file, synced. When this raises OSError, nothing was appended."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self._folder / _file_name(db), flags, 0o600)
        try:
            if db not in self._sound:
                # Records after a torn one would never be read.
                os.ftruncate(fd, sum(_HEAD.size + len(body) for body in self.read_other(db)))
                self._sound.add(db)
            size = os.fstat(fd).st_size
            try:
                _write(fd, b"".join(map(_record, bodies)))
                os.fdatasync(fd)
            except OSError:
                self._sound.discard(db)
                os.ftruncate(fd, size)
                raise
        finally:
            os.close(fd)
        sync_folder(self._folder)

    def remove_other(self, db: str) -> None:
        """Remove another database's file."""
        self._sound.discard(db)
        (self._folder / _file_name(db)).unlink(missing_ok=True)
        sync_folder(self._folder)

    def _put_aside(self, path: Path, bodies: Iterable[bytes], *, room: bool = False) -> int:
        """Write a new file beside the old one, sync it, and rename it over the old one. Returns its descriptor."""
        aside = path.with_name(path.name + ".new")
        aside.unlink(missing_ok=True)
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if room:
                _write(fd, bytes(_ROOM_BYTES))
                os.fdatasync(fd)
                os.ftruncate(fd, 0)
            unwritten = bytearray()
            for body in bodies:
                unwritten += _record(body)
                if len(unwritten) > _WRITE_BYTES:
                    _write(fd, unwritten)
                    unwritten.clear()
            _write(fd, unwritten)
            os.fsync(fd)
            aside.replace(path)
            sync_folder(self._folder)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        return fd

    def _read_current(self) -> str:
        try:
            with (self._folder / "current").open("rb") as file:
                db = next(_bodies(file), b"\xff").decode("utf-8")
        except FileNotFoundError:
            return ""
        except UnicodeDecodeError:
            db = "?" * (_DB_CHARS_MAX + 1)
        if len(db) > _DB_CHARS_MAX:
            log.error("%s is damaged: the database of the last runs is unknown", self._folder / "current")
            return ""
        return db

    def _sweep(self) -> None:
        """Remove leftovers of a crash, and results that have waited for too long."""
        for path in self._folder.iterdir():
            waits = path.suffix == ".spool" and path != self._path
            old = waits and time.time() - path.stat().st_mtime > FOREIGN_RESULTS_S
            if old:
                days = FOREIGN_RESULTS_S // 86_400
                log.warning("%s is removed: its database was not used for %d days", path, days)
            if old or path.suffix == ".new":
                path.unlink()


def _file_name(db: str) -> str:
    plain = _PLAIN.fullmatch(db) is not None
    return f"{db if plain else '_' + hashlib.sha256(db.encode('utf-8', 'surrogatepass')).hexdigest()}.spool"


def _record(body: bytes) -> bytes:
    length = len(body).to_bytes(4, "big")
    return length + zlib.crc32(body, zlib.crc32(length)).to_bytes(4, "big") + body


def _bodies(file: BinaryIO) -> Iterator[bytes]:
    """The bodies of the records, up to the first damaged one."""
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        length, crc = _HEAD.unpack(head)
        if length > RECORD_BYTES_MAX:
            return
        body = file.read(length)
        # The CRC covers the length: else a tail of zeros would be valid records.
        if len(body) < length or zlib.crc32(body, zlib.crc32(head[:4])) != crc:
            return
        yield body


def _write(fd: int, data: bytes | bytearray) -> int:
    """Write all of the data. Returns its length."""
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            done += os.write(fd, view[done:])
    return done
