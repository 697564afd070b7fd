"""A disk that fails when it is told to: SQLite's own file layer with faults, beneath the whole store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import apsw

_NAME = "failing-disk"


class Disk(apsw.VFS):
    """Every database opened while it exists lies on it. `fails` maps what shall fail, `write` or `sync` and the end of
    the file's name, to SQLite's extended error code.
    """

    def __init__(self) -> None:
        self.fails: dict[tuple[str, str], int] = {}
        self.syncs = 0
        super().__init__(_NAME, "unix", makedefault=True)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return _File(self, name, flags)

    def ask(self, what: str, name: str) -> None:
        for (failing, ending), code in self.fails.items():
            if what == failing and name.endswith(ending):
                error = apsw.FullError if code == apsw.SQLITE_FULL else apsw.IOError
                trouble = error(f"the disk fails at {what}")
                trouble.extendedresult = code  # type: ignore[union-attr]
                raise trouble


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        self._disk = disk
        self._name = (name.filename() if isinstance(name, apsw.URIFilename) else name) or ""
        super().__init__("unix", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.ask("sync", self._name)
        self._disk.syncs += 1
        super().xSync(flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.ask("write", self._name)
        super().xWrite(data, offset)


@contextmanager
def failing_disk() -> Iterator[Disk]:
    disk = Disk()
    try:
        yield disk
    finally:
        disk.unregister()
