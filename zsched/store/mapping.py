"""Rows and statements of entities, derived from their descriptions in model/fields.py.

A row stands in the order of `columns`, which sql.py puts into its statements; rows.py has the decoders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, TypeVar

from msgspec import Struct

from zsched.model.fields import REQUIRED, Field, fields
from zsched.model.source import function
from zsched.store.engine import Row

S = TypeVar("S", bound=Struct)

# What a codec raises for a damaged value.
DAMAGED: Final = (ValueError, TypeError, LookupError)
# With fewer optional fields together, checking first whether any has a value saves no time.
_OPTIONAL_MIN: Final = 4


def columns(entity: type[Struct], **computed: str) -> str:
    """The columns of an entity for a SELECT, in the order of its fields. `computed`: the expressions of those fields
    that are not columns. Raises KeyError when one is missing.
    """
    names: list[str] = []
    for field in fields(entity):
        if field.form.flat and field.entity is not None:
            names.append(columns(field.entity))
        elif field.form.computed:
            names.append(computed[field.name])
        else:
            names += field.columns
    return ", ".join(names)


def stored_columns(entity: type[Struct]) -> tuple[str, ...]:
    """The columns of an entity for an INSERT: those that are neither computed nor another entity's."""
    return tuple(name for field in _stored(entity) for name in field.columns)


def insert(table: str, names: Sequence[str], rest: str = "") -> str:
    """An INSERT of one row. Names come from descriptions, never from input."""
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}){rest}"  # noqa: S608


def _stored(entity: type[Struct]) -> tuple[Field, ...]:
    return tuple(field for field in fields(entity) if not field.form.computed and not field.form.flat)


def decoder(entity: type[S], *, lenient: bool = True) -> Callable[[Row], S]:
    """A function that makes an entity of a row. `lenient`: a damaged value looks as if it were not there, where the
    field has a default; else the function raises DAMAGED.
    """
    names: dict[str, object] = {"entity": entity}
    arguments: list[str] = []
    starts: list[int] = []
    at = 0
    for field in fields(entity):
        width = _width(field)
        starts.append(at)
        # An entity is made of a part of the row, also if it has a single column.
        single = width == 1 and not field.form.flat
        value = f"row[{at}]" if single else f"row[{at}:{at + width}]"
        at += width
        read, default = _read(field, lenient), f"default_{field.name}"
        made = value if read is None else f"read_{field.name}({value})"
        names[f"read_{field.name}"] = read
        # NULL is the default, and no codec's business.
        if single and field.default is None:
            made = made if read is None else f"None if {value} is None else {made}"
        elif single and field.default is not REQUIRED and (read is not None or field.codec.nullable):
            names[default] = field.default
            made = f"{default} if {value} is None else {made}"
        arguments.append(f"    {field.name}={made},")
    body = ["return entity(", *arguments, ")"]
    first, last = _optional(entity)
    if last - first >= _OPTIONAL_MIN:
        # The time of a call grows with the square of its arguments, and most rows have none of these values.
        names["absent"] = (None,) * (last - first)
        rest = [f"    {line}" for line in arguments[:first] + arguments[last:]]
        place = f"{starts[first]}:{starts[last - 1] + 1}"
        body = [f"if row[{place}] == absent:", "    return entity(", *rest, "    )", *body]
    decode: Callable[[Row], S] = function(f"read_{entity.__name__}", "row", body, names)
    return decode


def _optional(entity: type[Struct]) -> tuple[int, int]:
    """The longest part of an entity's fields that have a column each, and None as their default: its first field, and
    the one after its last.
    """
    longest = (0, 0)
    first = 0
    for number, field in enumerate(fields(entity), 1):
        if field.default is not None or _width(field) != 1:
            first = number
        longest = max(longest, (first, number), key=lambda part: part[1] - part[0])
    return longest


def _width(field: Field) -> int:
    """How many columns a field has."""
    if field.form.flat and field.entity is not None:
        return sum(map(_width, fields(field.entity)))
    return len(field.columns)


def _read(field: Field, lenient: bool) -> Callable[..., object] | None:
    """What makes a field's value of its column, or of its columns; None: the value is the column's."""
    read = field.codec.read
    if field.form.flat and field.entity is not None:
        # Most rows have one of a few.
        read = lru_cache(maxsize=256)(decoder(field.entity, lenient=False))
    if read is None or not lenient or field.default is REQUIRED or read is bool:
        return read
    return _forgiving(read, field.default)


def _forgiving(read: Callable[..., object], default: object) -> Callable[..., object]:
    def forgive(stored: object) -> object:
        try:
            return read(stored)
        except DAMAGED:
            return default

    return forgive


def encoder(entity: type[S]) -> Callable[[S], Row]:
    """A function that makes a row of an entity, in the order of `stored_columns`."""
    names: dict[str, object] = {}
    values: list[str] = []
    for field in _stored(entity):
        value = plain = f"value.{field.name}"
        if field.codec.write is not None:
            names[f"write_{field.name}"] = field.codec.write
            value = f"write_{field.name}({plain})"
        if field.default is None and value != plain:
            value = f"None if {plain} is None else {value}"
        values.append(f"    *{value}," if len(field.columns) > 1 else f"    {value},")
    encode: Callable[[S], Row] = function(f"row_of_{entity.__name__}", "value", ["return (", *values, ")"], names)
    return encode
