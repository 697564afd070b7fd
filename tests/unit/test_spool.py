"""What becomes of a worker's results when it dies, the power goes or the disk fails. On real files."""

from __future__ import annotations

import errno
import logging
import os
import random
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.damage import cut, flipped
from zsched.protocol import Output, RunResult
from zsched.worker.guard import journal as journal_module
from zsched.worker.guard import spool as spool_module
from zsched.worker.guard.journal import Journal
from zsched.worker.guard.spool import RETRY_MS, Kept, Spool, open_spool
from zsched.worker.state import StateError

DAY_S = 86_400
# All that a test has opened.
JOURNALS: list[Journal] = []


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    for journal in JOURNALS:
        journal.close()
    JOURNALS.clear()


def result(run: int, output: int = 0) -> RunResult:
    return RunResult(run, "success", "exit", 9, started_ms=7, exit_code=0, stdout=Output(b"x" * output, b"", output))


def kept(spool: Spool, *results: RunResult, mono_ms: int = 0) -> None:
    spool.write(results, mono_ms)
    spool.sync(mono_ms)


def opened(state: Path) -> Spool:
    """As after a kill -9: nothing was closed."""
    journal = Journal(state / "spool")
    JOURNALS.append(journal)
    return Spool(journal, 0)


def runs(spool: Spool) -> list[int]:
    return [one.run for one in spool.results()]


def spool_file(state: Path, db: str = "d1") -> Path:
    return state / "spool" / f"{db}.spool"


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """That of the database d1, in a state directory of an earlier release."""
    made = opened(tmp_path)
    made.enter("d1", 0)
    return made


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried a thousand times need not wait for a disk."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)


# --- kill -9 and power cuts ------------------------------------------------------------------------------------------


def test_results_come_back_as_they_were_in_their_order(spool: Spool, tmp_path: Path) -> None:
    results = (
        result(3),
        RunResult(1, "failed", "signal", 2**53, started_ms=0, signal=9, stderr=Output(b"\0\xff", b"\n", 2**40)),
        RunResult(2, "failed", "spawn_error", 1, detail="é" * 1024),
    )
    kept(spool, *results)

    again = opened(tmp_path)
    assert again.results() == results
    assert again.db == "d1"
    assert len(again) == 3


def test_what_was_forgotten_does_not_come_back(spool: Spool, tmp_path: Path) -> None:
    kept(spool, result(1), result(2), result(3))
    spool.forget((1, 3, 99), 0)
    again = opened(tmp_path)
    assert runs(again) == [2]
    again.forget((2,), 0)
    assert runs(opened(tmp_path)) == []


def test_several_starts_in_a_row_lose_nothing(tmp_path: Path) -> None:
    opened(tmp_path).enter("d1", 0)
    for run in range(1, 6):
        spool = opened(tmp_path)
        assert runs(spool) == list(range(1, run))
        kept(spool, result(run))


class Calls:
    """What was asked of the operating system, and what fails of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.targets: list[object] = []
        self.failing: dict[str, int] = {}
        for name in ("write", "fdatasync", "fsync", "open"):
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def fail(self, number: int, *names: str) -> None:
        self.failing = dict.fromkeys(names, number)

    def _watched(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *rest: Any, **named: Any) -> Any:
            self.made.append(name)
            self.targets.append(target)
            if name in self.failing:
                raise OSError(self.failing[name], os.strerror(self.failing[name]))
            return real(target, *rest, **named)

        return call


def test_a_batch_is_one_write_and_one_sync(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(spool, result(1))
    calls = Calls(monkeypatch)
    spool.write(map(result, (2, 3, 4)), 0)
    assert calls.made == ["write"]
    spool.sync(0)
    assert calls.made == ["write", "fdatasync"]
    spool.forget((1, 2), 0)
    assert calls.made == ["write", "fdatasync", "write"]
    spool.sync(0)
    assert calls.made == ["write", "fdatasync", "write"]


def test_a_new_file_is_synced_before_it_has_its_name_and_so_is_the_name(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)
    named: list[int] = []
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        named.append(len(calls.made))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    kept(spool, result(1))
    assert calls.made == ["open", "write", "fsync", "open", "fsync"]
    assert named == [3]
    assert calls.targets[3] == tmp_path / "spool"


def test_folders_that_are_made_are_there_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    opened(tmp_path / "a" / "state")
    synced = [target for target in calls.targets if isinstance(target, Path) and target.is_dir()]
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "state"]
    assert (tmp_path / "a" / "state" / "spool").stat().st_mode & 0o777 == 0o700


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unsynced")
def test_of_a_file_that_is_torn_at_any_byte_all_that_is_whole_is_kept(
    spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ends = [0]
    for run in (1, 2, 3):
        kept(spool, result(run))
        ends.append(spool_file(tmp_path).stat().st_size)
    whole = spool_file(tmp_path).read_bytes()
    for size in range(len(whole) + 1):
        spool_file(tmp_path).write_bytes(whole[:size])
        caplog.clear()
        again = opened(tmp_path)
        left = [run for run in (1, 2, 3) if ends[run] <= size]
        assert runs(again) == left
        assert ("is damaged" in caplog.text) is (size not in ends)
        # And what is added then is found as well.
        kept(again, result(9))
        assert runs(opened(tmp_path)) == [*left, 9]


@pytest.mark.parametrize("tail", [b"\0" * 4_096, b"\xff" * 100, b"\0\0\0\1", random.Random(1).randbytes(50)], ids=len)
def test_whatever_follows_the_last_whole_record_is_cut_off(
    spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture, tail: bytes
) -> None:
    kept(spool, result(1), result(2))
    size = spool_file(tmp_path).stat().st_size
    with spool_file(tmp_path).open("ab") as file:
        file.write(tail)
    assert runs(opened(tmp_path)) == [1, 2]
    assert f"the first {size} of {size + len(tail)} bytes are intact" in caplog.text
    caplog.clear()
    assert runs(opened(tmp_path)) == [1, 2]
    assert caplog.text == ""


def test_a_damaged_length_takes_no_memory(spool: Spool, tmp_path: Path) -> None:
    spool_file(tmp_path).write_bytes(b"\xff" * 100)
    tracemalloc.start()
    try:
        assert runs(opened(tmp_path)) == []
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("unsynced")
@pytest.mark.parametrize("seed", range(8))
def test_no_damage_stops_a_start_or_makes_a_result_up(
    spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    chance = random.Random(seed)
    caplog.set_level(logging.CRITICAL)
    kept(spool, *(result(run, chance.randint(0, 300)) for run in range(1, 8)))
    spool.forget((2, 5), 0)
    before = set(spool.results()) | {result(2), result(5)}
    whole, current = spool_file(tmp_path).read_bytes(), (tmp_path / "spool" / "current").read_bytes()
    real = {one.run for one in before}
    for _ in range(25):
        spool_file(tmp_path).write_bytes(chance.choice((flipped, cut))(chance, whole, b""))
        assert set(runs(opened(tmp_path))) <= real
        (tmp_path / "spool" / "current").write_bytes(chance.choice((flipped, cut))(chance, current, b""))
        again = opened(tmp_path)
        assert again.db in ("d1", "")
        kept(again, result(9))
        assert 9 in runs(opened(tmp_path))
        (tmp_path / "spool" / "current").write_bytes(current)


def test_whole_record_of_another_release_is_skipped_and_later_ones_kept(
    spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept(spool, result(1))
    journal = Journal(tmp_path / "spool")
    JOURNALS.append(journal)
    bodies = list(journal.load("d1"))
    unknown = [["kept", {"run": 7, "status": "perhaps"}], ["later"], 5, {"a": 1}, ["forgotten", ["x"]]]
    journal.replace([*map(msgspec.msgpack.encode, unknown), b"", b"\xc1", *bodies], room=False)
    assert runs(opened(tmp_path)) == [1]
    assert "left out of the spool of database d1: 7 records of an unknown format" in caplog.text


def test_invalid_name_of_the_current_database_is_ignored(tmp_path: Path) -> None:
    opened(tmp_path).enter("d" * 64, 0)
    assert opened(tmp_path).db == "d" * 64
    Journal(tmp_path / "spool").remember("d" * 65)
    assert opened(tmp_path).db == ""


def test_spool_that_cannot_be_read_is_reported_and_left_alone(spool: Spool, tmp_path: Path) -> None:
    kept(spool, result(1))
    spool_file(tmp_path).rename(tmp_path / "elsewhere")
    spool_file(tmp_path).mkdir()
    with pytest.raises(StateError, match="can't be read: Is a directory"):
        open_spool(tmp_path, 0)


# --- its size --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unsynced")
def test_a_file_in_which_nothing_is_held_is_emptied_when_it_is_long(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SLACK_BYTES", 1_000)
    longest = 0
    for run in range(1, 100):
        kept(spool, result(run, 100))
        spool.forget((run,), 0)
        longest = max(longest, spool_file(tmp_path).stat().st_size)
    assert 500 < longest <= 1_000
    again = opened(tmp_path)
    assert runs(again) == []
    kept(again, result(100))
    assert runs(opened(tmp_path)) == [100]


@pytest.mark.usefixtures("unsynced")
def test_file_with_held_results_is_at_most_twice_as_long_and_some(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SLACK_BYTES", 1_000)
    held = [result(run, 500) for run in range(1, 4)]
    kept(spool, *held)
    live = spool_file(tmp_path).stat().st_size
    for run in range(10, 200):
        kept(spool, result(run, 100))
        spool.forget((run,), 0)
        assert spool_file(tmp_path).stat().st_size < 2 * live + 1_000 + 500
    assert opened(tmp_path).results() == tuple(held)
    assert [path.name for path in sorted((tmp_path / "spool").iterdir())] == ["current", "d1.spool"]


# --- other databases -------------------------------------------------------------------------------------------------


def test_results_of_another_database_wait_for_it(spool: Spool, tmp_path: Path) -> None:
    kept(spool, result(1))
    # Not synced yet.
    spool.write((result(2),), 0)
    spool.enter("d2", 0)
    assert runs(spool) == []
    kept(spool, result(1, 50))

    again = opened(tmp_path)
    assert (again.db, again.results()) == ("d2", (result(1, 50),))
    again.enter("d1", 0)
    assert again.results() == (result(1), result(2))
    again.forget((1, 2), 0)
    again.enter("d2", 0)
    assert again.results() == (result(1, 50),)
    assert not spool_file(tmp_path).exists()


@pytest.mark.parametrize("db", ["", ".", "../d1", "a/b", "\0", "é", "d1.spool", "current", "_", " ", "x" * 64, "\n"])
def test_any_word_may_name_a_database(tmp_path: Path, db: str) -> None:
    spool = opened(tmp_path)
    spool.enter("other", 0)
    spool.enter(db, 0)
    kept(spool, result(1))
    again = opened(tmp_path)
    assert (again.db, runs(again)) == (db, [1])
    assert {path.parent for path in tmp_path.rglob("*.spool")} == {tmp_path / "spool"}
    again.enter("other", 0)
    assert runs(again) == []


def test_results_of_another_database_go_after_a_week(
    spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    long_ago = time.time() - 8 * DAY_S
    kept(spool, result(1))
    # Written long ago, but left just now.
    os.utime(spool_file(tmp_path), (long_ago, long_ago))
    spool.enter("d2", 0)
    kept(spool, result(2))
    os.utime(spool_file(tmp_path, "d2"), (long_ago, long_ago))

    opened(tmp_path)
    assert spool_file(tmp_path).exists()
    six_days = time.time() - 6 * DAY_S
    os.utime(spool_file(tmp_path), (six_days, six_days))
    opened(tmp_path)
    assert spool_file(tmp_path).exists()
    os.utime(spool_file(tmp_path), (long_ago, long_ago))
    caplog.clear()
    again = opened(tmp_path)
    assert not spool_file(tmp_path).exists()
    assert "d1.spool is removed" in caplog.text
    # That of the own one does not go, however old.
    assert runs(again) == [2]


def test_results_can_be_added_for_a_database_that_is_not_the_current_one(spool: Spool, tmp_path: Path) -> None:
    kept(spool, result(1), result(2))
    spool.forget((1,), 0)
    spool.enter("d2", 0)
    spool.write_aside([("d1", result(3))], 0)
    spool.write_aside([("d3", result(1))], 0)
    kept(spool, result(1, 5))
    again = opened(tmp_path)
    assert again.others() == {"d1": {2, 3}, "d3": {1}}
    again.discard(["d3"])
    assert again.others() == {"d1": {2, 3}}
    again.enter("d1", 0)
    assert runs(again) == [2, 3]
    assert again.others() == {"d2": {1}}


def test_nothing_is_added_behind_a_torn_record(spool: Spool, tmp_path: Path) -> None:
    kept(spool, result(1), result(2))
    spool.enter("d2", 0)
    whole = spool_file(tmp_path).read_bytes()
    spool_file(tmp_path).write_bytes(whole[:-3])
    again = opened(tmp_path)
    again.write_aside([("d1", result(3))], 0)
    assert again.others() == {"d1": {1, 3}}


def test_record_that_could_not_be_added_is_added_later(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.enter("d2", 0)
    spool.write_aside([("d1", result(1))], 0)
    before = spool_file(tmp_path).read_bytes()

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "the disk fails")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        spool.write_aside([("d1", result(2))], 0)
    assert spool_file(tmp_path).read_bytes() == before
    assert spool.deadline_ms() == RETRY_MS
    spool.on_tick(RETRY_MS)
    assert spool.deadline_ms() is None
    assert opened(tmp_path).others() == {"d1": {1, 2}}


def test_unwritten_result_of_another_database_is_there_when_it_returns(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.enter("d2", 0)
    with monkeypatch.context() as patched:
        Calls(patched).fail(errno.EIO, "fdatasync")
        spool.write_aside([("d1", result(1)), ("d3", result(2))], 0)
    assert spool.enter("d1", 1) == (result(1),)
    spool.discard(["d3"])
    spool.on_tick(RETRY_MS)
    assert spool.others() == {}
    assert runs(opened(tmp_path)) == [1]


def test_a_result_that_was_added_for_another_database_is_synced(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.enter("d2", 0)
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(spool_file(tmp_path).read_bytes()))
    spool.write_aside([("d1", result(1))], 0)
    assert synced == [spool_file(tmp_path).read_bytes()]


def test_leftovers_of_a_crash_in_the_folder_are_removed(spool: Spool, tmp_path: Path) -> None:
    kept(spool, result(1))
    (tmp_path / "spool" / "d1.spool.new").write_bytes(b"half")
    (tmp_path / "spool" / "d2.spool.new").write_bytes(b"half")
    assert runs(opened(tmp_path)) == [1]
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == ["current", "d1.spool"]


# --- the disk fails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "calls_failing"),
    [
        (errno.ENOSPC, ("write",)),
        (errno.ENOSPC, ("fdatasync", "fsync")),
        (errno.EIO, ("fdatasync", "fsync")),
        (errno.EIO, ("write", "fdatasync", "fsync")),
        (errno.EROFS, ("open", "write")),
    ],
)
def test_disk_that_fails_loses_no_result_and_a_new_file_is_tried(
    spool: Spool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
    calls_failing: tuple[str, ...],
) -> None:
    caplog.set_level(logging.INFO)
    kept(spool, result(1))
    calls = Calls(monkeypatch)
    calls.fail(number, *calls_failing)
    kept(spool, result(2), mono_ms=100)
    assert spool.failing
    assert spool.deadline_ms() == 100 + RETRY_MS
    calls.made.clear()
    kept(spool, result(3), mono_ms=200)
    spool.forget((1,), 300)
    spool.on_tick(99 + RETRY_MS)
    # Nothing is asked of that file again.
    assert calls.made == []
    spool.on_tick(100 + RETRY_MS)
    assert calls.made[0] == "open"
    assert spool.failing
    assert runs(spool) == [2, 3]
    assert caplog.text.count("results can't be kept on disk") == 1
    # What was safe before is so still.
    assert result(1) == msgspec.msgpack.decode(next(Journal(tmp_path / "spool").load("d1")), type=Kept).result

    calls.failing.clear()
    spool.on_tick(100 + 2 * RETRY_MS)
    assert (spool.failing, spool.deadline_ms()) == (False, None)
    assert "results are kept on disk again" in caplog.text
    kept(spool, result(4))
    assert runs(opened(tmp_path)) == [2, 3, 4]


def test_a_sync_that_failed_is_not_tried_again_on_the_same_file(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(spool, result(1))
    calls = Calls(monkeypatch)
    calls.fail(errno.EIO, "fdatasync")
    kept(spool, result(2))
    calls.failing.clear()
    calls.made.clear()
    spool.on_tick(RETRY_MS)
    assert calls.made[:2] == ["open", "write"]
    assert not spool.failing


def test_a_disk_without_room_for_more_is_full_also_when_nothing_is_held(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(spool, result(1))
    full = [True]
    real = os.write

    def write(fd: int, data: Any) -> int:
        """Of a record half."""
        if full[0]:
            if len(data) < 100:
                return real(fd, data[: len(data) // 2 or 1])
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    kept(spool, result(2, 500))
    assert spool.failing
    spool.forget((1, 2), 0)
    spool.on_tick(RETRY_MS)
    assert spool.deadline_ms() == 2 * RETRY_MS
    full[0] = False
    spool.on_tick(2 * RETRY_MS)
    assert spool.deadline_ms() is None


def test_writes_that_take_a_part_are_gone_on_with(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:7]))
    kept(spool, result(1, 100))
    kept(spool, result(2, 100))
    assert runs(opened(tmp_path)) == [1, 2]


def test_a_disk_that_is_full_at_the_start_delays_nothing(
    spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(spool, result(1))
    calls = Calls(monkeypatch)
    calls.fail(errno.ENOSPC, "write")
    again = opened(tmp_path)
    assert (again.failing, again.db, runs(again)) == (True, "d1", [1])
    calls.failing.clear()
    assert again.on_tick(RETRY_MS) == ()
    assert not again.failing


def test_spool_that_cannot_be_read_when_its_database_comes_is_read_later(
    spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept(spool, result(1), result(2))
    spool.enter("d2", 0)
    hidden = tmp_path / "hidden"
    spool_file(tmp_path).rename(hidden)
    spool_file(tmp_path).mkdir()

    spool.enter("d1", 0)
    assert spool.failing
    kept(spool, result(3))
    spool_file(tmp_path).rmdir()
    hidden.rename(spool_file(tmp_path))
    assert spool.on_tick(RETRY_MS) == (result(1), result(2))
    assert spool.deadline_ms() is None
    assert sorted(runs(opened(tmp_path))) == [1, 2, 3]


def test_a_spool_that_could_not_be_read_is_not_thrown_away_as_empty(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(spool, result(1))
    spool.enter("d2", 0)
    with monkeypatch.context() as patch:

        def refuse(self: Path, mode: str) -> None:
            raise OSError(errno.EIO, "Input/output error", str(self))

        patch.setattr(Path, "open", refuse)
        spool.enter("d1", 0)
        assert (spool.failing, runs(spool)) == (True, [])
        spool.enter("d2", 0)
    spool.enter("d1", 0)
    assert (spool.failing, runs(spool)) == (False, [1])


def test_results_lost_by_a_failing_disk_are_counted(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept(spool, result(1))
    calls = Calls(monkeypatch)
    calls.fail(errno.ENOSPC, "write")
    kept(spool, result(2), result(3))
    spool.enter("d2", 0)
    assert "lost 3 results of database d1" in caplog.text
    assert (spool.db, spool.failing, runs(spool)) == ("d2", True, [])
    calls.failing.clear()
    spool.on_tick(RETRY_MS)
    assert not spool.failing


def test_large_spool_is_rewritten_in_parts(spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_WRITE_BYTES", 1_000)
    results: Iterable[RunResult] = [result(run, 300) for run in range(1, 50)]
    kept(spool, *results)
    calls = Calls(monkeypatch)
    assert opened(tmp_path).results() == tuple(results)
    assert calls.made.count("write") > 10
