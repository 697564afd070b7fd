"""An SQLite file gives unused pages back, some in each step, and keeps some for new rows."""

from __future__ import annotations

from pathlib import Path

from zsched.store.sqlite.engine import FREE_PAGES_KEPT, SHRINK_PAGES, SqliteEngine

PAGES = FREE_PAGES_KEPT + 3 * SHRINK_PAGES


def pages(engine: SqliteEngine) -> int:
    (count,) = engine.execute("PRAGMA page_count")[0]
    return int(count)


def test_unused_pages_are_given_back_in_steps(tmp_path: Path) -> None:
    engine = SqliteEngine(tmp_path / "s.db")
    engine.execute("CREATE TABLE filler (data BLOB)")
    engine.begin()
    engine.execute("INSERT INTO filler VALUES (zeroblob(?))", (PAGES * 4096,))
    engine.commit()
    full = pages(engine)
    engine.begin()
    assert not engine.shrink()
    engine.execute("DELETE FROM filler")
    engine.commit()
    assert pages(engine) == full
    counts = []
    more = True
    while more:
        engine.begin()
        more = engine.shrink()
        engine.commit()
        counts.append(pages(engine))
    engine.close()
    steps = [before - after for before, after in zip([full, *counts], counts, strict=False)]
    # A page in some hundred maps the others.
    assert all(0 < step <= SHRINK_PAGES + 4 for step in steps), steps
    assert len(steps) > 1
    assert FREE_PAGES_KEPT <= counts[-1] < FREE_PAGES_KEPT + 50
    assert (tmp_path / "s.db").stat().st_size == counts[-1] * 4096
