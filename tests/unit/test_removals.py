"""The removals themselves, and what docs/promises.md says of them: nothing is named there that is not here."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.anchors import apply, locate
from tests.removals import REMOVALS, ROOT
from tests.sim.mutants import EQUIVALENT, MUTANTS

TESTS = ROOT / "tests"
PROMISES = (ROOT / "docs" / "promises.md").read_text("utf-8")
# Of each promise its number, and what the table says of its tests and of what makes them fail.
ROWS = {
    int(number): (tests, seen)
    for number, tests, seen in re.findall(r"^\| (\d+) \|.*\| ([^|]*) \| ([^|]*) \|$", PROMISES, re.MULTILINE)
}


@cache
def functions_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return frozenset(one.name for one in tree.body if isinstance(one, ast.FunctionDef) and one.name.startswith("test_"))


@pytest.mark.slow
@pytest.mark.parametrize("name", REMOVALS)
def test_removal_applies_and_names_tests_that_exist(name: str) -> None:
    one = REMOVALS[name]
    changed: dict[Path, str] = {}
    for edit in one.edits:
        path = locate(edit.place).path
        changed[path] = apply(edit, changed.get(path) or path.read_text("utf-8"))
    for path, text in changed.items():
        assert text != path.read_text("utf-8")
        if path.suffix == ".py":
            compile(text, str(path), "exec", dont_inherit=True)
    assert one.tests
    for test in one.tests:
        file, _, function = test.partition("::")
        assert function in functions_of(TESTS / file), test


def test_the_table_has_every_promise_once() -> None:
    assert list(ROWS) == list(range(1, 35))
    assert len(re.findall(r"^\| \d", PROMISES, re.MULTILINE)) == len(ROWS)
    assert {one.promise for one in REMOVALS.values()} <= ROWS.keys()


@pytest.mark.parametrize("promise", ROWS)
def test_every_test_that_a_promise_names_exists(promise: int) -> None:
    named = re.findall(r"`([\w/]+\.py)`", ROWS[promise][0])
    assert named
    assert [file for file in named if not (TESTS / file).is_file()] == []


@pytest.mark.parametrize("promise", ROWS)
def test_what_a_promise_was_seen_red_by_can_be_done_again(promise: int) -> None:
    """Names in italics: removals of this promise, and behind `sim:` mutants that the seeds notice."""
    removals, sim, mutants = ROWS[promise][1].partition("sim: ")
    own = re.findall(r"\*([^*]+)\*", removals)
    assert "; ".join(f"*{name}*" for name in own) == removals.removesuffix("; ")
    assert [name for name in own if name not in REMOVALS or REMOVALS[name].promise != promise] == []
    noticed = re.findall(r"\*([^*]+)\*", mutants)
    assert "; ".join(f"*{name}*" for name in noticed) == mutants
    assert [name for name in noticed if name not in MUTANTS or name in EQUIVALENT] == []
    assert own or (sim and noticed)
