"""What is SQLite's own: how the file is made and opened, the lock, the schema's version, its errors in our words."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from tests.contract.base import NOW, W1, Base, open_sqlite, traced
from tests.contract.disk import Disk, failing_disk
from zsched.model.types import JobSpec, RunStatus
from zsched.store import sql
from zsched.store.contract import (
    StoreBusy,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreLoose,
    StoreNewer,
    StoreUnsure,
)
from zsched.store.engine import Row
from zsched.store.sqlite import engine as sqlite
from zsched.store.sqlite import migrations
from zsched.store.sqlite.engine import SqliteEngine, open_reader, open_writer
from zsched.store.sqlite.errors import raise_store_error
from zsched.store.sqlite.lock import Lock

STRANGER = 65_534
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have files of another user")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scheduler.db"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Base]:
    """A database with no space left, in a turn that has taken one job."""
    base = open_sqlite(tmp_path)
    base.submit("first")
    base.turn()
    pages = base.rows("PRAGMA page_count")[0][0]
    base.rows(f"PRAGMA max_page_count = {pages}")
    yield base
    base.store.close()


def fill(base: Base) -> None:
    for _ in range(1_000):
        base.submit("x" * 200)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


# --- the file ---


def test_a_statement_stays_prepared_while_a_turn_executes_many_others(path: Path) -> None:
    with closing(SqliteEngine(path)) as engine:
        engine.execute("SELECT 'once a turn'")
        for number in range(300):
            engine.execute(f"SELECT {number}")
        before = engine._connection.cache_stats()["misses"]
        engine.execute("SELECT 'once a turn'")
        assert engine._connection.cache_stats()["misses"] == before


def test_the_settings_that_a_commit_relies_on_are_really_set(path: Path) -> None:
    open_writer(path, NOW).close()
    with closing(SqliteEngine(path)) as engine:

        def pragma(name: str) -> object:
            return engine.execute(f"PRAGMA {name}")[0][0]

        assert pragma("page_size") == 4096
        assert pragma("auto_vacuum") == 2  # incremental
        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 2  # FULL
        assert pragma("foreign_keys") == 1
        assert pragma("busy_timeout") == sqlite.BUSY_TIMEOUT_MS


def test_a_row_that_points_nowhere_is_refused(path: Path) -> None:
    open_writer(path, NOW).close()
    with closing(SqliteEngine(path)) as engine, pytest.raises(StoreError, match="FOREIGN KEY"):
        engine.execute(
            "INSERT INTO runs (job_id, attempt, demand_id, priority, status, created_ms)"
            " VALUES (9, 1, 9, 0, 'pending', 0)"
        )


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_are_readable_by_their_owner_alone(tmp_path: Path, umask: int) -> None:
    db = tmp_path / "scheduler.db"
    before = os.umask(umask)
    try:
        with Lock(db), closing(open_writer(db, NOW)) as store:
            store.begin()
            store.submit([JobSpec(name="a", command="true")], [None], "test", NOW)
            store.commit()
            assert {file.name: mode(file) for file in tmp_path.iterdir()} == {
                "scheduler.db": 0o600,
                "scheduler.db-shm": 0o600,
                "scheduler.db-wal": 0o600,
                "scheduler.db.d": 0o700,
            }
            assert mode(tmp_path / "scheduler.db.d" / "lock") == 0o600
    finally:
        os.umask(before)


@pytest.mark.parametrize("more", [0o040, 0o004, 0o020, 0o002, 0o010, 0o001])
def test_what_others_can_get_at_is_refused(path: Path, more: int) -> None:
    with Lock(path):
        open_writer(path, NOW).close()
    path.chmod(0o600 | more)
    with pytest.raises(StoreLoose, match=f"chmod 600 {path}"):
        open_writer(path, NOW)
    folder = path.with_name("scheduler.db.d")
    folder.chmod(0o700 | more)
    with pytest.raises(StoreLoose, match=f"chmod 700 {folder}"):
        Lock(path)


@root
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal", ".d", ".d/lock"])
def test_file_of_another_user_is_refused(path: Path, suffix: str) -> None:
    with Lock(path):
        open_writer(path, NOW).close()
    file = Path(f"{path}{suffix}")
    if not file.exists():
        file.touch(0o600)
    os.chown(file, STRANGER, STRANGER)
    with pytest.raises(StoreLoose, match=rf"insecure owner of {file} \(user {STRANGER}\)"), Lock(path):
        open_writer(path, NOW)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_file_next_to_the_database_that_others_can_write_is_refused(path: Path, suffix: str) -> None:
    open_writer(path, NOW).close()
    file = Path(f"{path}{suffix}")
    file.touch()
    file.chmod(0o644)
    open_writer(path, NOW).close()
    file.touch()
    file.chmod(0o622)
    with pytest.raises(StoreLoose, match=f"run chmod 600 {file}"):
        open_writer(path, NOW)


@root
@pytest.mark.parametrize("open_it", [Lock, lambda path: open_writer(path, NOW)], ids=["lock", "writer"])
def test_link_of_another_user_in_an_open_folder_is_refused(tmp_path: Path, open_it: Callable[[Path], object]) -> None:
    real, link = tmp_path / "scheduler.db", tmp_path / "open" / "link.db"
    open_writer(real, NOW).close()
    link.parent.mkdir()
    link.parent.chmod(0o777)
    link.symlink_to(real)
    os.lchown(link, STRANGER, STRANGER)
    with pytest.raises(StoreLoose, match=rf"insecure link {link} \(of user {STRANGER}\)"):
        open_it(link)


def test_links_of_ours_are_followed_once_each(tmp_path: Path) -> None:
    (tmp_path / "a.db").symlink_to("b.db")
    (tmp_path / "b.db").symlink_to(tmp_path / "a.db")
    with pytest.raises(StoreError, match="symbolic links"):
        Lock(tmp_path / "a.db")


@pytest.mark.parametrize("make", [Path.symlink_to, Path.hardlink_to])
def test_lock_that_is_another_file_is_left_as_it_is(path: Path, make: Callable[[Path, Path], None]) -> None:
    other = path.with_name("other")
    other.write_text("precious", "ascii")
    folder = path.with_name("scheduler.db.d")
    folder.mkdir(mode=0o700)
    make(folder / "lock", other)
    with pytest.raises(StoreLoose, match=f"insecure lock {folder}/lock"):
        Lock(path)
    assert other.read_text("ascii") == "precious"


def test_hard_link_and_open_folder_are_warned_of(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    open_writer(path, NOW).close()
    Lock(path).close()
    assert caplog.text == ""
    path.with_name("second.db").hardlink_to(path)
    path.parent.chmod(0o777)
    Lock(path).close()
    assert f"{path} has 2 names (hard links)" in caplog.text
    assert f"all users may write in {path.parent}" in caplog.text


def test_two_databases_have_two_identities_and_each_keeps_its_own(tmp_path: Path) -> None:
    identities = []
    for name in ("a.db", "b.db", "a.db"):
        with closing(open_writer(tmp_path / name, NOW)) as store:
            identities.append(store.identity)
    assert identities[0] == identities[2] != identities[1]


def test_a_reader_can_not_write_and_does_not_make_a_database(path: Path) -> None:
    with pytest.raises(StoreError):
        open_reader(path)
    assert not path.exists()
    open_writer(path, NOW).close()
    with closing(SqliteEngine(path, read_only=True)) as engine, pytest.raises(StoreError, match="readonly"):
        engine.execute("DELETE FROM identity")


def test_a_folder_that_does_not_exist_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="can't open the database"):
        open_writer(tmp_path / "nowhere" / "scheduler.db", NOW)


# --- the lock ---


def test_second_scheduler_is_refused_and_names_the_first(path: Path) -> None:
    with Lock(path), pytest.raises(StoreLocked, match=f"process {os.getpid()}"):
        Lock(path)


def test_a_database_has_one_lock_whichever_name_leads_to_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "alias.db").symlink_to(tmp_path / "scheduler.db")
    with Lock(tmp_path / "scheduler.db"):
        for name in (tmp_path / "link" / "scheduler.db", tmp_path / "alias.db"):
            with pytest.raises(StoreLocked):
                Lock(name)


def test_a_database_of_another_program_is_refused_and_not_touched(path: Path) -> None:
    with closing(SqliteEngine(path)) as engine:
        engine.execute("CREATE TABLE theirs (x)")
    with pytest.raises(StoreForeign):
        open_writer(path, NOW)
    with closing(SqliteEngine(path, read_only=True)) as engine:
        assert engine.execute("SELECT name FROM sqlite_master") == [("theirs",)]


def test_the_lock_is_free_when_its_holder_is_gone(path: Path) -> None:
    take_and_die = "import os, sys; from zsched.store.sqlite import lock as s; s.Lock(s.Path(sys.argv[1])); os._exit(9)"
    died = subprocess.run([sys.executable, "-c", take_and_die, str(path)], cwd=Path(__file__).parents[2])
    assert died.returncode == 9
    Lock(path).close()
    Lock(path).close()


def test_the_lock_does_not_pass_to_child_processes(path: Path) -> None:
    with Lock(path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        Lock(path).close()
    finally:
        child.kill()
        child.wait()


# --- the schema ---


@pytest.mark.parametrize(
    "change",
    [
        "",
        "CREATE TRIGGER runs_change_by_the_table BEFORE UPDATE ON runs WHEN OLD.status = 'success' BEGIN SELECT 1; END",
    ],
    ids=["without the trigger", "with a weaker one"],
)
def test_database_whose_trigger_on_runs_was_changed_is_refused(path: Path, change: str) -> None:
    open_writer(path, NOW).close()
    with closing(SqliteEngine(path)) as engine:
        engine.execute(f"DROP TRIGGER runs_change_by_the_table; {change}")
    with pytest.raises(StoreCorrupt, match="the trigger on the runs"):
        open_writer(path, NOW)


def test_other_triggers_on_runs_are_allowed(path: Path) -> None:
    open_writer(path, NOW).close()
    with closing(SqliteEngine(path)) as engine:
        engine.execute("CREATE TRIGGER audit AFTER UPDATE ON runs BEGIN SELECT 1; END")
    open_writer(path, NOW).close()


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    open_writer(path, NOW).close()
    with closing(SqliteEngine(path)) as engine:
        engine.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreNewer, match="schema 99"):
        open_writer(path, NOW)
    with closing(SqliteEngine(path)) as engine:
        assert engine.execute("PRAGMA user_version") == [(99,)]


def test_a_migration_that_fails_leaves_the_database_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [*migrations.schema_steps(), "CREATE TABLE half (a INTEGER) STRICT; CREATE TABLE identity (db TEXT)"]
    monkeypatch.setattr(migrations, "schema_steps", lambda: steps)
    with pytest.raises(StoreError, match="identity already exists"):
        open_writer(path, NOW)
    monkeypatch.undo()
    with closing(open_writer(path, NOW)) as store:
        assert store.identity
    with closing(SqliteEngine(path)) as engine:
        assert engine.execute("SELECT name FROM sqlite_master WHERE name = 'half'") == []


# --- damage ---


def test_file_that_is_not_a_database_is_reported_as_corrupt(path: Path) -> None:
    path.write_bytes(b"this is no database at all, but long enough to look like one" * 100)
    with pytest.raises(StoreCorrupt):
        open_writer(path, NOW)


def test_a_damaged_database_is_found_when_it_is_opened(path: Path) -> None:
    with closing(open_writer(path, NOW)) as store:
        store.begin()
        store.submit([JobSpec(name="a", command="x" * 900)] * 500, [None] * 500, "test", NOW)
        store.commit()
    content = bytearray(path.read_bytes())
    for page in range(40, len(content) // 4096):
        content[page * 4096 : page * 4096 + 2048] = b"\xa5" * 2048
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt):
        open_writer(path, NOW)


# --- errors in the middle of work ---


def test_another_writer_is_waited_for_and_then_busy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 20)
    with closing(open_writer(path, NOW)) as store, closing(SqliteEngine(path)) as other:
        other.begin()
        with pytest.raises(StoreBusy):
            store.begin()
        other.rollback()
        store.begin()
        store.rollback()


def test_a_full_disk_fails_the_turn_whole_and_a_later_one_succeeds(small: Base) -> None:
    with pytest.raises(StoreFull):
        fill(small)
    small.store.rollback()
    small.store.begin()
    assert small.rows("SELECT count(*) FROM jobs") == [(1,)]
    small.rows("PRAGMA max_page_count = 1000000")
    for _ in range(100):
        small.submit("x" * 200)
    small.turn()


def test_disk_that_fills_up_within_a_savepoint_is_reported_as_full(small: Base) -> None:
    with pytest.raises(StoreFull), small.store.savepoint():
        fill(small)
    small.store.rollback()
    small.store.begin()
    (claimed,) = small.claim(W1)
    assert small.status(claimed.job_id) == RunStatus.RUNNING


def test_reads_go_on_when_the_disk_is_full(small: Base) -> None:
    with pytest.raises(StoreFull):
        small.submit("x" * 200_000)
    small.store.rollback()
    with closing(small.open_door()) as door:
        assert [job.name for job in door.jobs(None, 10, 0)] == ["first"]


@pytest.mark.parametrize(
    ("error", "extended", "ours"),
    [
        (apsw.IOError, apsw.SQLITE_IOERR_FSYNC, StoreUnsure),
        (apsw.IOError, apsw.SQLITE_IOERR_DIR_FSYNC, StoreUnsure),
        (apsw.IOError, apsw.SQLITE_IOERR_WRITE, StoreError),
        (apsw.ReadOnlyError, apsw.SQLITE_READONLY, StoreError),
        (apsw.BusyError, apsw.SQLITE_BUSY, StoreBusy),
        (apsw.LockedError, apsw.SQLITE_LOCKED, StoreBusy),
        (apsw.FullError, apsw.SQLITE_FULL, StoreFull),
        (apsw.CorruptError, apsw.SQLITE_CORRUPT, StoreCorrupt),
        (apsw.NotADBError, apsw.SQLITE_NOTADB, StoreCorrupt),
    ],
)
def test_sqlites_errors_become_ours(error: type[apsw.Error], extended: int, ours: type[StoreError]) -> None:
    theirs = error("disk trouble")
    theirs.extendedresult = extended  # type: ignore[attr-defined]
    with pytest.raises(StoreError, match="SQLite: disk trouble") as caught:
        raise_store_error(theirs)
    assert type(caught.value) is ours


# --- a disk that fails ---


@pytest.fixture
def disk() -> Iterator[Disk]:
    with failing_disk() as disk:
        yield disk


def test_a_commit_is_one_sync_of_the_wal(disk: Disk, tmp_path: Path) -> None:
    base = open_sqlite(tmp_path)
    base.turn()
    before = disk.syncs
    for _ in range(50):
        base.submit()
    base.turn()
    assert disk.syncs == before + 1
    base.store.close()


def test_a_failed_sync_is_unsure_and_not_a_mere_error(disk: Disk, tmp_path: Path) -> None:
    base = open_sqlite(tmp_path)
    base.submit()
    disk.fails = {("sync", "-wal"): apsw.SQLITE_IOERR_FSYNC}
    with pytest.raises(StoreUnsure):
        base.turn()
    disk.fails = {}
    base.store.close()


def test_a_turn_that_could_not_be_written_has_not_happened(disk: Disk, tmp_path: Path) -> None:
    base = open_sqlite(tmp_path)
    job_id = base.submit()
    base.turn()
    base.claim()
    disk.fails = {("write", "-wal"): apsw.SQLITE_IOERR_WRITE}
    with pytest.raises(StoreError, match="the disk fails"):
        base.turn()
    base.store.rollback()
    disk.fails = {}
    base.store.begin()
    assert base.status(job_id) == RunStatus.PENDING
    base.end()


def test_disk_error_within_a_savepoint_is_reported_as_such(disk: Disk, tmp_path: Path) -> None:
    base = open_sqlite(tmp_path)
    base.rows("PRAGMA cache_size = 3")  # so that the turn is written before its end
    disk.fails = {("write", "-wal"): apsw.SQLITE_FULL}
    with pytest.raises(StoreFull, match="the disk fails"), base.store.savepoint():
        fill(base)
    base.store.rollback()
    disk.fails = {}
    base.store.begin()
    assert base.rows("SELECT count(*) FROM jobs") == [(0,)]
    base.end()


@pytest.mark.parametrize("code", [apsw.SQLITE_FULL, apsw.SQLITE_IOERR_WRITE])
def test_a_checkpoint_that_fails_takes_no_commit_back(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 1)
    base = open_sqlite(tmp_path)
    disk.fails = {("write", ".db"): code}
    for _ in range(3):
        base.submit()
        base.turn()
    disk.fails = {}
    base.submit()
    base.turn()
    assert base.rows("SELECT count(*) FROM jobs") == [(4,)]
    base.end()


def test_checkpoint_whose_sync_fails_is_unsure(disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 1)
    base = open_sqlite(tmp_path)
    base.submit()
    disk.fails = {("sync", ".db"): apsw.SQLITE_IOERR_FSYNC}
    with pytest.raises(StoreUnsure):
        base.turn()
    disk.fails = {}
    base.store.close()


def test_the_wal_is_moved_into_the_database_and_does_not_grow_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 100)
    base = open_sqlite(tmp_path)
    for _ in range(40):
        for _ in range(100):
            base.submit("x" * 200, command="y" * 900)
        base.store.flush_counters(NOW)
        base.store.commit()
        base.store.begin()
    wal = tmp_path / "scheduler.db-wal"
    assert wal.stat().st_size < 2 * sqlite.CHECKPOINT_PAGES * 4096
    base.end()


class FailingReads(SqliteEngine):
    """An engine that can't read one kind of row, as from a disk with trouble that may pass."""

    unreadable = ""

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> list[Row]:
        if self.unreadable and self.unreadable in statement:
            raise StoreError("SQLite: disk I/O error")
        return super().execute(statement, parameters)


def test_a_disk_that_can_not_be_read_for_a_moment_fails_no_job(path: Path) -> None:
    engine = FailingReads(path)
    engine.migrate(NOW)
    base = Base(engine, lambda: open_reader(path), lambda: traced(engine))
    job_id = base.submit()
    base.turn()
    engine.unreadable = sql.CLAIMABLE
    with pytest.raises(StoreError, match="I/O"):
        base.claim()
    engine.unreadable = ""
    base.store.rollback()
    base.store.begin()
    assert base.last_run(job_id).status == RunStatus.PENDING
    assert [run.job_id for run in base.claim()] == [job_id]
    base.end()
