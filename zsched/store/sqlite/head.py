"""The header of a database file, and whether a file and its WAL belong together. Pure.

SQLite replays a WAL over any file with the matching name, even over an older copy that replaced the file. To detect
that, the upper bits of `user_version` hold a *generation*: a number that changes with the first commit of each new WAL.
If the WAL holds generation n, its file holds n (after part of the WAL was moved into it) or n - 1. A copy from an
earlier start has an older generation. A copy made by SQLite (`.backup`, VACUUM INTO) has another schema cookie.
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from typing import Final, Self

# The program that made the file, as file(1) shows it: "zsch" for a database, "zscb" for a backup. A scheduler never
# opens a backup; an older release refuses it as a database of another program.
APPLICATION_ID: Final = 0x7A736368
BACKUP_ID: Final = 0x7A736362

# The header's length and fields: https://www.sqlite.org/fileformat2.html#the_database_header
HEADER_BYTES: Final = 100
_MAGIC: Final = b"SQLite format 3\0"
_COOKIE_AT, _USER_VERSION_AT, _APPLICATION_ID_AT = 40, 60, 68

# `user_version` is a signed number of 32 bits: 8 for the schema's version, 23 for the generation.
_SCHEMA_BITS: Final = 8
_GENERATIONS: Final = 1 << 23

# Schema changes by other programs (CREATE INDEX, ANALYZE) that the WAL may hold and the file not yet.
_COOKIE_LAG_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Head:
    """The fields of a header that zsched reads. `generation` 0: the file carries no generation yet."""

    application_id: int
    user_version: int
    cookie: int

    @classmethod
    def parse(cls, header: bytes) -> Self | None:
        """Parse a file's first bytes; None if the file is not a database."""
        if len(header) < HEADER_BYTES or not header.startswith(_MAGIC):
            return None
        cookie, user_version, application_id = (
            struct.unpack_from(">I", header, at)[0] for at in (_COOKIE_AT, _USER_VERSION_AT, _APPLICATION_ID_AT)
        )
        return cls(application_id, user_version, cookie)

    @property
    def schema(self) -> int:
        """The schema's version: the number of migrations applied."""
        return self.user_version & ((1 << _SCHEMA_BITS) - 1)

    @property
    def generation(self) -> int:
        return self.user_version >> _SCHEMA_BITS

    def advanced(self) -> int:
        """The `user_version` with the next generation. The first generation is random, so that two databases differ."""
        generation = (self.generation + 1) % _GENERATIONS if self.generation else secrets.randbelow(_GENERATIONS >> 1)
        return (generation or 1) << _SCHEMA_BITS | self.schema


def belongs(file: Head | None, together: Head) -> bool:
    """Whether a WAL was written for a file. `file`: the file's own header; `together`: the header read through the WAL.

    True also where that is unknown: a migration was interrupted, or a release without generations wrote the WAL.
    """
    if together.generation == 0:
        return True
    if file is None or (file.application_id, file.schema) != (together.application_id, together.schema):
        return False
    behind = (together.generation - file.generation) % _GENERATIONS
    return 0 <= together.cookie - file.cookie <= _COOKIE_LAG_MAX and (behind in (0, 1) or file.generation == 0)
