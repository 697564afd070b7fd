"""The database's file: who may open it, whether it and its WAL belong together, whether it is still in its place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import pytest

from tests.contract.base import NOW
from zsched.model.types import JobSpec
from zsched.store.contract import StoreLocked, StoreMisplaced
from zsched.store.sqlite import engine as sqlite
from zsched.store.sqlite import migrations
from zsched.store.sqlite.copies import Content, Origin, make_backup
from zsched.store.sqlite.engine import SqliteEngine, open_engine, open_reader, open_writer
from zsched.store.sqlite.head import APPLICATION_ID, Head, belongs
from zsched.store.sqlite.lock import Lock
from zsched.store.writer import Writer

pytestmark = pytest.mark.slow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "live"
    folder.mkdir()
    return folder / "s.db"


def submit(store: Writer, count: int = 1) -> None:
    store.begin()
    store.submit([JobSpec(name="a", command="x" * 500)] * count, [None] * count, "test", NOW)
    store.flush_counters(NOW)
    store.commit()


def jobs(path: Path) -> int:
    """How many jobs a scheduler that starts on the file finds."""
    with Lock(path) as lock:
        engine = open_engine(path, NOW, lock)
        with closing(engine):
            return int(engine.execute("SELECT count(*) FROM jobs")[0][0])


def crash(path: Path, image: Path) -> Path:
    """What kill -9 leaves of an open database: a copy of its file and its WAL."""
    image.mkdir()
    for suffix in ("", "-wal"):
        with_suffix = path.with_name(path.name + suffix)
        if with_suffix.exists():
            # This drops the locks that SQLite has on the file, which only other processes ask for.
            shutil.copyfile(with_suffix, image / with_suffix.name)
    (image / path.name).chmod(0o600)
    return image / path.name


def overwrite(path: Path, by: Path) -> None:
    """cp BY PATH: the inode stays."""
    subprocess.run(["cp", by, path], check=True)


def content(path: Path) -> dict[str, bytes]:
    return {suffix: path.with_name(path.name + suffix).read_bytes() for suffix in ("", "-wal")}


# --- copies of a database ---


def by_command(path: Path, copy: Path) -> None:
    copy.touch(0o600)
    with closing(SqliteEngine(path, read_only=True)) as engine:
        assert make_backup(engine, copy, lambda db: Content(Origin(db, NOW, str(path), "h", "1")))


def by_sqlite(path: Path, copy: Path) -> None:
    """sqlite3 PATH '.backup COPY'"""
    # By APSW too: a second SQLite library in this process would drop the locks of the first one.
    with (
        closing(apsw.Connection(str(path))) as source,
        closing(apsw.Connection(str(copy))) as target,
        target.backup("main", source, "main") as backup,
    ):
        backup.step()


def by_vacuum(path: Path, copy: Path) -> None:
    """sqlite3 PATH "VACUUM INTO 'COPY'" """
    with closing(apsw.Connection(str(path))) as source:
        source.execute("VACUUM INTO ?", (str(copy),))


ONLINE = [by_command, by_sqlite, by_vacuum]


@pytest.mark.parametrize("make", ONLINE)
@pytest.mark.parametrize("reset", [False, True], ids=["WAL replays", "WAL was reset"])
def test_copy_put_over_a_database_with_a_wal_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path, Path], None], *, reset: bool
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 20 if reset else 10**6)
    with Lock(path) as lock, closing(open_writer(path, NOW, lock)) as store:
        submit(store, 3)
        make(path, tmp_path / "copy.db")
        for _ in range(20):
            submit(store, 5)
        crashed = crash(path, tmp_path / "image")
    overwrite(crashed, tmp_path / "copy.db")
    before = content(crashed)
    with Lock(crashed) as lock, pytest.raises(StoreMisplaced, match="zsched db restore"):
        open_writer(crashed, NOW, lock)
    assert content(crashed) == before


def test_copy_of_a_stopped_database_put_over_a_later_one_is_refused(path: Path, tmp_path: Path) -> None:
    with Lock(path) as lock, closing(open_writer(path, NOW, lock)) as store:
        submit(store, 3)
    shutil.copy(path, tmp_path / "copy.db")
    with Lock(path) as lock, closing(open_writer(path, NOW, lock)) as store:
        submit(store, 5)
        crashed = crash(path, tmp_path / "image")
    overwrite(crashed, tmp_path / "copy.db")
    with Lock(crashed) as lock, pytest.raises(StoreMisplaced, match="not the file that its WAL"):
        open_writer(crashed, NOW, lock)


def test_database_put_over_another_one_with_a_wal_is_refused(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    for name in (other, path):
        with Lock(name) as lock, closing(open_writer(name, NOW, lock)) as store:
            submit(store, 5)
            crashed = crash(name, tmp_path / f"image of {name.name}")
    overwrite(crashed, other)
    with Lock(crashed) as lock, pytest.raises(StoreMisplaced):
        open_writer(crashed, NOW, lock)


def test_wal_without_its_file_is_refused_and_kept(path: Path, tmp_path: Path) -> None:
    with Lock(path) as lock, closing(open_writer(path, NOW, lock)) as store:
        submit(store, 5)
        crashed = crash(path, tmp_path / "image")
    crashed.unlink()
    with pytest.raises(StoreMisplaced, match="is missing, but its WAL"):
        Lock(crashed)
    crashed.touch(0o600)
    with Lock(crashed) as lock, pytest.raises(StoreMisplaced):
        open_writer(crashed, NOW, lock)
    assert crashed.with_name("s.db-wal").stat().st_size > 4096


def test_backup_is_refused_as_a_database_by_a_scheduler(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    open_writer(path, NOW).close()
    by_command(path, backup)
    for lock in (Lock(backup), None):
        with pytest.raises(StoreMisplaced, match=f"zsched db restore {backup} --db={backup}"):
            open_writer(backup, NOW, lock)


@pytest.mark.parametrize("make", [by_sqlite, by_vacuum])
def test_plain_copy_in_another_place_is_opened(path: Path, tmp_path: Path, make: Callable[[Path, Path], None]) -> None:
    with Lock(path) as lock, closing(open_writer(path, NOW, lock)) as store:
        submit(store, 3)
        make(path, tmp_path / "copy.db")
    (tmp_path / "copy.db").chmod(0o600)
    assert jobs(tmp_path / "copy.db") == 3
    shutil.copy(path, tmp_path / "stopped.db")
    assert jobs(tmp_path / "stopped.db") == 3


# --- a crash is no mixture ---


@contextmanager
def images(path: Path, folder: Path) -> Iterator[list[Path]]:
    """An image of a database after each commit and each checkpoint."""
    taken: list[Path] = []

    def after(step: Callable[[SqliteEngine], object]) -> Callable[[SqliteEngine], object]:
        def stepped(engine: SqliteEngine) -> None:
            step(engine)
            taken.append(crash(path, folder / f"image{len(taken)}"))

        return stepped

    with pytest.MonkeyPatch.context() as patched:
        for name in ("commit", "_checkpoint"):
            patched.setattr(SqliteEngine, name, after(getattr(SqliteEngine, name)))
        yield taken


def test_crash_at_any_step_of_the_first_start_is_recovered(path: Path, tmp_path: Path) -> None:
    with images(path, tmp_path) as taken, Lock(path) as lock, closing(open_writer(path, NOW, lock)):
        pass
    assert len(taken) > 10
    assert [jobs(image) for image in taken] == [0] * len(taken)


def test_crash_at_any_step_of_an_upgrade_is_recovered(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lock(path) as lock, closing(open_writer(path, NOW, lock)) as store:
        submit(store, 3)
        crashed = crash(path, tmp_path / "crashed")
    steps = [*migrations.schema_steps(), "CREATE TABLE one (a)", "CREATE TABLE two (a)"]
    monkeypatch.setattr(migrations, "schema_steps", lambda: steps)
    with images(crashed, tmp_path) as taken, Lock(crashed) as lock, closing(open_writer(crashed, NOW, lock)) as store:
        submit(store, 1)
    assert {jobs(image) for image in taken} == {3, 4}


@pytest.mark.parametrize("read", [False, True], ids=["alone", "with a reader"])
def test_crash_at_any_step_of_the_work_is_recovered(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, read: bool
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 20)
    with (
        images(path, tmp_path) as taken,
        Lock(path) as lock,
        closing(open_writer(path, NOW, lock)) as store,
        closing(open_reader(path)) as reader,
    ):
        for number in range(12):
            rows = reader.jobs(None, 10) if read and number % 4 == 1 else None
            if rows is not None:
                next(rows)
            submit(store, 2)
            store.verify()
            if rows is not None:
                rows.close()
    counts = [jobs(image) for image in taken]
    assert counts == sorted(counts)
    assert counts[-1] == 24


def test_schema_change_by_another_program_is_not_taken_for_mixed_files(path: Path, tmp_path: Path) -> None:
    with Lock(path) as lock, closing(open_writer(path, NOW, lock)) as store:
        submit(store, 3)
        with closing(apsw.Connection(str(path))) as other:
            other.execute("ANALYZE")
        store.verify()
        assert jobs(crash(path, tmp_path / "image")) == 3


def test_generation_after_the_last_one_is_the_first() -> None:
    last = Head(APPLICATION_ID, ((1 << 23) - 1) << 8 | 10, 40)
    after = Head(APPLICATION_ID, last.advanced(), 40)
    assert (after.generation, after.schema) == (1, 10)
    fresh = Head(APPLICATION_ID, 10, 40)
    assert Head(APPLICATION_ID, fresh.advanced(), 40).generation not in (0, Head(APPLICATION_ID, fresh.advanced(), 40))
    assert belongs(fresh, Head(APPLICATION_ID, fresh.advanced(), 40))


# --- the lock ---


def test_lock_holds_by_a_hard_link_and_without_the_folder(path: Path) -> None:
    with Lock(path) as lock:
        second = path.with_name("second.db")
        second.hardlink_to(path)
        with pytest.raises(StoreLocked, match="by another name"):
            Lock(second)
        shutil.rmtree(lock.folder)
        with pytest.raises(StoreLocked, match="folder"):
            Lock(path)
    Lock(second).close()


def test_name_of_a_locked_database_is_locked_for_another_file(path: Path) -> None:
    with Lock(path):
        path.unlink()
        with pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
            Lock(path)


def test_locks_of_sqlite_stay_when_another_connection_is_opened(path: Path) -> None:
    """A process that closes any descriptor of a file loses its POSIX locks on it. Then the last other connection that
    closes takes the WAL away.
    """
    with Lock(path) as lock, closing(open_writer(path, NOW, lock)) as store:
        submit(store)
        SqliteEngine(path).close()
        open_reader(path).close()
        store.verify()
        other = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM jobs'); c.close()"
        subprocess.run([sys.executable, "-c", other, path], check=True)
        assert path.with_name("s.db-wal").exists()
        submit(store)
        assert jobs_beside(path) == 2


def jobs_beside(path: Path) -> int:
    """How many jobs another process finds."""
    count = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM jobs').fetchone())"
    return int(subprocess.run([sys.executable, "-c", count, path], check=True, capture_output=True).stdout)


# --- still in its place ---


def deleted(path: Path, copy: Path) -> None:
    path.unlink()


def replaced(path: Path, copy: Path) -> None:
    copy.rename(path)


def wal_deleted(path: Path, copy: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def shm_deleted(path: Path, copy: Path) -> None:
    path.with_name(f"{path.name}-shm").unlink()


def folder_moved(path: Path, copy: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


@pytest.mark.parametrize("what", [deleted, replaced, overwrite, wal_deleted, shm_deleted, folder_moved])
@pytest.mark.parametrize("make", ONLINE)
def test_displaced_database_is_noticed_and_loses_nothing(
    path: Path, tmp_path: Path, make: Callable[[Path, Path], None], what: Callable[[Path, Path], None]
) -> None:
    copy, saved = tmp_path / "copy.db", tmp_path / "saved.db"
    with Lock(path) as lock:
        engine = open_engine(path, NOW, lock)
        store = Writer(engine)
        submit(store, 3)
        make(path, copy)
        put_back = copy.read_bytes()
        submit(store, 5)
        store.verify()
        what(path, copy)
        with pytest.raises(StoreMisplaced, match=r"s\.db.* while the scheduler had it open"):
            store.verify()
        saved.touch(0o600)
        engine.copy_to(saved)
        engine.forsake()
        engine.close()
    assert jobs_beside(saved) == 8
    if what in (replaced, overwrite):
        assert path.read_bytes() == put_back
        assert not path.with_name("s.db-wal").exists()


@pytest.mark.parametrize("what", [replaced, overwrite])
def test_nothing_is_written_into_a_file_that_was_put_in_place(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: Callable[[Path, Path], None]
) -> None:
    copy = tmp_path / "copy.db"
    with Lock(path) as lock, closing(open_writer(path, NOW, lock)) as store:
        submit(store, 3)
        by_sqlite(path, copy)
        put_back = copy.read_bytes()
        monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 1)
        what(path, copy)
        for _ in range(5):
            submit(store, 5)
    assert path.read_bytes() == put_back


def test_file_that_was_moved_away_gets_what_the_wal_has(path: Path, tmp_path: Path) -> None:
    with Lock(path) as lock:
        engine = open_engine(path, NOW, lock)
        submit(Writer(engine), 3)
        path.rename(tmp_path / "moved.db")
        engine.forsake()
    assert jobs(tmp_path / "moved.db") == 3
