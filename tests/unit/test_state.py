"""A worker's state directory: its mark."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from zsched.worker.state import open_state


def test_the_mark_stays_from_one_start_to_the_next(tmp_path: Path) -> None:
    first = open_state(tmp_path / "a").spool_id
    # The lock is this process's, and a file's lock is not asked for twice by one open file.
    (tmp_path / "a" / "lock").unlink()
    assert open_state(tmp_path / "a").spool_id == first
    assert open_state(tmp_path / "b").spool_id != first


@pytest.mark.parametrize("left", [b"", b"\n", b"\0" * 32, b"0123", b"\xff\xff"])
def test_a_mark_that_a_power_cut_has_left_damaged_is_made_anew(
    left: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two workers with the same empty mark would take each other's processes for their own."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    (folder / "spool_id").write_bytes(left)
    with caplog.at_level(logging.ERROR):
        made = open_state(folder).spool_id
    assert len(made) == 32
    assert "is damaged" in caplog.text
    assert (folder / "spool_id").read_text("ascii").strip() == made
