"""What callers and operators see stands literally in tests/golden, so that a renamed field turns a test red."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.golden import bodies


def stored() -> Any:
    return json.loads(bodies.FILE.read_text())


def test_every_answer_has_its_literal_body(tmp_path: Path) -> None:
    assert bodies.answers(tmp_path) == stored()["answers"]


def test_every_member_of_an_entity_has_its_literal_form() -> None:
    assert json.loads(json.dumps(bodies.entities())) == stored()["entities"]
