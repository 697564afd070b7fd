"""A host's disk, as far as a spool needs one: what was written outlives the guard, what was synced the host too."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from random import Random
from typing import Final, Literal

import msgspec

from tests.sim.violation import Violation
from zsched.protocol import RunResult

# What a write leaves that had not enough space: nothing can be read from there on.
_TORN: Final = b""

Trouble = Literal["full", "sync"]


@dataclass(slots=True)
class _File:
    """`spoilt`: a sync of it has failed, and no later one of the same file saves anything."""

    written: list[bytes] = field(default_factory=list)
    synced: list[bytes] = field(default_factory=list)
    spoilt: bool = False

    @property
    def readable(self) -> Iterator[bytes]:
        return takewhile(bool, self.written)

    def copy(self) -> _File:
        return _File(list(self.written), list(self.synced))


class Disk:
    """The files of the spool by database, and which one is the current. `trouble`: it has no space left, or syncs
    fail. `failed`: some write or sync has failed, and no new file has been written since, by the guard that is
    there now; `ever_failed`: at any time.
    """

    def __init__(self, chance: Random | None = None) -> None:
        self.files: dict[str, _File] = {}
        self.current = ""
        self.trouble: Trouble | None = None
        self.failed = self.ever_failed = False
        self.chance = chance or Random(0)

    def demand(self, trouble: Trouble, *, current: bool = True) -> None:
        """Raises OSError while the disk has this trouble. `current`: for the file of the current database."""
        if self.trouble == trouble:
            self.failed |= current
            self.ever_failed = True
            number = errno.ENOSPC if trouble == "full" else errno.EIO
            raise OSError(number, os.strerror(number))

    def holds(self, run: int, db: str | None = None) -> bool:
        """Whether a run's result is written, and not that it was forgotten. `db`: not the current database."""
        return run in self.kept(db)

    def kept(self, db: str | None = None) -> set[int]:
        """The runs with a written result that is not forgotten."""
        kept: set[int] = set()
        for body in self.files.get(db or self.current, _File()).readable:
            kind, what = msgspec.msgpack.decode(body)
            if kind == "kept":
                kept.add(what["run"])
            else:
                kept.difference_update(what)
        return kept

    def cut_power(self, chance: Random) -> None:
        """Of what was not synced any part may be there."""
        for file in self.files.values():
            rest = file.written[len(file.synced) :]
            if file.written[: len(file.synced)] == file.synced and rest:
                file.written = file.synced + rest[: chance.randint(0, len(rest))]
            else:
                file.written = file.synced
            file.synced = list(file.written)


class VirtualJournal:
    """What journal.Journal is to the spool."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        disk.failed = False
        self._db = ""
        self._open = False
        # For the judge: runs with a written or synced result, by database; and those reported in this turn.
        self._written: dict[str, set[int]] = {}
        self._synced: dict[str, set[int]] = {}
        self._told: set[int] = set()
        self.size = 0

    @property
    def is_open(self) -> bool:
        return self._open

    @property
    def current(self) -> str:
        return self._disk.current

    def remember(self, db: str) -> None:
        if db != self._disk.current:
            self._disk.demand("full")
            self._disk.current = db

    def load(self, db: str) -> Iterator[bytes]:
        self._db, self._open = db, False
        yield from self._disk.files.get(db, _File()).readable

    def replace(self, bodies: Iterable[bytes], *, room: bool) -> None:
        """A new file takes the old one's place only when all of it is synced."""
        self._open = False
        self._disk.demand("full")
        self._disk.demand("sync")
        file = self._disk.files[self._db] = _File(list(bodies))
        file.synced = list(file.written)
        self._disk.failed = False
        self._open = True
        self.size = sum(map(len, file.written))
        self._written[self._db] = {run for body in file.written if (run := _kept(body)) is not None}
        self._synced[self._db] = set(self._written[self._db])

    def append(self, bodies: Iterable[bytes]) -> None:
        bodies = list(bodies)
        try:
            self._disk.demand("full")
        except OSError:
            self._file.written += [*bodies[: self._disk.chance.randint(0, len(bodies) - 1)], _TORN]
            raise
        for body in bodies:
            self._file.written.append(body)
            self.size += len(body)
            if (run := _kept(body)) is not None:
                self._written[self._db].add(run)

    def sync(self) -> None:
        file = self._file
        try:
            self._disk.demand("sync")
        except OSError:
            file.spoilt = True
            raise
        if not file.spoilt:
            file.synced = list(file.written)
            self._synced[self._db] |= self._written[self._db]

    def clear(self) -> None:
        self._file.written = []
        self.size = 0

    def close(self) -> None:
        self._open = False

    def leave(self, *, keep: bool) -> None:
        self._open = False
        if not keep:
            self._disk.files.pop(self._db, None)

    # --- files of other databases ---

    def others(self) -> list[str]:
        return [db for db in self._disk.files if db != self._db]

    def read_other(self, db: str) -> Iterator[bytes]:
        yield from self._disk.files.get(db, _File()).readable

    def append_other(self, db: str, bodies: Iterable[bytes]) -> None:
        self._disk.demand("full", current=False)
        self._disk.demand("sync", current=False)
        file = self._disk.files.setdefault(db, _File())
        file.written = [*file.readable, *bodies]
        file.synced = list(file.written)

    def remove_other(self, db: str) -> None:
        self._disk.files.pop(db, None)

    def see_told(self, results: Iterable[RunResult]) -> None:
        """No result is reported before it survives the death of its guard, unless the disk fails."""
        for result in results:
            self._told.add(result.run)
            if not self._disk.failed and not any(result.run in runs for runs in self._written.values()):
                raise Violation(f"the result of run {result.run} is told before it is written to disk")

    def see_turned(self) -> None:
        """A reported result survives a power cut soon after, unless the disk fails."""
        if (unsafe := self._told.difference(*self._synced.values())) and not self._disk.failed:
            raise Violation(f"the result of run {min(unsafe)} is told, and is not synced to disk")
        self._told.clear()

    @property
    def _file(self) -> _File:
        return self._disk.files[self._db]


def _kept(body: bytes) -> int | None:
    """The run whose result a record keeps; None for another record."""
    kind, what = msgspec.msgpack.decode(body)
    return int(what["run"]) if kind == "kept" else None
