"""Kinds of events: the words that are stored and shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from zsched.model.events import DECISIONS, EventKind
from zsched.model.records import ForeignDecision
from zsched.model.types import RunStatus, WorkerStatus

DOCS = Path(__file__).parents[2] / "docs" / "rest.md"


@pytest.mark.parametrize("kind", EventKind)
def test_kind_is_documented(kind: EventKind) -> None:
    assert f"`{kind}`" in DOCS.read_text("utf-8")


def test_words_differ_from_those_of_states() -> None:
    assert not {*EventKind}.intersection({*RunStatus, *WorkerStatus})


def test_each_decision_has_its_kind() -> None:
    assert {decision: str(kind) for decision, kind in DECISIONS.items()} == {
        decision: f"foreign_{decision}" for decision in ForeignDecision
    }
