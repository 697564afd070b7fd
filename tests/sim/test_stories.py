"""The canonical stories are what happens. A difference is a change of behaviour: python -m tests.sim.stories --write"""

from __future__ import annotations

import pytest

from tests.sim.stories import Tale, tales


@pytest.mark.parametrize("tale", tales(), ids=lambda tale: tale.name)
def test_story_has_the_same_log(tale: Tale) -> None:
    assert tale.tell().splitlines() == tale.log.splitlines()
