"""The size of SQLite's WAL beside readers, and what keeping it small may cost a turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from zsched.store.sqlite.engine import RESTART_PAGES, RESTART_WAIT_MS, WAL_BYTES_KEPT, SqliteEngine

MIB = 1024 * 1024
ROWS = 4_000
# Nearly a page.
ROW_BYTES = 3_500
# 3.5 MiB of 4 MiB that a turn changes, about.
TURN_ROWS = 1_000
# What a turn does not take longer than, whoever reads: judged by the loop as no standing still.
TURN_S_MAX = 1.0
SMALL_TURNS = 50


class Writer:
    """A database of ROWS rows, which turns overwrite."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine = SqliteEngine(path)
        self.engine.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x BLOB)")
        self.slowest_s = 0.0
        self._turns = 0
        for _ in range(ROWS // TURN_ROWS):
            self.turn()

    def turn(self) -> None:
        self._turns += 1
        first = self._turns % (ROWS // TURN_ROWS) * TURN_ROWS
        began = time.monotonic()
        self.engine.begin()
        rows = ((number, bytes([self._turns % 256]) * ROW_BYTES) for number in range(first, first + TURN_ROWS))
        self.engine.executemany("INSERT OR REPLACE INTO t VALUES (?, ?)", rows)
        self.engine.commit()
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def small_turn(self) -> None:
        self.engine.begin()
        self._turns += 1
        self.engine.execute("UPDATE t SET x = ? WHERE id = 1", (self._turns,))
        self.engine.commit()

    def wal_bytes(self) -> int:
        return self.path.with_name(f"{self.path.name}-wal").stat().st_size


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    opened = Writer(tmp_path / "s.db")
    yield opened
    opened.engine.close()


@contextmanager
def readers(path: Path, count: int) -> Iterator[None]:
    """Threads that read page after page, so that somebody reads at each moment."""
    stop = threading.Event()
    began = [threading.Event() for _ in range(count)]

    def read(mine: threading.Event) -> None:
        engine = SqliteEngine(path, read_only=True)
        while not stop.is_set():
            for _ in engine.iterate("SELECT id, x FROM t ORDER BY id LIMIT 1000"):
                mine.set()
        engine.close()

    threads = [threading.Thread(target=read, args=(mine,)) for mine in began]
    for thread in threads:
        thread.start()
    for mine in began:
        mine.wait()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.slow
def test_wal_is_bounded_while_readers_never_pause(writer: Writer) -> None:
    with readers(writer.path, 8):
        most = 0
        for _ in range(40):
            writer.turn()
            most = max(most, writer.wal_bytes())
    # A wait in vain costs 8 MB more. Without any wait it is 160 MB.
    assert most < 3 * RESTART_PAGES * 4096


@pytest.mark.slow
def test_wal_gives_its_space_back_when_a_long_reader_has_left(writer: Writer) -> None:
    engine = SqliteEngine(writer.path, read_only=True)
    rows = engine.iterate("SELECT id, x FROM t")
    next(rows)
    for _ in range(30):
        writer.turn()
    assert writer.wal_bytes() > 100 * MIB
    assert writer.slowest_s < TURN_S_MAX
    rows.close()
    engine.close()
    # One moves it into the database, one begins it anew.
    for _ in range(2):
        writer.small_turn()
    assert writer.wal_bytes() <= WAL_BYTES_KEPT


def test_reader_that_stays_is_waited_for_once_in_a_while(writer: Writer) -> None:
    """A commit may wait for it. Those after it don't, until the WAL has grown by as much as a checkpoint is worth."""
    engine = SqliteEngine(writer.path, read_only=True)
    rows = engine.iterate("SELECT id, x FROM t")
    next(rows)
    while writer.wal_bytes() < RESTART_PAGES * 4096:
        writer.turn()
    writer.turn()
    began = time.monotonic()
    for _ in range(SMALL_TURNS):
        writer.small_turn()
    assert time.monotonic() - began < SMALL_TURNS * RESTART_WAIT_MS / 1_000 / 2
    rows.close()
    engine.close()
