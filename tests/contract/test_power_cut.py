"""Few power cuts; tests/faults has many."""

from __future__ import annotations

from pathlib import Path

from tests.faults.ledgers import cut


def test_what_was_acked_is_there_after_a_power_cut(tmp_path: Path) -> None:
    tally = cut(tmp_path, "FULL", rounds=8, count=30, seed=1)
    assert (tally.images, tally.sentences) == (30, [])


def test_without_a_sync_at_each_commit_it_is_not(tmp_path: Path) -> None:
    assert cut(tmp_path, "NORMAL", rounds=8, count=10, seed=1).lost > 0
