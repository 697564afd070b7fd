"""All processes killed at random under load, for as long as ZSCHED_FAULT_SECONDS says; from five minutes on, nothing
may have grown either.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.cluster import MissingError
from tests.faults.driver import Plan, carry_out
from tests.faults.stage import length_s

KILLS = ("kill-scheduler", "kill-agent", "kill-guard", "kill-worker")
RATE = 50


def test_random_kills_of_scheduler_agents_and_guards_break_no_promise(tmp_path: Path) -> None:
    try:
        result = carry_out(Plan(KILLS, length_s(20), 7, RATE), tmp_path)
    except MissingError as error:
        pytest.skip(str(error))
    assert result.verdict.info["recovered"] > 0
    assert result.clean, result.words()
