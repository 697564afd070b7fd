"""docs/fields.md: every field of every entity, from the descriptions."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from msgspec import Struct

from zsched.model import access, backoff, records, types
from zsched.model.fields import Field, Time, fields, shown_fields

FILE: Final = Path(__file__).parents[2] / "docs" / "fields.md"

# The entities, with their tables.
ENTITIES: Final[tuple[tuple[str, type[Struct], str], ...]] = (
    ("Job", types.Job, "jobs"),
    ("Back-off of a job", backoff.Backoff, ""),
    ("Run", types.Run, "runs"),
    ("Worker", types.Worker, "workers"),
    ("Foreign runs", records.ForeignRuns, "foreign_runs"),
    ("Token", access.Token, "tokens"),
    ("Key of a worker", access.WorkerKey, "keys"),
    ("Event", records.Event, "events"),
)

_HEAD: Final = """\
# Fields

What is kept of jobs, runs, workers, tokens, keys and events: each field's member in [REST](rest.md), its column in the
database, and its meaning. A member is left out where the field has the value under *left out*. Fields without a member
are not shown to callers.

This page is generated from the descriptions in `zsched/model` by `python -m tests.golden`, and a test compares them.
"""


def text() -> str:
    """The page."""
    return _HEAD + "".join(_section(*entity) for entity in ENTITIES)


def all_fields(entity: type[Struct]) -> list[Field]:
    """The fields in the order of JSON, then those that are not shown. A flat field stands as its own fields."""
    shown = shown_fields(entity)
    ordered = [*shown, *(field for field in fields(entity) if field not in shown)]
    return [
        inner
        for field in ordered
        for inner in (all_fields(field.entity) if field.form.flat and field.entity is not None else (field,))
    ]


def _section(title: str, entity: type[Struct], table: str) -> str:
    rows = "".join(_row(field, table) for field in all_fields(entity))
    where = f"Table `{table}`. " if table else ""
    head = f"\n## {title}\n\n{where}{_one_line(entity.__doc__ or '')}\n\n"
    return head + "| member | type | left out | column | meaning |\n|---|---|---|---|---|\n" + rows


def _row(field: Field, table: str) -> str:
    member = f"`{field.json}`" if field.json else ""
    kind = _type(field.shown) if field.json else ""
    omitted = _value(field) if field.json and not field.always else ""
    column = "computed" if field.form.computed else ", ".join(f"`{name}`" for name in field.columns) if table else ""
    return f"| {member} | {kind} | {omitted} | {column} | {field.doc} |\n"


def _value(field: Field) -> str:
    if field.omit is None or field.omit in ("", ()) or field.omit == {}:
        return "none"
    if field.entity is not None:
        return "the usual one"
    show = field.codec.show
    shown = field.omit if show is None else show(field.omit)
    return f"`{str(shown).lower() if isinstance(shown, bool) else shown}`"


def _type(kind: Any) -> str:
    """A type in the words of JSON."""
    if kind == Time:
        return "time"
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{str(word).lower()}`" for word in arguments)
    if origin in (Union, UnionType):
        return " or ".join(map(_type, arguments))
    if origin is tuple:
        inner = _type(arguments[0])
        return f"array of {inner}" + ("" if inner.endswith("`") else "s")
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind)
    if isinstance(kind, type) and issubclass(kind, Struct):
        return "object"
    return {str: "text", int: "number", float: "number", bool: "true or false"}.get(kind, "object of texts")


def _one_line(doc: str) -> str:
    return " ".join(doc.split())
