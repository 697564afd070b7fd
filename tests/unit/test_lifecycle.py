"""The table of a run's life is the mechanism: its page in the docs, and the one way to change a run's status."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import lifecycles
from tests.golden import sources
from zsched.model.lifecycle import CAUSES, MOVES, Cause, State
from zsched.store import sql, transitions

ROOT = Path(__file__).parents[2]
# A statement that gives runs a status.
GIVES_STATUS = re.compile(r"INSERT INTO runs\b|UPDATE runs SET (?:(?!\bWHERE\b).)*\bstatus = ", re.DOTALL)
# What a run may have of a move, without its status.
MARKS = {"START", "OUTLIVE", "HANG", "MARK_CANCELLED"}


def moving() -> set[str]:
    """The names of the statements that make or move runs."""
    texts = {name: text for name, text in vars(transitions).items() if isinstance(text, str) and name.isupper()}
    return {name for name, text in texts.items() if not name.startswith("_") and GIVES_STATUS.search(text)} | MARKS


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    for path in sorted((ROOT / "zsched").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                yield f"{path.stem}.{node.name}", node


def test_the_page_in_the_docs_is_what_the_table_says() -> None:
    """`python -m tests.lifecycles --write` updates it."""
    assert lifecycles.PAGE.read_text("utf-8") == lifecycles.page()


def test_each_cause_moves_some_run_and_is_described() -> None:
    assert {cause for moves in MOVES.values() for cause in moves} == set(Cause) == set(CAUSES)
    assert set(MOVES) == set(State)


def test_a_successor_is_made_by_a_cause_that_makes_runs() -> None:
    moves = [move for causes in MOVES.values() for move in causes.values()]
    assert {move.successor for move in moves} - {None} <= set(MOVES[State.NEW])
    assert all(move.final for move in moves if move.successor is not None)


def test_only_statements_from_the_table_give_runs_a_status() -> None:
    assert not [name for name, text in vars(sql).items() if isinstance(text, str) and GIVES_STATUS.search(text)]
    for path in sorted((ROOT / "zsched").rglob("*.py")):
        if path.stem not in ("moves", "transitions"):
            assert not GIVES_STATUS.search(path.read_text("utf-8")), path
    assert len(moving()) == 39
    assert GIVES_STATUS.search(sources.SQL.read_text("utf-8"))


@pytest.mark.slow
def test_each_such_statement_is_executed_by_the_one_funnel() -> None:
    used: set[str] = set()
    for name, function in functions():
        statements = {
            node.attr
            for node in ast.walk(function)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "transitions"
        } & moving()
        calls = {
            node.func.attr
            for node in ast.walk(function)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }
        if statements and name != "ends._result":
            assert calls & {"_move", "_move_list", "_make"}, name
        used |= statements
    assert used == moving()


@pytest.mark.parametrize("state", State)
def test_a_state_without_moves_is_final(state: State) -> None:
    final = state in (State.SUCCESS, State.FAILED, State.CANCELLED)
    assert (not MOVES[state]) == final
