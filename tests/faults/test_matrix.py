"""Each fault, again and again under load, and what all promises together are worth then.

ZSCHED_FAULT_SECONDS says how long each takes, ZSCHED_FAULT_SEEDS with how many seeds.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults import faults
from tests.faults.cluster import MissingError
from tests.faults.driver import Plan, carry_out
from tests.faults.stage import length_s

SEEDS = int(os.environ.get("ZSCHED_FAULT_SEEDS", "1"))
RATE = 30


@pytest.mark.parametrize("seed", range(1, SEEDS + 1))
@pytest.mark.parametrize("fault", faults.NAMES)
def test_no_promise_is_broken_under(fault: str, seed: int, tmp_path: Path) -> None:
    try:
        result = carry_out(Plan((fault,), length_s(10), seed, RATE, timeout_s=3.0, gap_s=1.5), tmp_path)
    except MissingError as error:
        pytest.skip(str(error))
    assert result.clean, f"seed {seed}\n{result.words()}"
