"""docs/postgresql.md names the statements that differ between the engines; tests/golden/ has the translated ones."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.golden import sources

ROOT = Path(__file__).parents[2]
STORE = ROOT / "zsched" / "store"
SECTION = (ROOT / "docs/postgresql.md").read_text("utf-8").partition("## Statements that differ")[2]
ROWS = re.findall(r"^\| (?!for |---)(.*) \| (.*) \| (.*) \|$", SECTION, re.MULTILINE)
# What an engine executes begins with one of these.
VERBS = re.compile(r"\s*(?:SELECT|INSERT|UPDATE|DELETE|BEGIN|COMMIT|DECLARE|FETCH|CLOSE|PRAGMA)\b")


def text(engine: str) -> str:
    """The sources of an engine, with all white space alike."""
    files = [*(STORE / engine).glob("*.py"), *(STORE / engine / "schema").glob("*.sql")]
    return " ".join(" ".join(file.read_text("utf-8").split()) for file in sorted(files))


def pieces(cell: str) -> list[str]:
    """The code of a cell, divided where it leaves something out."""
    return [piece.strip() for code in re.findall(r"`([^`]*)`", cell) for piece in code.split("…") if piece.strip()]


@pytest.mark.parametrize(("what", "sqlite", "postgres"), ROWS)
def test_each_statement_in_the_table_is_executed(what: str, sqlite: str, postgres: str) -> None:
    shared = sources.SQL.read_text("utf-8") + sources.POSTGRES.read_text("utf-8")
    for engine, cell in (("sqlite", sqlite), ("postgres", postgres)):
        known = text(engine) + " ".join(shared.split())
        assert [piece for piece in pieces(cell) if piece.strip("(), ") not in known] == [], (what, engine)


def statements(engine: str, *but: str) -> Iterator[str]:
    """The statements in the sources of an engine's modules, without some modules."""
    for file in sorted((STORE / engine).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))) if file.stem not in but else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and VERBS.match(node.value):
                yield " ".join(node.value.split())


def test_each_statement_of_the_turns_on_postgresql_is_in_the_table() -> None:
    named = [piece for *_, cell in ROWS for piece in pieces(cell)]
    unnamed = [
        statement
        for statement in statements("postgres", "leader", "migrations", "database")
        if not any(piece in statement for piece in named)
    ]
    assert unnamed == []


def test_the_translated_statements_stand_there_to_be_searched() -> None:
    assert sources.POSTGRES.read_text("utf-8") == sources.translations()


def test_all_statements_for_many_rows_are_shown() -> None:
    calls = re.compile(r"(?:sendmany|executemany)\(\s*(?:sql|transitions)\.(\w+)")
    used = {name for file in STORE.glob("*.py") for name in calls.findall(file.read_text("utf-8"))}
    assert used <= set(sources.MANY)
