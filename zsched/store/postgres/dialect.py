"""The shared statements in PostgreSQL's dialect: numbered parameters, and arrays for many rows at once.

`?` becomes $1, $2, ... A statement that is executed for many rows of parameters takes one array for each of its
parameters: its plan and its cost in round trips are the same for any number of rows.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from zsched.store.transitions import RESULT_COLUMNS

# The columns that are not BIGINT.
TEXT_COLUMNS: Final = frozenset(
    {
        *(
            "actor",
            "after_jobs",
            "agent",
            "argv",
            "artifacts",
            "avoids",
            "backoff",
            "became",
            "boot_id",
            "caller",
            "can",
            "cancel_by",
            "cancel_reason",
        ),
        *("command", "content", "created_by", "cwd", "cwd_hint", "db", "decided_by", "decision", "detail"),
        *("early_signal", "ending_by", "ends", "env", "fair", "form", "hold_reason", "host", "incarnation"),
        *("key_check", "kind", "labels", "limits", "listing", "name", "note", "on_disconnect", "on_lost", "origin"),
        "owner",
        *("pause_reason", "paused_by", "public_key", "queue", "queues", "reason", "retry_on", "run_as", "runs"),
        *(
            "schedule",
            "scopes",
            "secret_env",
            "state",
            "status",
            "tag",
            "task_array",
            "tags",
            "token_id",
            "umask",
            "umask_hint",
        ),
        *("unique_key", "version", "was", "wish", "worker_id", "workers"),
    }
)
BYTES_COLUMNS: Final = frozenset(
    {"data", "digest", "idem_key", "packed", "stdout_head", "stdout_tail", "stderr_head", "stderr_tail"}
)

_PARAMETER: Final = re.compile(r"'[^']*'|\?")
_COLUMN_BEFORE: Final = re.compile(r"(\w+) (?:=|<>) [^=<>]*\Z")
_INSERT: Final = re.compile(r"\s*INSERT INTO \w+ \(([^)]*)\)\s+VALUES (\(.*?\))(.*)\Z", re.DOTALL)
_IN_LIST: Final = re.compile(r"(\w+) IN \(VALUES \(\?\)\)")
_RESULTS: Final = re.compile(r"\(VALUES \([^)]*\)\) AS ended\b")
# A statement about runs that it names by their ids, or by their job.
_NAMED: Final = re.compile(r"(?:UPDATE|FROM) runs\b.*WHERE\s+(?:run_id|job_id)\b", re.DOTALL)
_WRITE: Final = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|CREATE|ALTER|DROP)\b", re.IGNORECASE)

_OIDS: Final = {"bytea": 17, "text": 25}

Encoded = tuple[list[bytes | None], list[int]]


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement for PostgreSQL. `types`: those of the arrays, if it takes arrays; they are its first parameters."""

    text: str
    writes: bool
    types: tuple[str, ...] = ()


@lru_cache(maxsize=1024)
def one(statement: str) -> Statement:
    """A statement with one value for each parameter."""
    return Statement(_numbered(_by_name(statement), 0), _WRITE.match(statement) is not None)


@lru_cache(maxsize=256)
def each(statement: str) -> Statement:
    """A statement that is executed for many rows of parameters: an INSERT of one row, or an UPDATE."""
    inserted = _INSERT.match(statement)
    if inserted is not None:
        return _insert_each(statement, inserted)
    types: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if match[0] != "?":
            return match[0]
        before = _COLUMN_BEFORE.search(statement, 0, match.start())
        types.append(type_of(before[1]) if before else "bigint")
        return f"given.c{len(types)}"

    # A column that an UPDATE reads has the same name in no other table.
    text = _PARAMETER.sub(replace, statement)
    head, where, rest = text.rpartition("WHERE ")
    return Statement(f"{head}FROM {_arrays(types)} {where}{rest}", True, tuple(types))


@lru_cache(maxsize=256)
def listed(statement: str) -> Statement:
    """A statement with a list `(VALUES (?, ...))` of many rows: of values of a column, or of results.

    The other parameters keep their order, after the arrays.
    """
    if (column := _IN_LIST.search(statement)) is not None:
        types: tuple[str, ...] = (type_of(column[1]),)
        text = _IN_LIST.sub(rf"\1 = ANY ($1::{types[0]}[])", statement)
    else:
        types = tuple(map(type_of, RESULT_COLUMNS))
        names = ", ".join(f"column{number}" for number in range(1, len(types) + 1))
        text = _RESULTS.sub(f"{_unnest(types)} AS ended ({names})", statement)
    return Statement(_numbered(_by_name(text), len(types)), _WRITE.match(statement) is not None, types)


def _insert_each(statement: str, inserted: re.Match[str]) -> Statement:
    names = [name.strip() for name in inserted[1].split(",")]
    values = [value.strip() for value in inserted[2][1:-1].split(",")]
    types = [type_of(name) for name, value in zip(names, values, strict=True) if value == "?"]
    numbers = iter(range(1, len(types) + 1))
    chosen = ", ".join(f"given.c{next(numbers)}" if value == "?" else value for value in values)
    head = statement[: inserted.start(2)].rpartition("VALUES")[0]
    text = f"{head}SELECT {chosen} FROM {_arrays(types)}{inserted[3]}"  # noqa: S608
    return Statement(text, True, tuple(types))


def _by_name(statement: str) -> str:
    """The statement, so that runs which it names are found by that.

    The indexes of runs with a status are small when a plan is made, so the planner likes to read all of one instead. An
    expression in the place of the status leaves it without them.
    """
    head, guard, rest = statement.rpartition("AND status = '")
    return f"{head}AND status || '' = '{rest}" if guard and _NAMED.search(statement) else statement


def type_of(column: str) -> str:
    """The type of a column in the schema."""
    return "text" if column in TEXT_COLUMNS else "bytea" if column in BYTES_COLUMNS else "bigint"


def _unnest(types: Sequence[str]) -> str:
    return f"unnest({', '.join(f'${number}::{name}[]' for number, name in enumerate(types, 1))})"


def _arrays(types: Sequence[str]) -> str:
    return f"{_unnest(types)} AS given ({', '.join(f'c{number}' for number in range(1, len(types) + 1))})"


def _numbered(statement: str, number: int) -> str:
    """The statement with $n for `?`; the first gets the number after `number`."""

    def replace(match: re.Match[str]) -> str:
        nonlocal number
        if match[0] != "?":
            return match[0]
        number += 1
        return f"${number}"

    return _PARAMETER.sub(replace, statement)


# --- parameters ------------------------------------------------------------------------------------------------------


def encode(values: Sequence[object]) -> Encoded:
    """Parameters as libpq takes them, with their formats."""
    encoded: list[bytes | None] = []
    formats: list[int] = []
    for value in values:
        if value is None:
            encoded.append(None)
            formats.append(0)
        elif isinstance(value, str):
            encoded.append(_text(value))
            formats.append(1)
        elif isinstance(value, int):
            encoded.append(b"%d" % value)
            formats.append(0)
        else:
            assert isinstance(value, bytes | bytearray | memoryview), type(value)
            encoded.append(bytes(value))
            formats.append(1)
    return encoded, formats


def _text(value: str) -> bytes:
    """PostgreSQL's text has no NUL. One may stand in what a worker says, and must not cost the rest of its frame."""
    data = value.encode()
    return data if b"\0" not in data else data.replace(b"\0", b"\xef\xbf\xbd")


def encode_arrays(types: Sequence[str], rows: Sequence[Sequence[object]]) -> Encoded:
    """Rows of parameters as one array for each column."""
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    assert len(columns) == len(types), "a row has a value for each parameter"
    encoded: list[bytes | None] = []
    for place, (name, column) in enumerate(zip(types, columns, strict=True)):
        # Of a job's many columns most are NULL in all rows. unnest fills a NULL array up to the length of the longest
        # one; so the first array stays.
        if place > 0 and column.count(None) == len(column):
            encoded.append(None)
        else:
            encoded.append(_integers(column) if name == "bigint" else _array(_OIDS[name], column))
    return encoded, [0 if name == "bigint" else 1 for name in types]


def _integers(column: Sequence[Any]) -> bytes:
    # A truth value is 0 or 1.
    return b"{%s}" % b",".join([b"NULL" if value is None else b"%d" % value for value in column])


def _array(oid: int, column: Sequence[object]) -> bytes:
    """The binary form of an array: dimensions, whether it has NULLs, type, length, first index, and the elements."""
    parts: list[bytes] = []
    for value in column:
        if value is None:
            parts.append(b"\xff\xff\xff\xff")
            continue
        data = _text(value) if isinstance(value, str) else value
        assert isinstance(data, bytes)
        parts += (len(data).to_bytes(4), data)
    head = struct.pack("!IIIII", 1, int(None in column), oid, len(column), 1)
    return head + b"".join(parts)
