"""The database's file under a scheduler at work, and after a crash: backed up, restored, deleted, replaced, linked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.system.session import DEADLINE_S, Program, Scheduler, environment
from zsched.model.limits import FILE_CHECK_MS, RESTORE_IDS_GAP
from zsched.store.sqlite.engine import SqliteEngine, open_writer
from zsched.store.sqlite.lock import Lock
from zsched.store.writer import Writer

# Many processes: the quick tests leave this to .ci/run.
pytestmark = pytest.mark.slow

ZSCHED = (sys.executable, "-P", "-m", "zsched.commands.zsched")
DB = "scheduler.db"


def zsched(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ZSCHED, *words], cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60
    )


def create_database(folder: Path) -> None:
    with Lock(folder / DB) as lock:
        open_writer(folder / DB, 0, lock).close()


def backed_up(folder: Path) -> Path:
    done = zsched(folder, "db", "backup", "backup.db")
    assert (done.returncode, done.stdout) == (0, "backup.db\n"), done.stderr
    return folder / "backup.db"


def copied(folder: Path) -> Path:
    """By SQLite's own program, or what does the same."""
    with closing(sqlite3.connect(folder / DB)) as source, closing(sqlite3.connect(folder / "copy.db")) as target:
        source.backup(target)
    return folder / "copy.db"


def overwrite(path: Path, by: Path) -> None:
    """cp BY PATH: the inode stays."""
    shutil.copyfile(by, path)


def replace(path: Path, by: Path) -> None:
    """mv BY PATH"""
    second = by.with_name("second.db")
    shutil.copy(by, second)
    second.rename(path)


def delete(path: Path, by: Path) -> None:
    path.unlink()


def jobs(scheduler: Scheduler) -> list[int]:
    return sorted(job["id"] for job in scheduler.get("/jobs?limit=1000"))


def ended(scheduler: Scheduler) -> tuple[int, str]:
    assert scheduler.program is not None
    return scheduler.program.exit_code(), scheduler.program.log()


def restored(folder: Path, source: Path) -> str:
    done = zsched(folder, "db", "restore", str(source))
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_restore_after_a_crash_gives_exactly_the_backup(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        before = scheduler.submit(*["true"] * 3)
        source = backed_up(tmp_path)
        lost = scheduler.submit(*["true"] * 5)
        scheduler.kill()
        assert (tmp_path / f"{DB}-wal").stat().st_size > 4096
        restored(tmp_path, source)
        scheduler.start()
        assert jobs(scheduler) == before
        assert scheduler.submit("true") == [lost[-1] + RESTORE_IDS_GAP + 1]
    assert zsched(tmp_path, "db", "check").returncode == 0


def test_second_restore_of_a_backup_gives_no_id_out_again(tmp_path: Path) -> None:
    """Nor does it take the runs of the database that it replaces for foreign ones."""
    with Scheduler(tmp_path) as scheduler:
        scheduler.submit("true")
        source = backed_up(tmp_path)
        given: list[int] = []
        dbs: list[str] = []
        for _ in range(3):
            scheduler.kill()
            restored(tmp_path, source)
            scheduler.start()
            given += scheduler.submit(*["true"] * 3)
            with closing(SqliteEngine(tmp_path / DB, read_only=True)) as engine:
                store = Writer(engine)
                assert set(dbs) <= set(store.predecessors())
                dbs.append(store.identity)
        assert len(set(given)) == 9


@pytest.mark.parametrize("make", [backed_up, copied])
def test_copy_over_a_live_wal_is_refused_with_the_command(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    with Scheduler(tmp_path) as scheduler:
        before = scheduler.submit(*["true"] * 3)
        source = make(tmp_path)
        scheduler.submit(*["true"] * 5)
        scheduler.kill()
        overwrite(tmp_path / DB, source)
        scheduler.launch()
        code, log = ended(scheduler)
        assert code == os.EX_IOERR
        assert "run `zsched db restore" in log.splitlines()[-1]
        restored(tmp_path, source)
        scheduler.start()
        assert jobs(scheduler) == before


def test_crash_is_not_taken_for_mixed_files(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        acked: list[int] = []
        for _ in range(3):
            acked += scheduler.submit(*["true"] * 3)
            scheduler.kill()
            scheduler.start()
        assert jobs(scheduler) == acked


@pytest.mark.parametrize("make", [backed_up, copied])
@pytest.mark.parametrize("what", [delete, replace, overwrite])
def test_file_that_is_displaced_ends_the_scheduler_and_loses_nothing(
    tmp_path: Path, make: Callable[[Path], Path], what: Callable[[Path, Path], None]
) -> None:
    with Scheduler(tmp_path) as scheduler:
        acked = scheduler.submit(*["true"] * 3)
        source = make(tmp_path)
        put_back = source.read_bytes()
        acked += scheduler.submit(*["true"] * 5)
        last_ack = [0.0]

        def submit() -> None:
            while True:
                try:
                    status, job = scheduler.ask("POST", "/jobs", {"name": "a", "command": "true"})
                except OSError:
                    return
                if status == 201:
                    acked.append(job["id"])
                    last_ack[0] = time.monotonic()

        caller = threading.Thread(target=submit)
        caller.start()
        what(tmp_path / DB, source)
        displaced = time.monotonic()
        code, log = ended(scheduler)
        took_s = time.monotonic() - displaced
        caller.join()
        assert code == os.EX_IOERR
        assert took_s < FILE_CHECK_MS / 1000 + 4
        assert last_ack[0] < displaced + FILE_CHECK_MS / 1000 + 0.5
        (saved,) = tmp_path.glob(f"{DB}.rescue-*")
        assert f"run `zsched db restore {saved} --db={tmp_path / DB}`" in log.splitlines()[-1]
        if what is not delete:
            assert (tmp_path / DB).read_bytes() == put_back
        # It is not forgotten.
        scheduler.launch()
        assert ended(scheduler)[0] == os.EX_IOERR
        restored(tmp_path, saved)
        scheduler.start()
        assert set(acked) <= set(jobs(scheduler))


def test_file_that_is_displaced_shortly_before_the_end_is_noticed(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        acked = scheduler.submit(*["true"] * 3)
        assert scheduler.program is not None
        (tmp_path / DB).unlink()
        scheduler.program.terminate()
        assert scheduler.program.exit_code() == os.EX_IOERR
        (saved,) = tmp_path.glob(f"{DB}.rescue-*")
        restored(tmp_path, saved)
        scheduler.start()
        assert jobs(scheduler) == acked


def test_overwritten_file_is_rescued_though_it_is_first_found_damaged(tmp_path: Path) -> None:
    """By the read of an old job, before the watch looks at the file."""
    with Scheduler(tmp_path) as scheduler:
        # More than SQLite keeps in memory, so that the first job is read from the file.
        acked = scheduler.submit(*[f"true {'x' * 8_000}"] * 1_000)
        assert scheduler.program is not None
        scheduler.program.terminate()
        assert scheduler.program.exit_code() == 0
        scheduler.start()
        source = copied(tmp_path)
        # Its schema stays readable, so that there is something to save.
        os.truncate(source, 64 * 4096)
        os.truncate(source, (tmp_path / DB).stat().st_size)
        overwrite(tmp_path / DB, source)
        with suppress(OSError):
            scheduler.ask("POST", f"/jobs/{acked[0]}/cancel")
        code, log = ended(scheduler)
        assert code == os.EX_IOERR
        (saved,) = tmp_path.glob(f"{DB}.rescue-*")
        told = (
            f"{DB} was overwritten while the scheduler had it open: what could be saved is in {saved}, and is damaged"
        )
        assert told in log.splitlines()[-1]


def test_file_that_was_overwritten_by_a_small_one_leaves_nothing_to_save(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        source = backed_up(tmp_path)
        scheduler.submit(*[f"true {'x' * 8_000}"] * 1_000)
        assert scheduler.program is not None
        scheduler.program.terminate()
        assert scheduler.program.exit_code() == 0
        scheduler.start()
        overwrite(tmp_path / DB, source)
        code, log = ended(scheduler)
        assert code == os.EX_IOERR
        assert f"{DB} was overwritten while the scheduler had it open, and no copy could be saved" in log
        assert f"restore a backup: run `zsched db restore BACKUP --db={tmp_path / DB}`" in log.splitlines()[-1]
        assert list(tmp_path.glob(f"*{DB}.rescue-*")) == []


def test_second_scheduler_by_another_name_is_refused(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        (tmp_path / "second.db").hardlink_to(tmp_path / DB)
        assert scheduler.program is not None
        for name, flags in (("linked", ("--db", "second.db")), ("unlocked", ())):
            if name == "unlocked":
                # A scheduler that runs would make the folder and its lock again.
                os.kill(scheduler.program.pid, signal.SIGSTOP)
                shutil.rmtree(tmp_path / f"{DB}.d")
            second = Scheduler(tmp_path, *flags)
            try:
                with Program(name, second._argv, tmp_path) as program:
                    assert program.exit_code() == os.EX_TEMPFAIL
                    assert "another scheduler has" in program.log()
            finally:
                os.kill(scheduler.program.pid, signal.SIGCONT)
        assert scheduler.submit("true")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
def test_second_scheduler_by_a_bind_mount_is_refused(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        second = Scheduler(tmp_path, "--db", "mounted.db")
        (tmp_path / "mounted.db").touch(0o600)
        line = f'mount --bind {DB} mounted.db && exec "$@"'
        argv = ["unshare", "--mount", "sh", "-c", line, "sh", *map(str, second._argv)]
        with Program("mounted", argv, tmp_path) as program:
            assert program.exit_code() == os.EX_TEMPFAIL, program.log()
            assert "another scheduler has" in program.log()
        assert scheduler.submit("true")


def test_hard_link_is_warned_of(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        scheduler.kill()
        (tmp_path / "second.db").hardlink_to(tmp_path / DB)
        scheduler.start()
        assert scheduler.program is not None
        assert "has 2 names (hard links)" in scheduler.program.log()


def test_backup_by_another_name_than_that_of_the_scheduler_is_refused(tmp_path: Path) -> None:
    """Its WAL goes by the scheduler's name, so the backup would lack what is in it."""
    link = tmp_path / "second.db"
    with Scheduler(tmp_path) as scheduler:
        before = scheduler.submit(*["true"] * 3)
        link.hardlink_to(tmp_path / DB)
        done = zsched(tmp_path, "db", "backup", "--db=second.db", "backup.db")
        assert done.returncode == os.EX_IOERR, done.stderr
        assert f"a scheduler has {link} open by another name" in done.stderr
        assert sorted(tmp_path.glob("second.db*")) == [link]
        assert not (tmp_path / "backup.db").exists()
        assert scheduler.program is not None
        scheduler.program.terminate()
        assert scheduler.program.exit_code() == 0
    assert zsched(tmp_path, "db", "backup", "--db=second.db", "backup.db").returncode == 0
    with closing(sqlite3.connect(tmp_path / "backup.db")) as connection:
        assert connection.execute("SELECT job_id FROM jobs ORDER BY 1").fetchall() == [(job,) for job in before]


def test_backup_under_load_has_what_was_acked_before(tmp_path: Path) -> None:
    acked: list[int] = []
    done = threading.Event()
    with Scheduler(tmp_path) as scheduler:

        def submit() -> None:
            while not done.is_set():
                acked.extend(scheduler.submit(*["true"] * 10))

        callers = [threading.Thread(target=submit) for _ in range(4)]
        for caller in callers:
            caller.start()
        for _ in range(3):
            while not acked:
                time.sleep(0.01)
            before = sorted(acked)
            source = backed_up(tmp_path)
            with closing(sqlite3.connect(source)) as connection:
                found = {job for (job,) in connection.execute("SELECT job_id FROM jobs")}
            assert set(before) <= found
        done.set()
        for caller in callers:
            caller.join()


def test_folder_that_is_removed_is_made_again(tmp_path: Path) -> None:
    """Secrets that were acknowledged can be opened, callers find the socket, and a backup finds the lock."""
    folder = tmp_path / f"{DB}.d"
    with Scheduler(tmp_path) as scheduler:
        job = {"name": "a", "command": "true", "secret_env": {"TOKEN": "s3cr3t-s3cr3t"}}
        assert scheduler.post("/jobs", job)["id"] == 1
        before = {name: (folder / name).read_text() for name in ("secret.key", "curve.key")}
        shutil.rmtree(folder)
        program = scheduler.program
        assert program is not None
        program.wait_for_log("and are written again: lock, secret.key, curve.key, api.sock")
        assert {name: (folder / name).read_text() for name in before} == before
        assert folder.stat().st_mode & 0o777 == 0o700
        with closing(socket.socket(socket.AF_UNIX)) as caller:
            caller.settimeout(DEADLINE_S)
            caller.connect(str(folder / "api.sock"))
            caller.sendall(b"GET /jobs/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert b"".join(iter(lambda: caller.recv(65_536), b"")).startswith(b"HTTP/1.1 200 ")
        backed_up(tmp_path)
        program.terminate()
        assert program.exit_code() == 0
        assert not (folder / "api.sock").exists()


def test_restore_next_to_a_running_scheduler_is_refused(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        source = backed_up(tmp_path)
        done = zsched(tmp_path, "db", "restore", str(source))
        assert done.returncode == os.EX_TEMPFAIL
        assert "stop it first" in done.stderr
        assert scheduler.submit("true")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("backup", "notes"), os.EX_CANTCREAT, "notes exists and is not a backup: name another file"),
        (("backup", "nowhere/b.db"), os.EX_CANTCREAT, "nowhere/b.db can't be written"),
        (("backup", "--db=none.db", "b.db"), os.EX_IOERR, "there is no database"),
        (("restore", "none.db"), os.EX_IOERR, "there is no backup none.db"),
        (("restore", "notes"), os.EX_CONFIG, "notes is not a database: name another file"),
        (("restore",), 2, "Usage"),
        (("backup", "fifo"), os.EX_CANTCREAT, "fifo exists and is not a backup: name another file"),
        (("backup", "--db=fifo", "b.db"), os.EX_CONFIG, "fifo is not a database: name another file"),
        (("restore", "fifo"), os.EX_CONFIG, "fifo is not a database: name another file"),
    ],
)
def test_commands_say_what_is_wrong(tmp_path: Path, words: tuple[str, ...], code: int, sentence: str) -> None:
    (tmp_path / "notes").write_text("notes", "ascii")
    os.mkfifo(tmp_path / "fifo")
    create_database(tmp_path)
    done = zsched(tmp_path, "db", *words)
    assert (done.returncode, sentence in done.stderr) == (code, True), done.stderr


@contextmanager
def file_system(where: Path, size: str) -> Iterator[Path]:
    """A folder on a file system of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts file systems")
    where.mkdir()
    options = f"size={size},mode=700"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", where], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that has no room for a database."""
    with file_system(tmp_path / "full", "64k") as where:
        yield where


def fill(folder: Path) -> Path:
    """A file that takes all the room there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_first_start_on_a_full_disk_says_what_to_do(tmp_path: Path, full: Path) -> None:
    fill(full)
    scheduler = Scheduler(tmp_path, "-db", str(full / DB))
    scheduler.launch()
    code, log = ended(scheduler)
    assert code == os.EX_IOERR
    assert f"disk is full: make room on the file system of {full / DB}, then start" in log.splitlines()[-1]


def test_start_without_room_for_the_wal_names_the_remedy_and_loses_nothing(tmp_path: Path) -> None:
    with file_system(tmp_path / "small", "8m") as disk, Scheduler(tmp_path, "-db", str(disk / DB)) as scheduler:
        # More than the database's file has room for.
        acked = scheduler.submit(*[f"true {'x' * 4_000}"] * 300)
        scheduler.kill()
        filler = fill(disk)
        scheduler.launch()
        code, log = ended(scheduler)
        assert code == os.EX_IOERR
        assert f"disk is full: make room on the file system of {disk / DB}, then start" in log.splitlines()[-1]
        filler.unlink()
        scheduler.start()
        assert jobs(scheduler) == acked
        scheduler.kill()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("backup", "full/b.db"), "full/b.db can't be written: SQLite: database or disk is full"),
        (("restore", "--db=full/s.db", "backup.db"), "full/s.db can't be restored: SQLite: database or disk is full"),
    ],
)
def test_full_disk_is_named_and_nothing_is_left_on_it(
    tmp_path: Path, full: Path, words: tuple[str, ...], sentence: str
) -> None:
    create_database(tmp_path)
    backed_up(tmp_path)
    done = zsched(tmp_path, "db", *words)
    assert (done.returncode, sentence in done.stderr) == (os.EX_CANTCREAT, True), done.stderr
    assert [path for path in full.iterdir() if path.is_file()] == []


def test_secrets_and_workers_of_a_backup_go_to_another_folder(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with Scheduler(first) as scheduler:
        scheduler.submit("true", secret_env={"TOKEN": "correct horse"})
        source = backed_up(first)
    assert b"secret.key" in source.read_bytes()
    restored(second, source)
    for name in ("secret.key", "curve.key"):
        put, taken = (folder / f"{DB}.d" / name for folder in (second, first))
        assert put.read_bytes() == taken.read_bytes()
        assert put.stat().st_mode & 0o777 == 0o600
    with Scheduler(second) as scheduler:
        assert jobs(scheduler) == [1]
    shown = json.loads(zsched(second, "db", "check", "--json").stdout)
    assert shown["findings"] == 0
