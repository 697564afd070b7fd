"""Backups and restores: a backup has all that is needed, and what is restored is the backup, under a new identity."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.contract.base import LOWEST, NOW, W1, worker
from tests.unit.test_rotation import Interrupted, interrupting
from zsched.host import files
from zsched.maintenance import backup
from zsched.model import limits
from zsched.model.types import JobId, JobSpec, OnDisconnect, OnLost, Policy
from zsched.security.keys import own_pair
from zsched.security.vault import Vault
from zsched.store.check import check
from zsched.store.contract import (
    Claim,
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreMisplaced,
    StoreNewer,
)
from zsched.store.sqlite import copies
from zsched.store.sqlite.engine import SqliteEngine, open_engine, open_reader, open_writer
from zsched.store.sqlite.lock import COMPANIONS, Lock
from zsched.store.writer import Writer

pytestmark = pytest.mark.slow

LATER = NOW + 86_400_000
LEASE_MS = 30_000
PATIENCE_MS = LEASE_MS + limits.LEASE_MARGIN_MS
POLICIES = {
    "requeued": Policy(),
    "once": Policy(on_lost=OnLost.FAIL),
    "leased": Policy(on_disconnect=OnDisconnect.STOP),
}


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "s.db"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "backup.db"


def submit(store: Writer, *names: str) -> list[JobId]:
    store.begin()
    specs = [JobSpec(name=name, command="true", policy=POLICIES.get(name, Policy())) for name in names]
    made = store.submit(specs, [None] * len(specs), "test", NOW)
    store.flush_counters(NOW)
    store.commit()
    return made


def run_all(store: Writer) -> None:
    """Everything that is pending runs on W1."""
    store.begin()
    store.register(worker(), NOW)
    for ready in store.ready(NOW):
        wanted = Claim(
            worker_id=W1,
            demand_id=ready.demand_id,
            count=64,
            floor=LOWEST,
            handed_n=1,
            lease_ms=LEASE_MS,
            ends=False,
        )
        store.claim(wanted, NOW)
    store.flush_counters(NOW)
    store.commit()


def restore(db: Path, source: Path, timeout_ms: int = LEASE_MS) -> backup.Restored:
    with Lock(db, make=False) as lock:
        return backup.restore(lock, source, "user root by --db", LATER, timeout_ms)


def names(db: Path) -> list[str]:
    with Lock(db) as lock, closing(open_writer(db, NOW, lock)), closing(open_reader(db)) as reader:
        return sorted(job.name for job in reader.jobs(None, 100))


def look(db: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(SqliteEngine(db, read_only=True)) as engine:
        return engine.execute(statement)


# --- what is in a backup ---


def test_backup_of_an_open_database_has_all_that_is_committed(db: Path, copy: Path) -> None:
    with Lock(db) as lock, closing(open_writer(db, NOW, lock)) as store:
        submit(store, "before")
        store.begin()
        store.submit([JobSpec(name="uncommitted", command="true")], [None], "test", NOW)
        made = backup.back_up(db, copy, NOW)
        store.rollback()
        submit(store, "after")
    assert (made.size, made.keys) == (copy.stat().st_size, ())
    assert copy.stat().st_mode & 0o777 == 0o600
    assert not list(copy.parent.glob("backup.db-*"))
    assert not list(copy.parent.glob(".backup.db*"))
    restore(db, copy)
    assert names(db) == ["before"]


def test_backup_has_the_keys_and_restore_puts_them_back(db: Path, copy: Path) -> None:
    with Lock(db) as lock:
        open_writer(db, NOW, lock).close()
    public = own_pair(lock.folder / "curve.key").public
    sealed = Vault(lock.folder / "secret.key").seal("TOKEN", "correct horse")
    assert backup.back_up(db, copy, NOW).keys == backup.KEYS
    for name in backup.KEYS:
        (lock.folder / name).unlink()
    other = own_pair(lock.folder / "curve.key").secret
    done = restore(db, copy)
    assert done.keys == backup.KEYS
    assert own_pair(lock.folder / "curve.key").public == public
    assert Vault(lock.folder / "secret.key").open("TOKEN", sealed) == "correct horse"
    (kept,) = lock.folder.glob("curve.key.replaced-*")
    assert kept.read_text("ascii").strip() == other
    assert restore(db, copy).keys == ()


def test_restored_database_has_no_trace_of_the_keys(db: Path, copy: Path) -> None:
    with Lock(db) as lock:
        open_writer(db, NOW, lock).close()
    secret = own_pair(lock.folder / "curve.key").secret.encode()
    backup.back_up(db, copy, NOW)
    assert secret in copy.read_bytes()
    restore(db, copy)
    assert secret not in db.read_bytes()
    backup.back_up(db, copy, NOW, keys=False)
    assert secret not in copy.read_bytes()


def test_backup_onto_a_link_is_written_where_that_leads(db: Path, tmp_path: Path) -> None:
    with Lock(db) as lock:
        open_writer(db, NOW, lock).close()
    elsewhere, link = tmp_path / "elsewhere" / "nightly.db", tmp_path / "latest.db"
    elsewhere.parent.mkdir()
    link.symlink_to("elsewhere/nightly.db")
    for _ in range(2):
        backup.back_up(db, link, NOW)
        assert link.is_symlink()
        assert elsewhere.stat().st_mode & 0o777 == 0o600
        assert list(elsewhere.parent.iterdir()) == [elsewhere]
    elsewhere.write_text("notes", "ascii")
    with pytest.raises(backup.TakenError, match=f"{link} exists and is not a backup"):
        backup.back_up(db, link, NOW)
    assert (link.is_symlink(), elsewhere.read_text("ascii")) == (True, "notes")


def test_backup_replaces_an_older_backup_and_nothing_else(db: Path, copy: Path) -> None:
    with closing(open_writer(db, NOW)) as store:
        submit(store, "first")
        backup.back_up(db, copy, NOW)
        submit(store, "second")
        backup.back_up(db, copy, NOW)
        for taken in (db, copy.with_name("notes")):
            taken.touch()
            before = taken.read_bytes()
            with pytest.raises(backup.TakenError, match="is not a backup"):
                backup.back_up(db, taken, NOW)
            assert taken.read_bytes() == before
    restore(db, copy)
    assert names(db) == ["first", "second"]


def test_key_that_changes_during_a_backup_makes_it_fail(db: Path, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lock(db) as lock:
        open_writer(db, NOW, lock).close()
    vault = Vault(lock.folder / "secret.key")
    vault.seal("A", "b")

    def rotate(engine: SqliteEngine, path: Path, on_step: object) -> None:
        assert vault.add_key()
        copy_to(engine, path)

    copy_to = SqliteEngine.copy_to
    monkeypatch.setattr(SqliteEngine, "copy_to", rotate)
    with pytest.raises(StoreError, match="changed during the backup"):
        backup.back_up(db, copy, NOW)
    assert not copy.exists()


def test_what_a_killed_backup_left_is_removed_by_the_next(db: Path, copy: Path) -> None:
    """And nothing else: no file that a backup still writes, and none of another name."""
    open_writer(db, NOW).close()
    script = "import sys; from pathlib import Path; from zsched.maintenance import backup\n"
    script += "with backup._aside(Path(sys.argv[1])) as aside: print(aside, flush=True); sys.stdin.read()"
    argv = [sys.executable, "-P", "-c", script, str(copy)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        beside = [left.with_name(left.name + suffix) for suffix in COMPANIONS]
        kept = [copy.with_name(name) for name in (".backup.db.notes", ".backup.db.0123abcde", ".other.db.0123abcd")]
        for path in (*beside, *kept):
            path.touch()
        link = copy.with_name(".backup.db.89abcdef")
        link.symlink_to(kept[0])
        backup.back_up(db, copy, NOW)
        assert all(path.exists() for path in (left, *beside, *kept, link))
        other.kill()
    backup.back_up(db, copy, NOW)
    assert not any(path.exists() for path in (left, *beside))
    assert all(path.exists() for path in (*kept, link))


def test_damaged_database_is_not_backed_up(db: Path, copy: Path) -> None:
    with closing(open_writer(db, NOW)) as store:
        submit(store, *["x" * 200] * 500)
    content = bytearray(db.read_bytes())
    content[-20 * 4096 :] = b"\xa5" * (20 * 4096)
    db.write_bytes(content)
    with pytest.raises(StoreCorrupt):
        backup.back_up(db, copy, NOW)
    assert not copy.exists()


# --- what a restore makes of it ---


def test_restored_database_is_a_successor(db: Path, copy: Path) -> None:
    with closing(open_writer(db, NOW)) as store:
        first = store.identity
        submit(store, "before")
        backup.back_up(db, copy, NOW)
        (last,) = submit(store, "after")
    done = restore(db, copy)
    assert done.origin is not None
    assert (done.origin.db, done.origin.made_ms, done.origin.path) == (first, NOW, str(db))
    with Lock(db) as lock, closing(open_writer(db, NOW, lock)) as store:
        assert store.predecessors() == (first,)
        assert store.identity != first
        assert submit(store, "next") == [last + limits.RESTORE_IDS_GAP + 1]
    assert look(db, "SELECT made_ms, restored_ms FROM predecessors") == [(NOW, LATER)]
    assert look(db, "SELECT actor, detail FROM events WHERE became = 'restored'") == [
        ("user root by --db", f"from backup.db; it was {first}")
    ]


def test_runs_of_the_backup_are_lost_and_go_on_as_their_jobs_say(db: Path, copy: Path) -> None:
    with closing(open_writer(db, NOW)) as store:
        submit(store, *POLICIES)
        run_all(store)
        submit(store, *POLICIES)
        backup.back_up(db, copy, NOW)
    assert restore(db, copy).lost == 3
    ended = look(db, "SELECT DISTINCT status, reason FROM runs WHERE run_id < 1000")
    assert ended == [("failed", "worker_lost")]
    statuses = look(db, "SELECT name, status FROM jobs ORDER BY job_id")
    assert statuses == [(name, "failed" if name == "once" else "pending") for name in (*POLICIES, *POLICIES)]
    (ids,) = look(db, "SELECT count(*), min(run_id) FROM runs WHERE status = 'pending'")
    assert ids == (4, 5 + limits.RESTORE_IDS_GAP + 2)
    # A worker may go on with a run of the predecessor until its lease ends. So may one that started after the backup.
    held = look(db, "SELECT DISTINCT name FROM runs JOIN jobs USING (job_id) WHERE due_ms IS NOT NULL")
    assert held == [("leased",)]
    due = look(db, "SELECT blocked, due_ms FROM runs WHERE status = 'pending' AND job_id IN (3, 6)")
    assert due == [(2, LATER + PATIENCE_MS)] * 2
    with closing(SqliteEngine(db, read_only=True)) as engine:
        assert check(engine).sentences == []


@pytest.mark.parametrize("started", ["before the backup", "after it"])
def test_lease_that_was_given_counts_more_than_a_setting(db: Path, copy: Path, started: str) -> None:
    """`zsched db restore` does not see the scheduler's flags."""
    with closing(open_writer(db, NOW)) as store:
        submit(store, "leased")
        if started == "before the backup":
            run_all(store)
        backup.back_up(db, copy, NOW)
        if started == "after it":
            run_all(store)
    restore(db, copy, timeout_ms=3_000)
    assert look(db, "SELECT due_ms FROM runs WHERE status = 'pending'") == [(LATER + PATIENCE_MS,)]


def test_fire_that_may_have_been_made_is_not_made_again(db: Path, copy: Path) -> None:
    specs = [
        JobSpec(name=name, command="true", schedule="* * * * *", policy=policy) for name, policy in POLICIES.items()
    ]
    with closing(open_writer(db, NOW)) as store:
        store.begin()
        store.submit(specs, [NOW + 1] * 3, "test", NOW)
        store.flush_counters(NOW)
        store.commit()
        submit(store, "leased")
        run_all(store)
        backup.back_up(db, copy, NOW)
    restore(db, copy)
    fires = look(db, "SELECT name, next_fire_ms FROM jobs WHERE schedule IS NOT NULL")
    due: dict[Any, Any] = dict(fires)  # type: ignore[arg-type]
    assert due["leased"] == LATER + PATIENCE_MS
    assert LATER < due["once"] <= LATER + 60_000
    assert due["requeued"] == NOW + 1


def test_schedule_that_can_not_be_read_stops_no_restore(db: Path, copy: Path) -> None:
    """The scheduler ends it, with an event, when it is due."""
    with closing(open_writer(db, NOW)) as store:
        store.begin()
        store.submit(
            [JobSpec(name="cron", command="true", schedule="* * * * *", policy=POLICIES["once"])], [NOW], "test", NOW
        )
        store.flush_counters(NOW)
        store.commit()
        backup.back_up(db, copy, NOW)
    with closing(apsw.Connection(str(copy))) as edited:
        edited.execute("UPDATE jobs SET schedule = 'at noon'")
    restore(db, copy)
    assert look(db, "SELECT next_fire_ms FROM jobs") == [(NOW,)]


def test_replaced_database_is_kept_with_its_wal(db: Path, copy: Path, tmp_path: Path) -> None:
    with closing(open_writer(db, NOW)) as store:
        backup.back_up(db, copy, NOW)
        submit(store, "after")
        for suffix in ("", "-wal"):
            shutil.copy(f"{db}{suffix}", tmp_path / f"crashed.db{suffix}")
    crashed = tmp_path / "crashed.db"
    done = restore(crashed, copy)
    assert done.replaced is not None
    assert names(crashed) == []
    assert names(done.replaced) == ["after"]
    assert crashed.stat().st_mode & 0o777 == 0o600


def test_restore_needs_no_database_that_is_there(db: Path, copy: Path) -> None:
    with closing(open_writer(db, NOW)) as store:
        submit(store, "before")
        backup.back_up(db, copy, NOW)
    db.unlink()
    assert restore(db, copy).replaced is None
    assert names(db) == ["before"]


def test_backup_that_was_copied_to_the_place_of_the_database_is_restored(db: Path, copy: Path) -> None:
    with closing(open_writer(db, NOW)) as store:
        submit(store, "before")
        backup.back_up(db, copy, NOW)
        submit(store, "after")
    shutil.copy(copy, db)
    with Lock(db) as lock, pytest.raises(StoreMisplaced, match=f"zsched db restore {db} --db={db}"):
        open_writer(db, NOW, lock)
    restore(db, db)
    assert names(db) == ["before"]


def test_plain_copy_is_restored_too(db: Path, copy: Path) -> None:
    with closing(open_writer(db, NOW)) as store:
        submit(store, "before")
        first = store.identity
        with (
            closing(apsw.Connection(str(db))) as source,
            closing(apsw.Connection(str(copy))) as target,
            target.backup("main", source, "main") as steps,
        ):
            steps.step()
        submit(store, "after")
    done = restore(db, copy)
    assert done.origin is None
    assert names(db) == ["before"]
    assert look(db, "SELECT db, made_ms FROM predecessors") == [(first, None)]
    assert not list(copy.parent.glob("backup.db-*"))


def test_restore_next_to_a_running_scheduler_is_refused(db: Path, copy: Path) -> None:
    with Lock(db) as lock, closing(open_writer(db, NOW, lock)):
        backup.back_up(db, copy, NOW)
        with pytest.raises(StoreLocked):
            restore(db, copy)
        shutil.rmtree(lock.folder)
        with pytest.raises(StoreLocked):
            restore(db, copy)


@pytest.mark.parametrize("what", ["newer", "another's", "text", "mixture", "damaged"])
def test_file_that_is_not_a_sound_backup_changes_nothing(db: Path, copy: Path, what: str) -> None:
    with Lock(db) as lock, closing(open_writer(db, NOW, lock)) as store:
        submit(store, *["x" * 200] * 500)
        backup.back_up(db, copy, NOW)
    error: type[StoreError] = StoreForeign
    if what in ("newer", "another's"):
        with closing(apsw.Connection(str(copy))) as connection:
            connection.pragma(*("user_version", 99) if what == "newer" else ("application_id", 5))
        error = StoreNewer if what == "newer" else StoreForeign
    elif what == "text":
        copy.write_text("x" * 5_000, "ascii")
    elif what == "mixture":
        with Lock(db) as lock, closing(open_writer(db, NOW, lock)) as store:
            submit(store, "after")
            shutil.copy(f"{db}-wal", f"{copy}-wal")
        error = StoreMisplaced
    else:
        content = bytearray(copy.read_bytes())
        content[-20 * 4096 :] = b"\xa5" * (20 * 4096)
        copy.write_bytes(content)
        error = StoreCorrupt
    before = db.read_bytes()
    with pytest.raises(error):
        restore(db, copy)
    assert db.read_bytes() == before
    assert sorted(file.name for file in db.parent.glob("*s.db*")) == ["s.db", "s.db.d"]


@pytest.mark.parametrize("step", range(32))
def test_interrupted_restore_leaves_the_old_or_the_new_database(
    db: Path, copy: Path, tmp_path: Path, step: int
) -> None:
    """And both open their secrets; or a scheduler refuses to start, and the same command completes it."""
    with Lock(db) as lock:
        open_writer(db, NOW, lock).close()
    vault = Vault(lock.folder / "secret.key")
    old = vault.seal("A", "old")
    with Lock(db) as lock, closing(open_writer(db, NOW, lock)) as store:
        submit(store, "before")
        backup.back_up(db, copy, NOW)
        submit(store, "after")
        shutil.copy(f"{db}-wal", tmp_path / "wal")
        shutil.copy(db, tmp_path / "db")
    (lock.folder / "secret.key").unlink()
    new = Vault(lock.folder / "secret.key").seal("A", "new")
    shutil.copy(tmp_path / "db", db)
    shutil.copy(tmp_path / "wal", f"{db}-wal")
    with pytest.MonkeyPatch.context() as patched:
        calls = ((Path, "rename"), (Path, "hardlink_to"), (Path, "unlink"), (files, "write_private"))
        interrupting(patched, step, *calls)
        with pytest.raises(Interrupted):
            restore(db, copy)
    opens = Vault(lock.folder / "secret.key")
    try:
        found = names(db)
    except StoreMisplaced:
        found = []
    assert found in (["after", "before"], ["before"], [])
    if found != ["before"]:
        assert opens.open("A", new) == "new"
    if found != ["after", "before"]:
        assert opens.open("A", old) == "old"
    restore(db, copy)
    assert names(db) == ["before"]
    assert Vault(lock.folder / "secret.key").open("A", old) == "old"


# --- a rescue copy ---


def test_rescue_copy_stands_in_the_way_of_a_start_until_it_is_restored(db: Path) -> None:
    with Lock(db) as lock:
        engine = open_engine(db, NOW, lock)
        submit(Writer(engine), "first")
        db.unlink()
        saved, sound = backup.rescue(engine, db, NOW, lambda: None)
        engine.forsake()
    assert sound
    assert saved.parent == db.parent
    assert saved.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StoreMisplaced, match=f"zsched db restore {saved} --db={db}"):
        Lock(db)
    restore(db, saved)
    assert names(db) == ["first"]
    assert not saved.exists()
    assert list(db.parent.glob("s.db.restored-*"))


def test_rescue_copy_elsewhere_stands_in_the_way_of_a_start_too(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the database's disk is full, but for a link."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    make = copies.make_backup

    def full(engine: SqliteEngine, target: Path, *rest: Any, **named: Any) -> bool:
        if target.parent == db.parent:
            raise StoreFull("no space is left")
        return bool(make(engine, target, *rest, **named))

    monkeypatch.setattr(copies, "make_backup", full)
    with Lock(db) as lock:
        engine = open_engine(db, NOW, lock)
        submit(Writer(engine), "first")
        db.unlink()
        saved, _ = backup.rescue(engine, db, NOW, lambda: None)
        engine.forsake()
    assert saved.parent == elsewhere
    with pytest.raises(StoreMisplaced, match="zsched db restore"):
        Lock(db)
    restore(db, saved)
    assert names(db) == ["first"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a folder that is gone")
@pytest.mark.parametrize("where", ["beside it", "in it"])
def test_rescue_goes_elsewhere_when_the_folder_is_gone(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Also when the scheduler was started in that folder."""
    folder, temporary = tmp_path / "folder", tmp_path / "temporary"
    folder.mkdir()
    temporary.mkdir()
    db = folder / "s.db"
    monkeypatch.chdir(folder if where == "in it" else tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with Lock(db) as lock:
        engine = open_engine(db, NOW, lock)
        submit(Writer(engine), "first")
        shutil.rmtree(folder)
        saved, sound = backup.rescue(engine, db, NOW, lambda: None)
        engine.forsake()
    assert sound
    assert saved.parent == (temporary if where == "in it" else tmp_path)


def test_rescue_needs_no_folder_for_temporary_files(db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where all that is writable is the database's folder."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    with Lock(db) as lock:
        engine = open_engine(db, NOW, lock)
        db.unlink()
        saved, _ = backup.rescue(engine, db, NOW, lambda: None)
        engine.forsake()
    assert saved.parent == db.parent


def test_rescue_leaves_out_a_turn_that_was_under_way(db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was copied over the file may be found damaged in the middle of a turn."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with Lock(db) as lock:
        engine = open_engine(db, NOW, lock)
        store = Writer(engine)
        submit(store, "first")
        store.begin()
        store.submit([JobSpec(name="second", command="true")], [None], "test", NOW)
        db.unlink()
        saved, sound = backup.rescue(engine, db, NOW, lambda: None)
        engine.forsake()
    assert sound
    assert saved.parent == db.parent
    assert look(saved, "SELECT name FROM jobs") == [("first",)]


def test_rescue_goes_without_a_key_that_can_not_be_read(db: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Lock(db) as lock:
        engine = open_engine(db, NOW, lock)
        submit(Writer(engine), "first")
        own_pair(lock.folder / backup.CURVE)
        (lock.folder / backup.SECRET).write_text("x\n")
        (lock.folder / backup.SECRET).chmod(0o644)
        db.unlink()
        saved, sound = backup.rescue(engine, db, NOW, lambda: None)
        engine.forsake()
    assert sound
    assert look(saved, "SELECT name FROM backup_keys") == [(backup.CURVE,)]
    assert "insecure permissions on" in caplog.text


def test_rescue_copy_that_can_not_be_renamed_is_restored_all_the_same(db: Path, copy: Path, tmp_path: Path) -> None:
    with closing(open_writer(db, NOW)) as store:
        submit(store, "first")
        backup.back_up(db, copy, NOW)
        submit(store, "second")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    # With `.restored-` in its place the name would be longer than a name may be.
    saved = folder / "s.db.rescue-".ljust(255, "x")
    copy.rename(saved)
    restore(db, saved)
    assert names(db) == ["first"]
    assert saved.exists()


def test_rescue_of_an_overwritten_database_says_what_it_is_worth(db: Path, copy: Path) -> None:
    with closing(open_writer(db, NOW)) as store:
        submit(store, "first")
        backup.back_up(db, copy, NOW)
        for _ in range(5):
            submit(store, *["x" * 200] * 300)
    with Lock(db) as lock:
        engine = open_engine(db, NOW, lock)
        submit(Writer(engine), "last")
        shutil.copy(copy, db)
        with pytest.raises(StoreMisplaced):
            engine.verify()
        engine.execute("PRAGMA shrink_memory")
        try:
            _, sound = backup.rescue(engine, db, NOW, lambda: None)
        except StoreError:
            sound = False
        engine.close()
    assert not sound
    assert db.read_bytes() == copy.read_bytes()
