"""A host's disk, as far as a spool needs one: what was written outlives the guard, what was synced the host too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random

import msgspec

from tests.sim.violation import Violation
from zsched.protocol import RunResult


@dataclass(slots=True)
class _File:
    written: list[bytes] = field(default_factory=list)
    synced: list[bytes] = field(default_factory=list)

    def copy(self) -> _File:
        return _File(list(self.written), list(self.synced))


class Disk:
    """The files of the spool by database, and which one is the current."""

    def __init__(self) -> None:
        self.files: dict[str, _File] = {}
        self.current = ""

    def holds(self, run: int, db: str | None = None) -> bool:
        """Whether a run's result is written, and not that it was forgotten. `db`: not the current database."""
        held = False
        for body in self.files.get(db or self.current, _File()).written:
            kind, what = msgspec.msgpack.decode(body)
            if kind == "kept" and what["run"] == run:
                held = True
            elif kind == "forgotten" and run in what:
                held = False
        return held

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
        self._db = ""
        self._open = False
        # Runs whose results are written, and synced; and those told in this turn. For the judge's eyes only.
        self._written: set[int] = set()
        self._synced: set[int] = set()
        self._told: set[int] = set()
        self.size = 0

    @property
    def is_open(self) -> bool:
        return self._open

    @property
    def current(self) -> str:
        return self._disk.current

    def remember(self, db: str) -> None:
        self._disk.current = db

    def load(self, db: str) -> Iterator[bytes]:
        # What was told of another database's is synced by now.
        self.see_turned()
        self._db, self._open = db, False
        self._written.clear()
        self._synced.clear()
        yield from self._disk.files.get(db, _File()).written

    def replace(self, bodies: Iterable[bytes], *, room: bool) -> None:
        self._disk.files[self._db] = _File()
        self._open = True
        self.size = 0
        self.append(bodies)
        self.sync()

    def append(self, bodies: Iterable[bytes]) -> None:
        for body in bodies:
            self._file.written.append(body)
            self.size += len(body)
            kind, what = msgspec.msgpack.decode(body)
            if kind == "kept":
                self._written.add(what["run"])

    def sync(self) -> None:
        self._file.synced = list(self._file.written)
        self._synced |= self._written

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
        yield from self._disk.files.get(db, _File()).written

    def append_other(self, db: str, bodies: Iterable[bytes]) -> None:
        file = self._disk.files.setdefault(db, _File())
        file.written += bodies
        file.synced = list(file.written)

    def remove_other(self, db: str) -> None:
        self._disk.files.pop(db, None)

    def see_told(self, results: Iterable[RunResult]) -> None:
        """No result is told before it is safe from the death of its guard."""
        for result in results:
            self._told.add(result.run)
            if result.run not in self._written:
                raise Violation(f"the result of run {result.run} is told before it is written to disk")

    def forgive(self) -> None:
        """What was told until now could not be synced."""
        self._told.clear()

    def see_turned(self) -> None:
        """What was told is safe from a power cut soon after."""
        if unsafe := self._told - self._synced:
            raise Violation(f"the result of run {min(unsafe)} is told, and is not synced to disk")
        self._told.clear()

    @property
    def _file(self) -> _File:
        return self._disk.files[self._db]
