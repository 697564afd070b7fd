"""What callers and operators see stands literally in tests/golden, so that a renamed field turns a test red."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.golden import bodies, reference, sources


def stored() -> Any:
    return json.loads(bodies.FILE.read_text())


def test_every_answer_has_its_literal_body(tmp_path: Path) -> None:
    assert bodies.answers(tmp_path) == stored()["answers"]


def test_every_member_of_an_entity_has_its_literal_form() -> None:
    assert json.loads(json.dumps(bodies.entities())) == stored()["entities"]


def test_the_generated_statements_and_functions_stand_there_to_be_searched() -> None:
    assert sources.SQL.read_text() == sources.statements()
    assert sources.PYTHON.read_text() == sources.sources()


def test_the_reference_of_fields_is_what_the_descriptions_say() -> None:
    assert reference.FILE.read_text() == reference.text()
