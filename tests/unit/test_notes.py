"""Message files on a real file system: those of other users, and what a killed guard leaves."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from zsched.worker.process.notes import Notes

OWN = os.geteuid(), os.getegid()
NOBODY = 65_534


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the folders for other users are made."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def test_next_guard_removes_the_files_of_a_killed_one(shared: Path, state: Path) -> None:
    left = Path(Notes(state).path("m1", OWN))
    assert left.stat().st_mode & 0o777 == 0o600
    assert left.parent.stat().st_mode & 0o777 == 0o711
    notes = Notes(state)
    assert list(shared.iterdir()) == []
    again = Path(notes.path("m2", OWN))
    assert again.parent != left.parent
    notes.close()
    assert list(shared.iterdir()) == []
    assert list(state.iterdir()) == []


def test_folder_that_was_tidied_away_is_made_again(shared: Path, state: Path) -> None:
    notes = Notes(state)
    shutil.rmtree(Path(notes.path("m1", OWN)).parent)
    again = notes.path("m2", OWN)
    assert Path(again).read_bytes() == b""
    Path(again).write_text("full disk")
    assert notes.take(again) == b"full disk"
    assert len(list(shared.iterdir())) == 1


def test_folder_that_a_job_has_removed_is_made_again(state: Path) -> None:
    notes = Notes(state)
    shutil.rmtree(Path(notes.path("m1", None)).parent)
    again = Path(notes.path("m2", None))
    again.write_text("full disk")
    assert again.parent.stat().st_mode & 0o777 == 0o700
    assert notes.take(str(again)) == b"full disk"


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """This process has the rights of another user meanwhile, and a folder of that user."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        os.chown(name, NOBODY, NOBODY)
        os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take the rights of another user")
def test_job_starts_without_a_file_when_the_guard_may_not_give_it_away(
    as_nobody: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A root without the capability CHOWN, as in some containers."""
    monkeypatch.setattr(tempfile, "tempdir", str(as_nobody))
    notes = Notes(as_nobody)
    assert [notes.path("m1", (0, 0)), notes.path("m2", (0, 0))] == ["", ""]
    assert caplog.messages == ["jobs get no ZSCHED_MESSAGE_FILE: Operation not permitted"]
