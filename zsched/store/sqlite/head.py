"""What stands in the first 100 bytes of a database file, and whether a file and its WAL belong together. Pure.

SQLite replays a WAL over whatever file has its name, also over an older copy put in the file's place. To notice that,
the upper bits of `user_version` hold a *generation*: a number that changes with the first commit of each new WAL.
The WAL holds generation n, so its file holds n, when part of the WAL has been moved into it, or n - 1. A copy from an
earlier start has an older generation. A copy made by SQLite (`.backup`, VACUUM INTO) has another schema cookie.
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from typing import Final, Self

# Who made the file, as `file` shows it. The letters "zsch" and "zscb": a backup is no database that a scheduler opens,
# and an older release refuses it as another program's.
APPLICATION_ID: Final = 0x7A736368
BACKUP_ID: Final = 0x7A736362

# Length and fields of the header: https://www.sqlite.org/fileformat2.html#the_database_header
HEADER_BYTES: Final = 100
_MAGIC: Final = b"SQLite format 3\0"
_COOKIE_AT, _USER_VERSION_AT, _APPLICATION_ID_AT = 40, 60, 68

# `user_version` is a signed number of 32 bits: 8 for the schema's version, 23 for the generation.
_SCHEMA_BITS: Final = 8
_GENERATIONS: Final = 1 << 23

# Changes of the schema by other programs (CREATE INDEX, ANALYZE) that may be in the WAL alone.
_COOKIE_LAG_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Head:
    """The fields of a header that zsched reads. `generation` 0: the file and its WAL carry no mark yet."""

    application_id: int
    user_version: int
    cookie: int

    @classmethod
    def parse(cls, header: bytes) -> Self | None:
        """The fields of a file's first bytes; None when that is no database."""
        if len(header) < HEADER_BYTES or not header.startswith(_MAGIC):
            return None
        cookie, user_version, application_id = (
            struct.unpack_from(">I", header, at)[0] for at in (_COOKIE_AT, _USER_VERSION_AT, _APPLICATION_ID_AT)
        )
        return cls(application_id, user_version, cookie)

    @property
    def schema(self) -> int:
        """The schema's version: how many migrations it has had."""
        return self.user_version & ((1 << _SCHEMA_BITS) - 1)

    @property
    def generation(self) -> int:
        return self.user_version >> _SCHEMA_BITS

    def advanced(self) -> int:
        """The `user_version` with the next generation; the first one is random, so that two databases differ."""
        generation = (self.generation + 1) % _GENERATIONS if self.generation else secrets.randbelow(_GENERATIONS >> 1)
        return (generation or 1) << _SCHEMA_BITS | self.schema


def belongs(file: Head | None, together: Head) -> bool:
    """Whether a file is the one that its WAL was written for. `file` is the file's own header, `together` the header
    that SQLite reads from file and WAL. True where that can't be known: a migration was interrupted, or the WAL is of a
    release without generations.
    """
    if together.generation == 0:
        return True
    if file is None or (file.application_id, file.schema) != (together.application_id, together.schema):
        return False
    behind = (together.generation - file.generation) % _GENERATIONS
    return 0 <= together.cookie - file.cookie <= _COOKIE_LAG_MAX and (behind in (0, 1) or file.generation == 0)
