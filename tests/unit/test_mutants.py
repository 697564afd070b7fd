"""Each mutant of the simulator applies to the code as it is, and compiles. tests/sim/test_mutants.py runs them."""

from __future__ import annotations

import pytest

from tests.sim.mutants import EQUIVALENT, MUTANTS, applied


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_applies_and_compiles(name: str) -> None:
    with applied(MUTANTS[name]):
        pass


def test_excused_mutants_exist() -> None:
    assert set(EQUIVALENT) <= set(MUTANTS)
