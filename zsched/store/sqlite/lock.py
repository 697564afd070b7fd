"""The exclusive lock on a database, and checks of its file.

There are two locks, because a database is an inode and files with names derived from its own:

- An open file description lock on the inode excludes a scheduler that opens the file by a hard link or a bind mount,
  even after the folder `<db>.d` was removed.
- An flock on `<db>.d/lock` excludes a scheduler of a file that replaced ours, because `-wal`, `-shm` and `api.sock` are
  found by name. It also excludes older releases, which use only this lock. The file holds our pid.

The inode is opened once and never closed: closing any descriptor of a file drops all POSIX locks of the process on that
file, including those of SQLite (https://www.sqlite.org/howtocorrupt.html, section 2.2).
"""

from __future__ import annotations

import errno
import fcntl
import glob
import logging
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from zsched.host import files
from zsched.store.contract import StoreError, StoreLocked, StoreLoose, StoreMisplaced
from zsched.store.folder import FolderLock, Inode, displaced, inode_of
from zsched.store.sqlite.head import HEADER_BYTES, Head

log = logging.getLogger(__name__)

# Suffixes of the files next to a database that SQLite trusts like the database.
COMPANIONS: Final = ("-wal", "-shm", "-journal")

# SQLite locks 512 bytes from 0x40000000 on. These bytes are above them and valid offsets on any file system. A
# scheduler locks the first, a command that writes a copy the second.
_LOCK_BYTE: Final = 0x4000_1000
_COPY_BYTE: Final = 0x4000_1001

# Length of a WAL's header. A WAL of this length contains no frame.
_WAL_HEADER_BYTES: Final = 32


def folder_of(db: Path) -> Path:
    """The folder of a database: next to it, with its name and `.d`."""
    return db.with_name(f"{db.name}.d")


class Lock:
    """The exclusive lock on a database, held until `close` or the process's end.

    `path` and `folder`: the database, and the folder next to it, with links resolved. The folder's name is that of the
    database with `.d`; no setting changes it.
    """

    def __init__(self, db: Path, *, make: bool = True) -> None:
        """Take both locks. Creates the folder (0700), and with `make` the file (0600), if they are missing.

        Raises StoreLocked if another process holds a lock, StoreLoose if other users have access to a file or the
        folder, StoreMisplaced if the file is missing but its WAL exists, StoreError if a file can't be used.
        """
        self._file: int | None = None
        try:
            self.path = files.resolve(db)
        except files.InsecureError as error:
            raise StoreLoose(str(error)) from None
        except OSError as error:
            raise StoreError(f"can't open the database {db}: {error.strerror}") from None
        self._names = FolderLock(folder_of(self.path))
        self.folder = self._names.folder
        try:
            self._lock_file(make=make)
        except BaseException:
            self.close()
            raise

    def _lock_file(self, *, make: bool) -> None:
        if make:
            self._demand_no_remains()
        try:
            demand_own_files(self.path)
            self._file = os.open(
                self.path, os.O_RDWR | (os.O_CREAT if make else 0) | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            record = _record(fcntl.F_WRLCK, _LOCK_BYTE)
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, record)
            stored = os.fstat(self._file)
            files.demand_own(self.path, stored)
        except FileNotFoundError:
            if make:
                raise StoreError(f"can't open the database {self.path}: its folder is missing") from None
            return
        except files.InsecureError as error:
            raise StoreLoose(str(error)) from None
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES) and self._file is not None:
                raise StoreLocked(
                    f"another scheduler has {self.path} open by another name (a hard link or a mount), or its folder"
                    f" {self.folder} was removed"
                ) from None
            raise StoreError(f"can't open the database {self.path}: {error.strerror}") from None
        if stored.st_nlink > 1:
            log.warning("%s has %d names (hard links): SQLite keeps a WAL for each name", self.path, stored.st_nlink)
        if self.path.parent.stat().st_mode & stat.S_IWOTH:
            line = "all users may write in %s: keep the database in a folder that only its owner may write in"
            log.warning(line, self.path.parent)

    def _demand_no_remains(self) -> None:
        """Raise StoreMisplaced if there is a rescue copy, or a WAL without its file, that a start would ignore."""
        for rescue in sorted(self.path.parent.glob(f"{glob.escape(self.path.name)}.rescue-*")):
            raise StoreMisplaced(
                f"{rescue} was saved when {self.path} was deleted or replaced:"
                f" {how_to_restore(self.path, rescue)}, or move it away"
            )
        if not self.path.exists() and wal_has_frames(self.path):
            raise StoreMisplaced(
                f"{self.path} is missing, but its WAL {self.path}-wal exists: put the file back, or"
                f" {how_to_restore(self.path)}"
            )

    @property
    def descriptor(self) -> int | None:
        """Descriptor of the file, for reading; None if there was no file."""
        return self._file

    def head(self) -> Head | None:
        """The header in the file itself, without its WAL; None if the file is not a database."""
        return None if self._file is None else read_head(self._file)

    def displaced(self) -> str | None:
        """What happened to the file's name since it was locked, as a predicate; None while it names our file."""
        assert self._file is not None
        return displaced(self.path, inode_of(os.fstat(self._file)))

    def keep(self) -> bool:
        """Create the folder and its lock again if they were removed; returns whether they were.

        Raises StoreLocked, InsecureError, OSError.
        """
        return self._names.keep()

    def close(self) -> None:
        """Release both locks. The file stays open."""
        if self._file is not None:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK, _record(fcntl.F_UNLCK, _LOCK_BYTE))
        self._names.close()

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _record(kind: int, byte: int) -> bytes:
    """The struct flock of fcntl(2) in native alignment: l_type, l_whence, l_start, l_len, l_pid."""
    return struct.pack("@hhqqi0q", kind, os.SEEK_SET, byte, 1, 0)


def demand_name(db: Path, descriptor: int) -> None:
    """Raise StoreError if a scheduler has opened the file by another name than `db`. Raises OSError.

    Then the WAL next to `db` is not the WAL that the scheduler writes.
    """
    conflict = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _record(fcntl.F_WRLCK, _LOCK_BYTE))
    if struct.unpack_from("@h", conflict) == (fcntl.F_UNLCK,):
        return
    path = files.resolve(db)
    with suppress(FileNotFoundError):
        names = os.open(folder_of(path) / "lock", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if not files.try_lock(names, shared=True):
                return
        finally:
            os.close(names)
    raise StoreError(
        f"a scheduler has {path} open by another name (a hard link or a mount), which its WAL is named after, or its"
        " folder `.d` was removed: use the scheduler's name, or stop it first"
    )


def hold_copy(descriptor: int) -> bool:
    """Lock an unfinished copy until the descriptor is closed. False: another command holds it. Raises OSError.

    Not by flock: NFS maps it to a lock on the whole file, which would exclude SQLite.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _record(fcntl.F_WRLCK, _COPY_BYTE))
    except (BlockingIOError, PermissionError):
        return False
    return True


class Companions:
    """The `-wal` and `-shm` of an open database at the time of the call.

    SQLite keeps using these inodes, whatever their names refer to later.
    """

    def __init__(self, db: Path) -> None:
        self._inodes: dict[Path, Inode] = {}
        for suffix in ("-wal", "-shm"):
            path = db.with_name(db.name + suffix)
            with suppress(OSError):
                self._inodes[path] = inode_of(path.lstat())

    def displaced(self) -> str | None:
        """What happened to the first displaced file, as the start of a sentence; None while all are in place."""
        for path, inode in self._inodes.items():
            if (predicate := displaced(path, inode)) is not None:
                return f"{path} {predicate}"
        return None

    def remove(self) -> None:
        """Remove those files that are not displaced."""
        for path, inode in self._inodes.items():
            if displaced(path, inode) is None:
                with suppress(OSError):
                    path.unlink()


def read_head(descriptor: int) -> Head | None:
    """The header of an open file; None if it is not a regular file or not a database. Raises OSError."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    return Head.parse(os.pread(descriptor, HEADER_BYTES, 0))


def wal_has_frames(db: Path) -> bool:
    """Whether the WAL next to a database contains frames that SQLite may replay."""
    try:
        return db.with_name(f"{db.name}-wal").stat().st_size > _WAL_HEADER_BYTES
    except OSError:
        return False


def demand_own_files(path: Path) -> None:
    """Raise InsecureError if another user owns a database's file, or a file next to it that SQLite trusts. OSError.

    Opens no file: a process that has the database open must not close another descriptor of it.
    """
    with suppress(FileNotFoundError):
        files.demand_own(path, path.lstat())
    for suffix in COMPANIONS:
        companion = path.with_name(path.name + suffix)
        with suppress(FileNotFoundError):
            status = companion.lstat()
            files.demand_own(companion, status)
            # A file that others may only read may be part of a copy, and exposes no more than that copy.
            if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                files.demand_private(companion, status)


def how_to_restore(db: Path, backup: object = "BACKUP") -> str:
    """The remedy for a database that can't be used, as the end of an error."""
    return f"run `zsched db restore {backup} --db={db}`"
