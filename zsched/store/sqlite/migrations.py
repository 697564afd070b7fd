"""Migrations of the schema: the numbered files in schema/, each applied in one transaction."""

from __future__ import annotations

import secrets
from importlib import resources
from pathlib import Path

from zsched.store import moves, sql
from zsched.store.contract import StoreCorrupt, StoreForeign, StoreMisplaced, StoreNewer
from zsched.store.engine import Engine
from zsched.store.sqlite.head import APPLICATION_ID, BACKUP_ID, Head
from zsched.store.sqlite.lock import how_to_restore


def migrate(engine: Engine, path: Path, head: Head, now_ms: int) -> None:
    """Bring the schema to this release's version. `head` is the database's present header.

    Raises StoreNewer, StoreForeign, StoreMisplaced for a backup, StoreCorrupt if the trigger on runs was changed.
    """
    steps = schema_steps()
    if head.application_id == BACKUP_ID:
        raise StoreMisplaced(f"{path} is a backup: {how_to_restore(path, path)}")
    if head.application_id != APPLICATION_ID and engine.execute("SELECT count(*) FROM sqlite_master")[0][0]:
        raise StoreForeign("the file is a database of another program: name another file")
    if head.schema > len(steps):
        raise StoreNewer(
            f"the database has schema {head.schema}, but this release supports only {len(steps)}: use a newer zsched"
        )
    for number in range(head.schema + 1, len(steps) + 1):
        engine.begin()
        try:
            engine.execute(steps[number - 1])
            if number == 1:
                engine.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                engine.execute(sql.ADD_IDENTITY, (secrets.token_hex(16), now_ms))
            # Without a generation until `SqliteEngine.confirm`: for a moment the schemas of file and WAL differ.
            engine.execute(f"PRAGMA user_version = {number}")
        except BaseException:
            engine.rollback()
            raise
        engine.commit()
    _demand_trigger(engine, path)


def _demand_trigger(engine: Engine, path: Path) -> None:
    """Raise StoreCorrupt unless the trigger aborts what the table of a run's life refuses.

    A change of that table that changes the trigger needs a migration.
    """
    stored = engine.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'trigger' AND name = 'runs_change_by_the_table'"
    )
    if not stored or f"WHEN {moves.trigger()} BEGIN" not in " ".join(stored[0][0].split()):
        raise StoreCorrupt(f"the trigger on the runs of {path} was changed: restore a backup")


def schema_steps() -> list[str]:
    """The migrations, first to last."""
    folder = resources.files("zsched.store.sqlite") / "schema"
    return [
        file.read_text() for file in sorted(folder.iterdir(), key=lambda file: file.name) if file.name.endswith(".sql")
    ]
