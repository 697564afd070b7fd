"""A worker's state directory: its mark, its owner, its lock."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from zsched.worker.guard.spool import open_spool
from zsched.worker.state import StateError, open_state

STRANGER = 65_534
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have files of another user")


def test_the_mark_stays_from_one_start_to_the_next(tmp_path: Path) -> None:
    first = open_state(tmp_path / "a").spool_id
    # The lock is this process's, and a file's lock is not asked for twice by one open file.
    (tmp_path / "a" / "lock").unlink()
    assert open_state(tmp_path / "a").spool_id == first
    assert open_state(tmp_path / "b").spool_id != first


@pytest.mark.parametrize("left", [b"", b"\n", b"\0" * 32, b"0123", b"\xff\xff"])
def test_mark_damaged_by_a_power_cut_is_made_again(
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


@root
def test_state_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    os.chown(folder, STRANGER, STRANGER)
    with pytest.raises(StateError, match=f"insecure owner of {folder} \\(user {STRANGER}\\)"):
        open_state(folder)


@pytest.mark.parametrize("mode", [0o750, 0o701])
def test_state_directory_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(StateError, match=f"run chmod 700 {folder}"):
        open_state(folder)


@root
def test_link_of_another_user_to_a_state_directory_is_refused(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "open" / "link"
    real.mkdir(mode=0o700)
    link.parent.mkdir()
    link.parent.chmod(0o1777)
    link.symlink_to(real)
    os.lchown(link, STRANGER, STRANGER)
    with pytest.raises(StateError, match=f"insecure link {link}"):
        open_state(link)
    os.lchown(link, os.geteuid(), -1)
    assert open_state(link).folder == real


@root
def test_spool_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    os.chown(tmp_path / "spool", STRANGER, STRANGER)
    with pytest.raises(StateError, match=f"insecure owner of {tmp_path}/spool"):
        open_spool(tmp_path, 0)


def test_lock_that_is_a_link_is_not_made_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    (folder / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError, match=f"insecure lock {folder}/lock"):
        open_state(folder)
    assert not (tmp_path / "elsewhere").exists()
