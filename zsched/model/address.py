"""The address of a database on PostgreSQL, as a setting has it: a URL for libpq. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_SCHEMES: Final = ("postgresql://", "postgres://")

# A connection URI of libpq (https://www.postgresql.org/docs/current/libpq-connect.html): user, password, hosts with
# ports, database, parameters. Each may be missing: then a parameter, a service file or a variable of libpq has it.
# A port with letters is mostly a password that lacks its @HOST.
_HOST: Final = r"(?:\[[^\[\]@/?#,]*\]|[^:\[\]@/?#,]*)(?::[0-9]*)?"
_URL: Final = re.compile(
    rf"postgres(?:ql)?://(?:(?P<user>[^:@/?#]*)(?P<password>:[^@/?#]*)?@)?(?P<hosts>{_HOST}(?:,{_HOST})*)"
    r"(?:/(?P<database>[^/@?#]*))?(?:\?[^#@]*)?"
)
_BAD_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """`conninfo` is for libpq alone: it may have a password. str() and repr() show none, nor any parameter."""

    conninfo: str = field(repr=False)

    def __str__(self) -> str:
        match = _URL.fullmatch(self.conninfo)
        assert match is not None
        user = f"{match['user']}@" if match["user"] else ""
        database = f"/{match['database']}" if match["database"] else ""
        return f"postgresql://{user}{match['hosts']}{database}"


def is_url(text: str) -> bool:
    """Whether a text names a database on PostgreSQL, and not a file."""
    return text.startswith(_SCHEMES)


def parse_url(text: str) -> PostgresUrl:
    """Raises ValueError, with a message that does not repeat the text: it may have a password."""
    if _URL.fullmatch(text) is None or _BAD_ESCAPE.search(text) or not text.isprintable() or " " in text:
        raise ValueError(
            "invalid database URL: write it like postgresql://USER@HOST:5432/DATABASE, with special characters"
            " percent-encoded (%40 for @)"
        )
    return PostgresUrl(text)
