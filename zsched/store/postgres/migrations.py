"""Migrations of the schema: the numbered files in schema/, each applied in one transaction."""

from __future__ import annotations

import re
import secrets
from importlib import resources
from typing import TYPE_CHECKING, Final

from zsched.model.lifecycle import TERMINAL, TRANSITIONS
from zsched.model.types import RunStatus
from zsched.store import sql
from zsched.store.contract import StoreCorrupt, StoreError, StoreForeign, StoreNewer

if TYPE_CHECKING:
    from zsched.store.postgres.connection import Connection

# The oldest version that the tests know.
SERVER_VERSION_MIN: Final = 150_000

# Two schedulers may start at once.
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('zsched migrations'))"
_VERSION: Final = "SELECT to_regclass('migrations') IS NOT NULL"
_TABLES: Final = """
    SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace"""
_TRIGGER: Final = """
    SELECT pg_get_triggerdef(t.oid), t.tgenabled::text, p.prosrc FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = 'runs'::regclass AND t.tgname = 'runs_change_by_the_table'"""
_DEFINED: Final = re.compile(r"CREATE TRIGGER \S+ BEFORE UPDATE ON \S+ FOR EACH ROW WHEN (.*) EXECUTE FUNCTION .*")
_REFUSES: Final = "RAISE integrity_constraint_violation USING MESSAGE = 'terminal is final';"


def migrate(connection: Connection, now_ms: int) -> None:
    """Bring the schema to this release's version. Raises StoreNewer, StoreForeign, StoreCorrupt, StoreError.

    StoreCorrupt: the trigger on runs was changed.
    """
    _demand_server(connection)
    steps = schema_steps()
    session = connection.session
    session.script("BEGIN")
    try:
        connection.execute(_LOCK)
        version = demand_known(connection)
        for step in steps[version:]:
            session.script(step)
        if version == 0:
            connection.execute(sql.ADD_IDENTITY, (secrets.token_hex(16), now_ms))
        if version < len(steps):
            connection.execute("UPDATE migrations SET schema = ?", (len(steps),))
    except BaseException:
        session.script("ROLLBACK")
        raise
    session.script("COMMIT")
    _demand_trigger(connection)


def demand_known(connection: Connection) -> int:
    """The version of the schema. Raises StoreNewer, StoreForeign, StoreError."""
    version, known = _version(connection), len(schema_steps())
    if version > known:
        raise StoreNewer(
            f"the database has schema {version}, but this release supports only {known}: use a newer zsched"
        )
    return version


def _demand_server(connection: Connection) -> None:
    version = connection.session.server_version
    if version < SERVER_VERSION_MIN:
        raise StoreError(f"PostgreSQL {version // 10_000} is too old: zsched needs {SERVER_VERSION_MIN // 10_000}")
    encoding = connection.execute("SHOW server_encoding")[0][0]
    if encoding != "UTF8":
        raise StoreError(f"the database has the encoding {encoding}: create it with ENCODING 'UTF8'")


def _version(connection: Connection) -> int:
    """The number of migrations applied; 0 for an empty database. Raises StoreForeign."""
    if connection.execute(_VERSION)[0][0]:
        return int(connection.execute("SELECT schema FROM migrations")[0][0])
    if connection.execute(_TABLES)[0][0]:
        raise StoreForeign("the database has tables of another program: name another database, or another schema")
    return 0


def _demand_trigger(connection: Connection) -> None:
    """Raise StoreCorrupt unless the trigger refuses what the table of a run's life refuses.

    A change of that table that changes the trigger needs a migration. PostgreSQL stores the condition in its own words,
    so this evaluates it for each two statuses.
    """
    stored = connection.execute(_TRIGGER)
    defined = _DEFINED.fullmatch(stored[0][0]) if stored else None
    if defined is None or stored[0][1] != "O" or _REFUSES not in stored[0][2]:
        raise StoreCorrupt("the trigger on runs was changed: restore a backup")
    statuses = ", ".join(f"('{status}')" for status in RunStatus)
    found = connection.execute(
        f"SELECT old.status, new.status FROM (VALUES {statuses}) AS old (status), (VALUES {statuses}) AS new (status)"  # noqa: S608
        f" WHERE {defined[1]}"
    )
    expected = {
        (was, became)
        for was in RunStatus
        for became in RunStatus
        if was in TERMINAL or became not in {was, *TRANSITIONS[was]}
    }
    if set(found) != expected:
        raise StoreCorrupt("the trigger on runs does not refuse what this release refuses: restore a backup")


def schema_steps() -> list[str]:
    """The migrations, first to last."""
    folder = resources.files("zsched.store.postgres") / "schema"
    return [
        file.read_text() for file in sorted(folder.iterdir(), key=lambda file: file.name) if file.name.endswith(".sql")
    ]
