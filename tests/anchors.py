"""Edits of zsched's source, anchored to names. tests/removals.py and tests/sim/mutants.py take mechanisms away by them.

The place of an edit is the dotted name of a function, class, constant or module. Its first parts may be left out while
the rest is unique: `Loop._turn`, `losses.drop_run`. So a function may move to another module without a change here.
What is edited there is a call, a condition or the returned value where that suffices, else a literal excerpt. Calls and
conditions are compared as syntax trees, so the line breaks of the code do not matter. Each must occur exactly once.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
# The simulator's own machine has mechanisms of the host, which mutants take away.
_SOURCES: Final = ("zsched", "tests/sim")

_Named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Change = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of the source text at `place`: a dotted name, or the path of a file under zsched/.

    `change` takes the text and returns the new one. It raises LookupError when what it changes is not there once.
    """

    place: str
    change: _Change


@dataclass(frozen=True, slots=True)
class Location:
    """Where a name is defined: a file, the module's dotted name, and the qualified name in it; empty for the module."""

    path: Path
    module: str
    qualname: str


def excerpt(place: str, old: str, new: str) -> Edit:
    """`old` becomes `new`, literally."""

    def change(text: str) -> str:
        return _once(text, old, new)

    return Edit(place, change)


def without_call(place: str, call: str) -> Edit:
    """A statement that is a call, given with its arguments or by the callee alone, does nothing."""

    def change(text: str) -> str:
        tree = _parse(text)
        wanted = ast.dump(ast.parse(call, mode="eval").body)
        calls = [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        ]
        return _put(text, [one for one in calls if wanted in (ast.dump(one), ast.dump(one.func))], "pass", call)

    return Edit(place, change)


def never(place: str, condition: str) -> Edit:
    """An expression is False."""
    return _constant(place, condition, "False")


def always(place: str, condition: str) -> Edit:
    """An expression is True."""
    return _constant(place, condition, "True")


def without_condition(place: str, condition: str) -> Edit:
    """One of several conditions that `and` or `or` join is left out; in SQL, one that AND joins to others before it.

    A condition of SQL that takes a parameter is replaced by one that takes it too and holds for every text.
    """

    def change(text: str) -> str:
        if (sql := f" AND {condition}") in text:
            return _once(text, sql, " AND ? <> ''" if "?" in condition else "")
        wanted = _dump(condition)
        joined = [
            (node, index)
            for node in ast.walk(_parse(text))
            if isinstance(node, ast.BoolOp)
            for index, value in enumerate(node.values)
            if ast.dump(value) == wanted
        ]
        if len(joined) != 1:
            raise LookupError(f"{condition!r} is joined to others {len(joined)} times")
        node, index = joined[0]
        rest = node.values[:index] + node.values[index + 1 :]
        new = ast.unparse(ast.BoolOp(node.op, rest) if len(rest) > 1 else rest[0])
        return _cut(text, _begin(text, node), _end(text, node), new)

    return Edit(place, change)


def returns(place: str, value: str) -> Edit:
    """A function only returns the value of an expression; nothing, if that is empty."""

    def change(text: str) -> str:
        (function,) = (node for node in _body(_parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        statements = function.body[1:] if ast.get_docstring(function) else function.body
        return _cut(text, _begin(text, statements[0]), _end(text, statements[-1]), f"return {value}".rstrip())

    return Edit(place, change)


def in_row(place: str, row: str, old: str, new: str) -> Edit:
    """In one row of a table `old` becomes `new`, literally. The table is a constant: a dict, or a dict of dicts. `row`:
    its key, a tuple in parentheses or a name, or its keys with a comma between them, as the source has them.
    """

    def change(text: str) -> str:
        _, value = _row(text, row)
        begin, end = _begin(text, value), _end(text, value)
        return _cut(text, begin, end, _once(text[begin:end], old, new))

    return Edit(place, change)


def without_row(place: str, row: str) -> Edit:
    """A table lacks one row; see in_row."""

    def change(text: str) -> str:
        key, value = _row(text, row)
        rest = text[_end(text, value) :]
        return text[: _begin(text, key)] + rest[rest.startswith(",") :]

    return Edit(place, change)


def _row(text: str, row: str) -> tuple[ast.expr, ast.expr]:
    """The key and the value of a row. Raises LookupError when the table has none, or several."""
    tables: list[ast.AST] = [next(node for node in ast.walk(_parse(text)) if isinstance(node, ast.Dict))]
    for key in [row] if row.startswith("(") else row.split(", "):
        wanted = _dump(key)
        found = [
            (name, value)
            for table in tables
            if isinstance(table, ast.Dict)
            for name, value in zip(table.keys, table.values, strict=True)
            if name is not None and ast.dump(name) == wanted
        ]
        tables = [value for _, value in found]
    if len(found) != 1:
        raise LookupError(f"{row} is a row {len(found)} times")
    return found[0]


def _constant(place: str, condition: str, value: str) -> Edit:
    def change(text: str) -> str:
        wanted = _dump(condition)
        equal = [node for node in ast.walk(_parse(text)) if isinstance(node, ast.expr) and ast.dump(node) == wanted]
        return _put(text, equal, value, condition)

    return Edit(place, change)


# --- Places -----------------------------------------------------------------------------------------------------------


def locate(place: str) -> Location:
    """Raises LookupError when no source, or more than one, has that name."""
    if place.endswith((".py", ".sql")):
        return Location(ROOT / "zsched" / place, "", "")
    names = _index().get(place.rpartition(".")[2], [])
    found = [one for full, one in names if full == place] or [one for full, one in names if full.endswith(f".{place}")]
    if len(found) != 1:
        raise LookupError(f"{place} names {len(found)} things: {', '.join(one.module for one in found) or 'none'}")
    return found[0]


def part(text: str, qualname: str) -> tuple[int, int]:
    """Where in a module's text that definition begins, with its decorators, and ends. Raises LookupError without it."""
    lines = text.splitlines(keepends=True)
    if not qualname:
        return 0, len(text)
    for name, node in _definitions(ast.parse(text)):
        if name == qualname:
            decorators = node.decorator_list if isinstance(node, _Named) else []
            first = decorators[0].lineno if decorators else node.lineno
            return len("".join(lines[: first - 1])), len("".join(lines[: node.end_lineno]))
    raise LookupError(f"{qualname} is not defined there")


def apply(edit: Edit, text: str) -> str:
    """The text of the module or file of an edit, changed. Raises LookupError when the edit does not apply."""
    begin, end = part(text, locate(edit.place).qualname)
    return text[:begin] + edit.change(text[begin:end]) + text[end:]


@cache
def _index() -> dict[str, list[tuple[str, Location]]]:
    """Of each last part of a name, all full names with it."""
    index: dict[str, list[tuple[str, Location]]] = {}
    for folder in _SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            index.setdefault(module.rpartition(".")[2], []).append((module, Location(path, module, "")))
            for name in dict.fromkeys(name for name, _ in _definitions(ast.parse(path.read_text("utf-8")))):
                index.setdefault(name.rpartition(".")[2], []).append((f"{module}.{name}", Location(path, module, name)))
    return index


def _definitions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Functions, classes and their constants with qualified names, not the variables of a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Named):
            yield prefix + child.name, child
            yield from _definitions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.Assign | ast.AnnAssign) and isinstance(node, ast.Module | ast.ClassDef):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            yield from ((prefix + one.id, child) for one in targets if isinstance(one, ast.Name))
        elif isinstance(child, ast.stmt | ast.excepthandler):
            yield from _definitions(child, prefix)


# --- Texts ------------------------------------------------------------------------------------------------------------


def _once(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise LookupError(f"{old!r} occurs {text.count(old)} times")
    return text.replace(old, new)


def _dump(expression: str) -> str:
    return ast.dump(ast.parse(expression, mode="eval").body)


def _parse(text: str) -> ast.Module:
    """The tree of a definition with its indentation. The lines of its nodes are one too high for a method."""
    return ast.parse(f"class _:\n{text}" if text.startswith(" ") else text)


def _body(tree: ast.Module) -> list[ast.stmt]:
    first = tree.body[0]
    return first.body if isinstance(first, ast.ClassDef) and first.name == "_" else tree.body


def _begin(text: str, node: ast.expr | ast.stmt) -> int:
    return _offset(text, node.lineno, node.col_offset)


def _end(text: str, node: ast.expr | ast.stmt) -> int:
    return _offset(text, node.end_lineno or 0, node.end_col_offset or 0)


def _offset(text: str, line: int, column: int) -> int:
    """In characters, of a line and a column in bytes of UTF-8, as trees count."""
    lines = text.splitlines(keepends=True)
    above = line - 1 - text.startswith(" ")
    return sum(map(len, lines[:above])) + len(lines[above].encode()[:column].decode())


def _cut(text: str, begin: int, end: int, new: str) -> str:
    return text[:begin] + new + text[end:]


def _put(text: str, nodes: list[ast.expr], new: str, what: str) -> str:
    if len(nodes) != 1:
        raise LookupError(f"{what!r} occurs {len(nodes)} times")
    return _cut(text, _begin(text, nodes[0]), _end(text, nodes[0]), new)
