"""Few power cuts, and what their images are made by; tests/faults has many."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from tests.faults.images import SECTOR_BYTES, Medium, images
from tests.faults.ledgers import cut_store
from tests.faults.recording import recorded_os
from tests.faults.spools import cut_spool

pytestmark = pytest.mark.slow

OLD, NEW = b"o" * 4 * SECTOR_BYTES, b"n" * 4 * SECTOR_BYTES


def test_what_was_acked_is_in_the_database_after_a_power_cut() -> None:
    tally = cut_store(rounds=8, count=100, seed=1)
    assert (tally.images, tally.sentences) == (100, [])


def test_without_a_sync_at_each_commit_it_is_not() -> None:
    assert cut_store(rounds=8, count=30, seed=1, weaker="NORMAL").lost > 0


def test_reported_result_is_in_the_spool_after_a_power_cut() -> None:
    tally = cut_spool(rounds=60, count=600, seed=1)
    assert (tally.images, tally.sentences) == (600, [])


@pytest.mark.parametrize("missing", ["fdatasync", "fsync", "folder"])
def test_without_any_one_kind_of_sync_it_is_not(missing: str) -> None:
    assert cut_spool(rounds=60, count=50, seed=1, without={missing}).lost > 0


# What becomes of a file that is written beside another and takes its name, by the syncs that are left out.
@pytest.mark.parametrize(
    ("without", "content", "name"),
    [((), True, True), (("fdatasync",), False, True), (("folder",), True, False)],
    ids=["every sync", "not the file's", "not the folder's"],
)
def test_only_what_was_synced_is_in_every_image(
    tmp_path: Path, without: tuple[str, ...], content: bool, name: bool
) -> None:
    medium = Medium({"kept": OLD})
    (tmp_path / "kept").write_bytes(OLD)
    with recorded_os(medium, tmp_path, without=without):
        folder = os.open(tmp_path, os.O_RDONLY)
        file = os.open("new", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=folder)
        os.write(file, NEW[:SECTOR_BYTES])
        os.writev(file, [NEW[SECTOR_BYTES : 2 * SECTOR_BYTES]])
        os.pwrite(file, NEW[2 * SECTOR_BYTES :], 2 * SECTOR_BYTES)
        os.fdatasync(file)
        os.close(file)
        os.replace(tmp_path / "new", tmp_path / "kept")
        os.fsync(folder)
        os.close(folder)
        medium.told(1)
    assert medium.content() == {"kept": NEW}
    made = list(images(medium, 300, Random(1)))
    found = {image.files["kept"] for image in made if image.told}
    assert NEW in found
    assert (OLD not in found) == name
    assert (found <= {OLD, NEW}) == content
    earlier = {image.files.get("new") for image in made if not image.told}
    assert {None, b"", NEW} <= earlier
    torn = {bytes(4 * SECTOR_BYTES), NEW, b""}
    assert (earlier - {None}) - torn, "no write was torn"


def test_what_is_not_seen_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not watched"), recorded_os(Medium(), tmp_path):
        (tmp_path / "unseen").write_bytes(b"x")
