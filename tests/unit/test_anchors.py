"""The edits of removals and mutants: each changes what it names, and is refused when that is not there once."""

from __future__ import annotations

import pytest

from tests.anchors import (
    Edit,
    always,
    apply,
    excerpt,
    locate,
    never,
    part,
    returns,
    without_call,
    without_condition,
)

METHOD = """\
    @cache
    def f(self, a: int) -> int:
        \"\"\"Größe.\"\"\"
        self.send("größer", 1); self.stop()
        if a and (
            self.busy
        ) and a > 1:
            self.log(
                a,
            )
        return a
"""
CLAIM = "UPDATE runs SET a = ? WHERE id = ? AND status = 'running' AND worker = ?"


@pytest.mark.parametrize(
    ("edit", "old", "new"),
    [
        (excerpt("x", "return a", "return 1"), "return a", "return 1"),
        (without_call("x", "self.stop"), "self.stop()", "pass"),
        (without_call("x", "self.send('größer', 1)"), 'self.send("größer", 1)', "pass"),
        (without_call("x", "self.log"), "self.log(\n                a,\n            )", "pass"),
        (never("x", "a > 1"), "a > 1", "False"),
        (always("x", "a and self.busy and a > 1"), "a and (\n            self.busy\n        ) and a > 1", "True"),
        (without_condition("x", "a > 1"), "a and (\n            self.busy\n        ) and a > 1", "a and self.busy"),
        (
            returns("x", "7"),
            METHOD[METHOD.index("self.send") :].rstrip(),
            "return 7",
        ),
    ],
)
def test_edit_changes_what_it_names(edit: Edit, old: str, new: str) -> None:
    assert edit.change(METHOD) == METHOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "condition", "changed"),
    [
        ("def f(a, b):\n    return a and b\n", "a", "def f(a, b):\n    return b\n"),
        ("def f(a, b):\n    return a or not b\n", "not b", "def f(a, b):\n    return a\n"),
        ("def f(a, b):\n    return (a or b) and b\n", "a or b", "def f(a, b):\n    return b\n"),
        ("def f(a, b):\n    return (a or b) and not b and c\n", "c", "def f(a, b):\n    return (a or b) and (not b)\n"),
        (CLAIM, "status = 'running'", CLAIM.replace(" AND status = 'running'", "")),
        (CLAIM, "worker = ?", CLAIM.replace("worker = ?", "? <> ''")),
    ],
)
def test_condition_is_left_out_of_python_and_sql(text: str, condition: str, changed: str) -> None:
    assert without_condition("x", condition).change(text) == changed


@pytest.mark.parametrize(
    "edit",
    [
        excerpt("x", "a", "b"),
        excerpt("x", "return b", ""),
        without_call("x", "self.gone"),
        without_call("x", "self.send('else', 1)"),
        never("x", "a"),
        always("x", "self.idle"),
        without_condition("x", "a > 2"),
    ],
)
def test_edit_that_does_not_apply_once_is_refused(edit: Edit) -> None:
    with pytest.raises(LookupError, match="times"):
        edit.change(METHOD)


@pytest.mark.parametrize(
    ("place", "module", "qualname"),
    [
        ("Loop._turn", "zsched.scheduler.loop", "Loop._turn"),
        ("zsched.scheduler.loop.Loop._turn", "zsched.scheduler.loop", "Loop._turn"),
        ("lease.beat_ms", "zsched.worker.lease", "beat_ms"),
        ("scheduler.loop", "zsched.scheduler.loop", ""),
        ("Machine._on_guard_dead", "tests.sim.machine", "Machine._on_guard_dead"),
    ],
)
def test_place_is_found_by_the_end_of_its_name(place: str, module: str, qualname: str) -> None:
    location = locate(place)
    assert (location.module, location.qualname) == (module, qualname)
    assert location.path.is_file()


@pytest.mark.parametrize(("place", "count"), [("Loop._gone", 0), ("_turn", 2), ("__init__", 2)])
def test_place_that_is_missing_or_ambiguous_is_refused(place: str, count: int) -> None:
    with pytest.raises(LookupError, match="names"):
        locate(place)


def test_part_is_a_definition_with_its_decorators() -> None:
    text = (
        'A = 1\n\n\n@cache\ndef f():\n    return 1\n\n\nclass C:\n    b: str = "ü"\n\n    def f(self):\n        c = 1\n'
    )
    assert [text[slice(*part(text, name))] for name in ("A", "f", "C.b", "C.f")] == [
        "A = 1\n",
        "@cache\ndef f():\n    return 1\n",
        '    b: str = "ü"\n',
        "    def f(self):\n        c = 1\n",
    ]
    for name in ("C.g", "C.f.c"):
        with pytest.raises(LookupError):
            part(text, name)


def test_edit_changes_only_its_place() -> None:
    text = locate("Loop._turn").path.read_text("utf-8")
    changed = apply(returns("Loop._turn", "None"), text)
    begin, end = part(changed, "Loop._turn")
    assert changed[begin:end].rstrip().endswith("return None")
    old_begin, old_end = part(text, "Loop._turn")
    assert (changed[:begin], changed[end:]) == (text[:old_begin], text[old_end:])
