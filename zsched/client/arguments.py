"""Check the arguments of the Python client, so that a wrong type is an error that names the argument.

Called by client.py before it sends anything. The annotations there are the only description of the types. Pure; imports
nothing of zsched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

# By the argument, and the type of its value.
_REMEDIES = {
    ("command", "list"): "; join a list of arguments with shlex.join",
    ("command", "tuple"): "; join a list of arguments with shlex.join",
    ("inputs", "str"): "; put a single input into a list",
}


def check(name: str, value: object, hint: Any) -> None:
    """Raise TypeError unless the value has the annotated type; ValueError for a word that is not in a Literal, and for
    a number that is not finite. `hint` is a class, None, Literal, Mapping, or a union of these.
    """
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    for kind in kinds:
        if get_origin(kind) is Mapping and isinstance(value, Mapping):
            of_key, of_value = get_args(kind)
            for key, item in value.items():
                check(f"name in {name}", key, of_key)
                check(f"{name}[{key!r}]", item, of_value)
            return
    if not any(_fits(value, kind) for kind in kinds):
        words = [repr(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
        remedy = _remedy(name, value)
        if words and isinstance(value, str):
            raise ValueError(f"invalid {name} {value!r}: use {' or '.join(words)}{remedy}")
        expected = " or ".join(map(_named, kinds))
        raise TypeError(f"invalid {name}: expected {expected}, not {type(value).__qualname__}{remedy}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"invalid {name}: {value} is not a finite number")


def check_items(name: str, value: Any, kind: Any = object) -> None:
    """Raise TypeError unless the value can be iterated over and, where it is a sequence, its items have a type. A text
    and a mapping are refused: their items are rarely what the caller means.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise TypeError(f"invalid {name}: expected an iterable, not {type(value).__qualname__}{_remedy(name, value)}")
    if kind is not object and isinstance(value, Sequence):
        for place, item in enumerate(value):
            check(f"{name}[{place}]", item, kind)


def check_fields(given: Mapping[str, object], fields: type) -> None:
    """Check keyword arguments against a TypedDict. An unknown name is a TypeError."""
    hints = _hints(fields)
    for name, value in given.items():
        if name not in hints:
            raise TypeError(f"unexpected argument {name!r}; there are {', '.join(hints)}")
        check(name, value, hints[name])


def _remedy(name: str, value: object) -> str:
    return _REMEDIES.get((name, type(value).__qualname__), "")


@cache
def _hints(fields: type) -> dict[str, Any]:
    return get_type_hints(fields)


def _fits(value: object, kind: Any) -> bool:
    """Whether a value has a type, which is not a union. A bool is not a number; an int is accepted as a float."""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, NoneType if kind is None else get_origin(kind) or kind)


def _named(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    if kind in (None, NoneType):
        return "None"
    return str((get_origin(kind) or kind).__name__)
