"""What a disk may hold after a power cut. The operations on a folder's files are kept in order; images are made for
cuts between any two of them.

A file's bytes are safe once it was synced after they were written. Of what was written since, each write may be there,
or not, or in part: sector by sector, with zeros where the file only grew. Names are safe once their folder was synced;
of those made, renamed and removed since, the folder knows all up to some moment, as file systems with a journal keep
them. A torn write spoils nothing around it: SQLite takes that for granted too, and calls it powersafe overwrite.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

SECTOR_BYTES: Final = 512

# How likely each unsafe write is to be there, by image: none of them is the cut that loses most.
_CHANCES: Final = (0.0, 0.5, 0.5, 0.9)
_TORN_SHARE: Final = 0.6

Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Write:
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Sync:
    inode: int


@dataclass(frozen=True, slots=True)
class Link:
    """A name is this file's from now on, whatever it was before."""

    name: str
    inode: int


@dataclass(frozen=True, slots=True)
class Rename:
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Unlink:
    name: str


@dataclass(frozen=True, slots=True)
class SyncFolder:
    pass


@dataclass(frozen=True, slots=True)
class Told:
    """Somebody was told so much; it must not be lost from here on."""

    count: int


Entry = Link | Rename | Unlink
Operation = Write | Truncate | Sync | SyncFolder | Told | Entry


@dataclass(slots=True)
class Medium:
    """One folder on a disk, and all that was done to it. `files` is what was safe before the first operation."""

    files: Files = field(default_factory=dict)
    log: list[Operation] = field(default_factory=list)
    # The names as the process sees them, and the next file's number.
    names: dict[str, int] = field(default_factory=dict)
    inodes: int = 0

    def __post_init__(self) -> None:
        self.names = {name: inode for inode, name in enumerate(self.files)}
        self.inodes = len(self.files)

    def opened(self, name: str) -> int:
        """The number of the file that a name stands for; a name that was not there is a new file's."""
        if name not in self.names:
            self.names[name] = self.inodes
            self.log.append(Link(name, self.inodes))
            self.inodes += 1
        return self.names[name]

    def renamed(self, old: str, new: str) -> None:
        self.names[new] = self.names.pop(old)
        self.log.append(Rename(old, new))

    def unlinked(self, name: str) -> None:
        del self.names[name]
        self.log.append(Unlink(name))

    def told(self, count: int) -> None:
        self.log.append(Told(count))

    def content(self) -> Files:
        """What the folder holds while the power is on."""
        disk = _Disk(self.files)
        for operation in self.log:
            disk.do(operation)
        return disk.content()


@dataclass(frozen=True, slots=True)
class Image:
    """The folder after a cut before operation `at`, and how much had been told until then."""

    at: int
    told: int
    files: Files

    def lay(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for name, content in self.files.items():
            (folder / name).touch(mode=0o600)
            (folder / name).write_bytes(content)


def images(medium: Medium, count: int, chance: Random) -> Iterator[Image]:
    """So many images, of cuts at random, in the order of the cuts."""
    disk = _Disk(medium.files)
    done = 0
    for at in sorted(chance.randint(0, len(medium.log)) for _ in range(count)):
        for operation in medium.log[done:at]:
            disk.do(operation)
        done = at
        yield Image(at, disk.told, disk.after_cut(chance))


class _Disk:
    """What is safe, and what is not yet."""

    def __init__(self, files: Files) -> None:
        self.told = 0
        self._names = {name: inode for inode, name in enumerate(files)}
        self._contents = {inode: bytearray(content) for inode, content in enumerate(files.values())}
        self._unsafe_names: list[Entry] = []
        self._unsafe: dict[int, list[Write | Truncate]] = {}

    def do(self, operation: Operation) -> None:
        match operation:
            case Write() | Truncate():
                self._unsafe.setdefault(operation.inode, []).append(operation)
            case Sync():
                content = self._contents.setdefault(operation.inode, bytearray())
                for change in self._unsafe.pop(operation.inode, ()):
                    _change(content, change)
            case SyncFolder():
                for entry in self._unsafe_names:
                    _enter(self._names, entry)
                self._unsafe_names.clear()
            case Told():
                self.told = operation.count
            case _:
                self._unsafe_names.append(operation)

    def content(self) -> Files:
        for inode in list(self._unsafe):
            self.do(Sync(inode))
        self.do(SyncFolder())
        return {name: bytes(self._contents.get(inode, b"")) for name, inode in self._names.items()}

    def after_cut(self, chance: Random) -> Files:
        likely = chance.choice(_CHANCES)
        names = dict(self._names)
        known = chance.randint(0, len(self._unsafe_names)) if likely else 0
        for entry in self._unsafe_names[:known]:
            _enter(names, entry)
        return {name: self._after_cut(inode, likely, chance) for name, inode in names.items()}

    def _after_cut(self, inode: int, likely: float, chance: Random) -> bytes:
        content = bytearray(self._contents.get(inode, b""))
        for change in self._unsafe.get(inode, ()):
            if chance.random() < likely:
                _change(content, change)
            elif likely and isinstance(change, Write) and chance.random() < _TORN_SHARE:
                _tear(content, change, chance)
        return bytes(content)


def _change(content: bytearray, change: Write | Truncate) -> None:
    end = change.size if isinstance(change, Truncate) else change.offset + len(change.data)
    content.extend(bytes(max(0, end - len(content))))
    if isinstance(change, Truncate):
        del content[end:]
    else:
        content[change.offset : end] = change.data


def _tear(content: bytearray, write: Write, chance: Random) -> None:
    """Of a write, half of the sectors; of one within a single sector nothing but the file's new length, if any."""
    end = write.offset + len(write.data)
    content.extend(bytes(max(0, end - len(content))))
    begin = write.offset
    while begin < end:
        next_sector = min(end, (begin // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if next_sector - begin < len(write.data) and chance.random() < 0.5:
            content[begin:next_sector] = write.data[begin - write.offset : next_sector - write.offset]
        begin = next_sector


def _enter(names: dict[str, int], entry: Entry) -> None:
    match entry:
        case Link():
            names[entry.name] = entry.inode
        case Rename():
            names[entry.new] = names.pop(entry.old)
        case Unlink():
            del names[entry.name]
