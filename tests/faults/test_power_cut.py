"""The power fails, at any moment, in the middle of any write: what was acked is there, and the files are sound.

ZSCHED_POWER_CUTS says how many cuts there are, ZSCHED_POWER_SEED which.
"""

from __future__ import annotations

import os

import pytest

from tests.faults.ledgers import Weaker, cut_store
from tests.faults.spools import cut_spool

CUTS = int(os.environ.get("ZSCHED_POWER_CUTS", "500"))
# These cost little, and a torn write that makes sense without its checksum is rare.
SPOOL_CUTS = 3 * CUTS
SEED = int(os.environ.get("ZSCHED_POWER_SEED", "1"))
ROUNDS = 24


@pytest.fixture(autouse=True)
def terse(caplog: pytest.LogCaptureFixture) -> None:
    """Scheduler and spool say more than can be read."""
    caplog.set_level("CRITICAL", "zsched")


# One round alone: most cuts are in the first start with its migrations, and in the restarts.
@pytest.mark.parametrize("rounds", [1, ROUNDS])
@pytest.mark.timeout(600 + CUTS)
def test_acked_changes_survive_a_power_cut_in_a_sound_database(rounds: int) -> None:
    tally = cut_store(rounds=rounds, count=CUTS, seed=SEED)
    assert tally.images == CUTS
    assert tally.sentences == []


@pytest.mark.parametrize("weaker", ["NORMAL", "OFF"])
def test_with_fewer_syncs_the_same_cuts_are_seen_to_lose_work(weaker: Weaker) -> None:
    tally = cut_store(rounds=ROUNDS, count=200, seed=SEED, weaker=weaker)
    assert tally.lost > 0
    if weaker == "NORMAL":
        assert tally.corrupt == 0
    else:
        assert tally.corrupt > 0


@pytest.mark.timeout(600 + CUTS)
def test_reported_results_are_in_the_spool_after_a_power_cut() -> None:
    tally = cut_spool(rounds=150, count=SPOOL_CUTS, seed=SEED)
    assert tally.images == SPOOL_CUTS
    assert tally.sentences == []


@pytest.mark.parametrize("missing", ["fdatasync", "fsync", "folder"])
def test_power_cuts_lose_results_without_any_one_kind_of_sync(missing: str) -> None:
    assert cut_spool(rounds=150, count=200, seed=SEED, without={missing}).lost > 0
