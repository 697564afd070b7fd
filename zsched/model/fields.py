"""How entities are described: what each field means, and its names in the database and in JSON. Pure.

An entity is a msgspec Struct whose fields are annotated with `about(...)`. Everything else follows from that: column
lists and the decoding of rows (store/rows.py), JSON views (api/views.py), the OpenAPI schemas (api/shapes.py), and
docs/fields.md. Written by hand stay CREATE TABLE, the frames of protocol/frames.py, help texts and the client; a test
compares their names with the description.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache, reduce
from operator import or_
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from zsched.model.names import SERVED_QUEUE, WORKER_NAME
from zsched.model.units import format_duration_ms, format_time

# As a Form's `json`: callers never see the field.
HIDDEN: Final = "-"
# As a Form's `omit`: the member is always there.
NEVER: Final = object()
# The default of a field that must be given.
REQUIRED: Final = object()

# The types of JSON members that are written otherwise than they are kept.
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, description="RFC 3339 in UTC")]
Id = Annotated[int, Meta(ge=1)]
WorkerName = Annotated[str, Meta(min_length=1, max_length=128, pattern=rf"^{WORKER_NAME.pattern}\Z")]
# A queue that a worker serves.
QueueName = Annotated[str, Meta(min_length=1, max_length=64, pattern=rf"^({SERVED_QUEUE.pattern})\Z")]
Natural = Annotated[int, Meta(ge=0)]

_ABOUT: Final = "about"


@dataclass(frozen=True, slots=True)
class Codec:
    """How a value is kept in a column and shown in JSON; None where it is the value itself.

    `read` raises ValueError, TypeError or LookupError for a damaged value. `shown` is the type in JSON, None for the
    field's own. `nullable`: NULL stands for the field's default.
    """

    read: Callable[..., object] | None = None
    write: Callable[..., object] | None = None
    show: Callable[..., object] | None = None
    shown: object = None
    nullable: bool = False


PLAIN: Final = Codec()


@dataclass(frozen=True, slots=True)
class Form:
    """What is unusual about a field.

    `columns`: its columns, when the name of its only column is not the field's. `computed`: the column is an
    expression, which sql.py has. `json`: its name there, when it is not the field's; HIDDEN: it is not shown.
    `shown`: its type in JSON, when that is narrower than the field's. `omit`: the value for which the member is left
    out, the default unless given; NEVER: for none. `rank`: members with a lower rank stand before the others.
    `only_with`: the member is left out where that one is. `flat`: its own fields stand in its place, in the row and
    in JSON.
    """

    columns: tuple[str, ...] = ()
    computed: bool = False
    json: str = ""
    codec: Codec = PLAIN
    shown: object = None
    omit: object = REQUIRED
    rank: int = 5
    only_with: str = ""
    flat: bool = False


USUAL: Final = Form()


def about(doc: str, form: Form = USUAL) -> Meta:
    """The annotation of a field: its documentation, which OpenAPI shows, and its form."""
    return Meta(description=doc, extra={_ABOUT: form})


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an entity. `kind` is its type without None and without the description; `default` REQUIRED: none."""

    name: str
    kind: object
    doc: str
    form: Form
    default: object
    codec: Codec = field(default=PLAIN)

    @property
    def columns(self) -> tuple[str, ...]:
        return self.form.columns or (self.name,)

    @property
    def json(self) -> str:
        """Its name in JSON; a time that is kept as created_ms is shown as created_at. Empty: it is not shown."""
        if self.form.json:
            return "" if self.form.json == HIDDEN else self.form.json
        return self.name.removesuffix("_ms") + "_at" if self.codec is TIME else self.name

    @property
    def omit(self) -> object:
        """The value for which the member is left out of JSON."""
        return self.default if self.form.omit is REQUIRED else self.form.omit

    @property
    def always(self) -> bool:
        """Whether the member is in every JSON object."""
        return self.omit is REQUIRED or self.omit is NEVER

    @property
    def shown(self) -> object:
        """The type in JSON."""
        return self.form.shown or self.codec.shown or _as_json(self.kind)

    @property
    def entity(self) -> type[Struct] | None:
        """The entity that the field holds, if it holds one."""
        return self.kind if isinstance(self.kind, type) and issubclass(self.kind, Struct) else None


@lru_cache(maxsize=64)
def fields(entity: type[Struct]) -> tuple[Field, ...]:
    """The described fields of an entity, those of its bases first. Raises LookupError for a field without one."""
    return tuple(_field(info) for info in msgspec.structs.fields(entity))


def shown_fields(entity: type[Struct], without: Collection[str] = ()) -> list[Field]:
    """The fields of an entity that callers see, in the order of the JSON object, but those in `without`."""
    shown = [field for field in fields(entity) if (field.json or field.form.flat) and field.name not in without]
    return sorted(shown, key=lambda field: field.form.rank)


def _field(info: msgspec.structs.FieldInfo) -> Field:
    annotated, *metas = get_args(info.type) if get_origin(info.type) is Annotated else (info.type,)
    described = [meta for meta in metas if isinstance(meta, Meta) and meta.extra and _ABOUT in meta.extra]
    if not described:
        raise LookupError(f"the field {info.name} has no description")
    (meta,) = described
    assert meta.extra is not None
    form: Form = meta.extra[_ABOUT]
    kind = _without_none(annotated)
    constraints = tuple(other for other in metas if other is not meta)
    default = info.default
    if default is msgspec.NODEFAULT:
        default = REQUIRED if info.default_factory is msgspec.NODEFAULT else info.default_factory()
    codec = form.codec if form.codec is not PLAIN else _usual_codec(kind)
    if constraints:
        kind = Annotated[(kind, *constraints)]
    return Field(info.name, kind, meta.description or "", form, default, codec)


def _without_none(kind: Any) -> Any:
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    rest = tuple(part for part in get_args(kind) if part is not types.NoneType)
    return reduce(or_, rest)


def _usual_codec(kind: object) -> Codec:
    """The codec of a field that names none."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        # A look-up in a dict takes a third of the time of RunStatus(…), and lists have thousands of rows.
        return Codec(read={member.value: member for member in kind}.__getitem__)
    return Codec(read=bool) if kind is bool else PLAIN


def _as_json(kind: Any) -> object:
    """A type as JSON has it: ids are numbers from 1 on, or texts."""
    if (base := getattr(kind, "__supertype__", None)) is not None:
        return Id if base is int else base
    if get_origin(kind) is tuple:
        return types.GenericAlias(tuple, tuple(part if part is ... else _as_json(part) for part in get_args(kind)))
    if get_origin(kind) is Mapping:
        return types.GenericAlias(dict, get_args(kind))
    return kind


# --- codecs that several fields share --------------------------------------------------------------------------------


def read_variables(text: str) -> dict[str, str]:
    """Variables from their column. Raises ValueError for a damaged value."""
    variables = json.loads(text)
    if not isinstance(variables, dict) or not all(isinstance(value, str) for value in variables.values()):
        raise ValueError("the stored variables are damaged")
    return variables


def variables_text(variables: Mapping[str, str] | None) -> str | None:
    """What read_variables reads; None for none."""
    return None if variables is None else json.dumps(dict(variables), ensure_ascii=False, separators=(",", ":"))


# Milliseconds since 1970 UTC.
TIME: Final = Codec(show=format_time, shown=Time)
# Milliseconds.
DURATION: Final = Codec(show=format_duration_ms, shown=str)
# An object of texts.
VARIABLES: Final = Codec(read=read_variables, write=variables_text)
# The same for secrets: only the names are shown.
SECRETS: Final = Codec(read=read_variables, write=variables_text, show=lambda sealed: dict.fromkeys(sealed, "***"))
LABELS: Final = Codec(read=read_variables, write=lambda labels: json.dumps(dict(labels), sort_keys=True))
# A list as a JSON array.
ARRAY: Final = Codec(read=lambda text: tuple(json.loads(text)), write=json.dumps)
# A list as words with a space between them.
WORDS: Final = Codec(read=lambda text: tuple(text.split()), write=lambda words: " ".join(words) or None, nullable=True)
# A text that may be missing in old rows.
TEXT: Final = Codec(nullable=True)
# A bound, 0 for none.
LIMIT: Final = Codec(
    read=lambda limit: limit or None,
    write=lambda limit: limit or 0,
    show=lambda limit: "never" if limit is None else limit,
    shown=Natural | Literal["never"],
)
