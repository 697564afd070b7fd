"""Watches the operations on files in one folder: SQLite's by a VFS of its own, Python's by the functions of `os`.

The files are written as ever; what is done to them goes to a Medium besides.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import apsw

from tests.faults.images import Medium, Sync, SyncFolder, Truncate, Write

_VFS: Final = "recording"

# The first sync of such a file syncs its folder too, when it was opened to be made: unixSync in SQLite's os_unix.c.
_SYNCED_WITH_FOLDER: Final = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL


@contextmanager
def recorded_sqlite(medium: Medium, folder: Path) -> Iterator[None]:
    """Every database opened meanwhile is watched, if it is in the folder. Its shared memory is not: no file after a
    cut is worth less.
    """
    vfs = _Vfs(medium, folder)
    try:
        yield
    finally:
        vfs.unregister()
    _compare(medium, folder)


@contextmanager
def recorded_os(medium: Medium, folder: Path, *, without: Collection[str] = ()) -> Iterator[None]:
    """What is done through `os` in the folder meanwhile is watched. `without`: what is called in vain, `fdatasync` and
    `fsync` of a file, and either of the `folder`.
    """
    calls = _Calls(medium, folder, without)
    with patch.multiple(os, **{name: getattr(calls, name) for name in _CALLS}):
        yield
    _compare(medium, folder)


def _compare(medium: Medium, folder: Path) -> None:
    """Nothing was done to the files that was not seen."""
    there = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
    assert medium.content() == there, "something was done to the files that was not watched"


class _Vfs(apsw.VFS):
    def __init__(self, medium: Medium, folder: Path) -> None:
        self._medium = medium
        self._folder = str(folder.resolve())
        super().__init__(_VFS, "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None or os.path.dirname(path) != self._folder:
            return apsw.VFSFile("unix", name, flags)
        return _File(self._medium, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        if os.path.dirname(filename) == self._folder:
            self._medium.unlinked(os.path.basename(filename))
            if syncdir:
                self._medium.log.append(SyncFolder())


class _File(apsw.VFSFile):
    def __init__(self, medium: Medium, path: str, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._medium = medium
        self._inode = medium.opened(os.path.basename(path))
        self._folder_too = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _SYNCED_WITH_FOLDER)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self._medium.log.append(Write(self._inode, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._medium.log.append(Truncate(self._inode, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self._medium.log.append(Sync(self._inode))
        if self._folder_too:
            self._folder_too = False
            self._medium.log.append(SyncFolder())


_CALLS: Final = (
    "open", "close", "write", "writev", "pwrite", "ftruncate", "fsync", "fdatasync", "rename", "replace", "unlink",
    "remove",
)  # fmt: skip


class _Calls:
    """The functions of `os`, each with the same effect and a note of it."""

    def __init__(self, medium: Medium, folder: Path, without: Collection[str]) -> None:
        self._medium = medium
        self._folder = folder.resolve()
        self._without = without
        self._os: dict[str, Any] = {name: getattr(os, name) for name in _CALLS}
        # Each open descriptor's file; None is the folder itself.
        self._files: dict[int, int | None] = {}

    def _name(self, path: str | os.PathLike[str], dir_fd: int | None = None) -> str | None:
        """The name in the folder, if it is there."""
        if dir_fd is not None:
            return os.fspath(path) if self._files.get(dir_fd, -1) is None else None
        resolved = Path(path).absolute()
        return resolved.name if resolved.parent == self._folder else None

    def open(self, path: str | os.PathLike[str], flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        descriptor: int = self._os["open"](path, flags, mode, dir_fd=dir_fd)
        name = self._name(path, dir_fd)
        if name is not None:
            inode = self._files[descriptor] = self._medium.opened(name)
            if flags & os.O_TRUNC:
                self._medium.log.append(Truncate(inode, 0))
        elif dir_fd is None and Path(path).absolute() == self._folder:
            self._files[descriptor] = None
        return descriptor

    def close(self, descriptor: int) -> None:
        self._files.pop(descriptor, None)
        self._os["close"](descriptor)

    def write(self, descriptor: int, data: bytes) -> int:
        return self.writev(descriptor, [data])

    def writev(self, descriptor: int, buffers: Sequence[bytes]) -> int:
        count: int = self._os["writev"](descriptor, buffers)
        if (inode := self._files.get(descriptor)) is not None:
            offset = os.lseek(descriptor, 0, os.SEEK_CUR) - count
            self._medium.log.append(Write(inode, offset, b"".join(buffers)[:count]))
        return count

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        count: int = self._os["pwrite"](descriptor, data, offset)
        if (inode := self._files.get(descriptor)) is not None:
            self._medium.log.append(Write(inode, offset, bytes(data[:count])))
        return count

    def ftruncate(self, descriptor: int, length: int) -> None:
        self._os["ftruncate"](descriptor, length)
        if (inode := self._files.get(descriptor)) is not None:
            self._medium.log.append(Truncate(inode, length))

    def fsync(self, descriptor: int) -> None:
        self._sync("fsync", descriptor)

    def fdatasync(self, descriptor: int) -> None:
        self._sync("fdatasync", descriptor)

    def _sync(self, how: str, descriptor: int) -> None:
        self._os[how](descriptor)
        if descriptor not in self._files:
            return
        inode = self._files[descriptor]
        if (how if inode is not None else "folder") not in self._without:
            self._medium.log.append(SyncFolder() if inode is None else Sync(inode))

    def rename(self, src: str, dst: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        self._os["rename"](src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        old, new = self._name(src, src_dir_fd), self._name(dst, dst_dir_fd)
        if old is not None and new is not None:
            self._medium.renamed(old, new)

    replace = rename

    def unlink(self, path: str | os.PathLike[str], *, dir_fd: int | None = None) -> None:
        self._os["unlink"](path, dir_fd=dir_fd)
        if (name := self._name(path, dir_fd)) is not None:
            self._medium.unlinked(name)

    remove = unlink
