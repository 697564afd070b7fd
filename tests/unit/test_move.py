"""Moving a database: the target is equal, one of the two can be used at any moment, and an interrupted move goes on."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import apsw
import pytest

from tests.contract.base import NOW
from tests.moves import NEEDS_POSTGRES, PAIRS, Place, fill, move_between, new_place
from tests.unit.test_rotation import Interrupted, interrupting
from zsched.host import files
from zsched.host.files import PrivateFileError
from zsched.maintenance import backup, move
from zsched.maintenance.keycheck import demand_key, store_check
from zsched.model.types import JobSpec
from zsched.security.vault import Vault
from zsched.store import transfer
from zsched.store.check import check
from zsched.store.contract import StoreConstraint, StoreDeposed, StoreError, StoreLocked, StoreMoved
from zsched.store.postgres import dialect
from zsched.store.postgres.engine import open_writer
from zsched.store.sqlite.engine import SqliteEngine
from zsched.store.sqlite.lock import Lock
from zsched.store.transfer import COUNTERS, NUMBERED, TABLES

pytestmark = pytest.mark.slow

LATER = NOW + 1


@pytest.fixture(params=PAIRS)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    """A database with rows of every table, and the place of a new one."""
    with ExitStack() as stack:
        source, target = (
            stack.enter_context(new_place(engine, tmp_path, name))
            for engine, name in zip(request.param, ("old", "new"), strict=True)
        )
        with source.lead() as tenure:
            fill(tenure)
        for name in backup.KEYS:
            if name != backup.SECRET:
                files.write_private(source.folder / name, f"{name}\n")
        with source.lead() as tenure:
            # This creates the key.
            store_check(tenure.store, Vault(source.folder / backup.SECRET))
        yield source, target


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Place, Place]:
    """The same on SQLite."""
    source, target = (Place(str(tmp_path / name), tmp_path / f"{name}.d") for name in ("old", "new"))
    with source.lead() as tenure:
        fill(tenure)
    return source, target


def usable(place: Place) -> bool:
    try:
        with place.lead():
            return True
    except StoreMoved:
        return False


def sums(place: Place) -> dict[str, transfer.Sum]:
    with place.lead(marked=True) as tenure:
        found = transfer.sums_of(tenure.engine)
    # Each command that looks takes over.
    del found["epoch"]
    return found


# --- what the target is ----------------------------------------------------------------------------------------------


def test_target_equals_its_source(places: tuple[Place, Place]) -> None:
    source, target = places
    before = sums(source)
    done = move_between(source, target)
    assert all(read == copied for read, copied in done.compared.values())
    assert sums(target) == before
    assert not [name for name, each in before.items() if not each.rows]
    with target.lead() as tenure:
        assert check(tenure.engine).sentences == []


def test_ids_go_on_behind_those_of_deleted_rows(places: tuple[Place, Place]) -> None:
    source, target = places
    with source.lead() as tenure:
        last, identity = transfer.last_ids(tenure.engine), tenure.store.identity
    move_between(source, target)
    with target.lead() as tenure:
        store = tenure.store
        assert store.identity == identity
        store.begin()
        epoch = store.begin_epoch("host", 1, "", NOW)
        (job,) = store.submit([JobSpec(name="j", command="true")], [None], "me", NOW, owner="user:new")
        store.flush_counters(NOW)
        store.commit()
        assert job == last["jobs"] + 1 > 1_000
        assert transfer.last_ids(tenure.engine) == {
            **last,
            **{name: last[name] + 1 for name in ("jobs", "runs", "events", "owners")},
        }
        assert epoch > 1


def test_target_guards_runs_that_have_ended(places: tuple[Place, Place]) -> None:
    source, target = places
    move_between(source, target)
    with target.lead() as tenure:
        tenure.store.begin()
        with pytest.raises(StoreConstraint, match="terminal is final"):
            tenure.engine.execute("UPDATE runs SET status = 'pending' WHERE status = 'failed'")
        tenure.store.rollback()


def test_keys_are_copied_for_their_owner_only(places: tuple[Place, Place]) -> None:
    source, target = places
    assert move_between(source, target).keys == backup.KEYS
    for name in backup.KEYS:
        path = target.folder / name
        copied = path.read_text(), stat.S_IMODE(path.stat().st_mode)
        assert copied == ((source.folder / name).read_text(), 0o600)


def test_every_table_is_copied_or_belongs_to_the_database_itself() -> None:
    with closing(SqliteEngine(":memory:")) as engine:
        engine.migrate(NOW)
        tables = {name for (name,) in engine.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert tables - {"sqlite_sequence"} == {table.name for table in TABLES} | {"instances", "transfer"}
        for table in TABLES:
            rows = engine.execute("SELECT name, pk, hidden FROM pragma_table_xinfo(?) ORDER BY pk", (table.name,))
            key = tuple(name for name, place, _ in rows if place)
            assert key in (table.key, ()), table
            assert tuple(name for name, _, hidden in rows if hidden) == table.generated
        # The epoch counts the schedulers.
        numbered = engine.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'")
        assert {name for (name,) in numbered} == {*NUMBERED, "schedulers"}


@pytest.mark.postgres
@pytest.mark.slow
def test_every_table_of_postgres_is_copied(tmp_path: Path) -> None:
    with new_place("postgres", tmp_path, "db") as place, place.lead() as tenure:
        rows = tenure.engine.execute(
            "SELECT table_name::text, column_name::text, data_type::text, is_generated::text"
            " FROM information_schema.columns WHERE table_schema = 'public'"
        )
        own = {"instances", "transfer", "migrations", "turn"}
        assert {name for name, *_ in rows} == {table.name for table in TABLES} | own
        assert {(name, column) for name, column, _, generated in rows if generated == "ALWAYS"} == {
            (table.name, column) for table in TABLES for column in table.generated
        }
        # The copy and other statements for many rows know the types by the names.
        for name, column, kind, _ in rows:
            assert name in own or dialect.type_of(column) == kind, (name, column)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_source_names_where_it_went(places: tuple[Place, Place]) -> None:
    source, target = places
    move_between(source, target)
    with pytest.raises(StoreMoved) as refused, source.lead():
        pass
    assert str(refused.value) == (
        f"{source.name} was moved to {target.name} at 2023-11-14T22:13:20Z: set db to that, or copy it back into a new"
        f" database with `zsched db copy {target.name} NEW`"
    )
    assert usable(target)


def test_database_in_use_is_refused_as_a_target(places: tuple[Place, Place]) -> None:
    source, target = places
    with target.lead() as tenure:
        tenure.store.begin()
        tenure.store.begin_epoch("host", 1, "", NOW)
        tenure.store.commit()
    before = sums(target)
    with pytest.raises(move.TakenError, match="is not a new database"):
        move_between(source, target)
    assert sums(target) == before
    assert usable(source)
    assert usable(target)


@pytest.mark.parametrize("which", [0, 1])
def test_no_move_while_a_scheduler_has_a_database(places: tuple[Place, Place], which: int) -> None:
    other = Place(places[which].db, places[which].folder.with_name("other"))
    with other.lead(), pytest.raises(StoreLocked):
        move_between(*places)
    assert usable(places[0])
    assert usable(places[1])


def test_moved_database_is_not_moved_again(pair: tuple[Place, Place], tmp_path: Path) -> None:
    source, target = pair
    move_between(source, target)
    with pytest.raises(StoreMoved, match="was moved to"):
        move_between(source, Place(str(tmp_path / "third"), tmp_path / "third.d"))
    with pytest.raises(StoreMoved, match="was moved to"):
        move_between(source, target)
    assert usable(target)


def test_moved_database_does_not_go_on_with_an_older_copy(pair: tuple[Place, Place], tmp_path: Path) -> None:
    source, target = pair
    third = Place(str(tmp_path / "third"), tmp_path / "third.d")
    with pytest.MonkeyPatch.context() as patched:
        interrupting(patched, 0, (transfer, "load"))
        with pytest.raises(Interrupted):
            move_between(source, third)
    move_between(source, target)
    with pytest.raises(StoreMoved, match="was moved to"):
        move_between(source, third)
    assert (usable(target), usable(third)) == (True, False)


def test_unfinished_copy_of_another_database_is_refused(pair: tuple[Place, Place], tmp_path: Path) -> None:
    source, target = pair
    with pytest.MonkeyPatch.context() as patched:
        interrupting(patched, 0, (transfer, "load"))
        with pytest.raises(Interrupted):
            move_between(source, target)
    other = Place(str(tmp_path / "other"), tmp_path / "other.d")
    with other.lead():
        pass
    with pytest.raises(move.TakenError, match="is an unfinished copy of"):
        move_between(other, target)
    move_between(source, target)


def test_key_of_another_database_is_not_replaced(pair: tuple[Place, Place]) -> None:
    source, target = pair
    with target.hold():
        files.write_private(target.folder / backup.SECRET, "other\n")
    files.write_private(source.folder / backup.SECRET, "ours\n")
    with pytest.raises(move.TakenError, match="is another key than"):
        move_between(source, target)
    assert (target.folder / backup.SECRET).read_text() == "other\n"
    assert usable(source)


def test_source_without_its_secret_key_is_refused(pair: tuple[Place, Place]) -> None:
    source, target = pair
    with source.lead() as tenure:
        store_check(tenure.store, Vault(source.folder / backup.SECRET))
    (source.folder / backup.SECRET).unlink()
    with pytest.raises(PrivateFileError, match=r"secret\.key"):
        move_between(source, target)
    assert usable(source)


# --- the check -------------------------------------------------------------------------------------------------------


def test_target_needs_the_key_of_its_source(pair: tuple[Place, Place], tmp_path: Path) -> None:
    """Also if no scheduler has stored the check of the key before."""
    source, target = pair
    key = source.folder / backup.SECRET
    Vault(key).seal("PASSWORD", "secret")
    move_between(source, target)
    another = Vault(tmp_path / "another.key")
    another.seal("PASSWORD", "secret")
    with target.lead() as tenure:
        demand_key(tenure.store.reads, Vault(target.folder / backup.SECRET))
        with pytest.raises(PrivateFileError, match=r"copy secret\.key"):
            demand_key(tenure.store.reads, another)


def test_copy_that_differs_is_not_used(pair: tuple[Place, Place]) -> None:
    source, target = pair
    with pytest.MonkeyPatch.context() as patched:
        interrupting(patched, 0, (transfer, "load"))
        with pytest.raises(Interrupted):
            move_between(source, target)
    with closing(apsw.Connection(target.db)) as connection:
        connection.execute(
            "CREATE TRIGGER spoil AFTER INSERT ON jobs WHEN NEW.job_id = 7"
            " BEGIN UPDATE jobs SET priority = 7 WHERE job_id = 7; END"
        )
    with pytest.raises(move.MismatchError, match="the copy differs from its source in jobs: the source stays in use"):
        move_between(source, target)
    assert (usable(source), usable(target)) == (True, False)


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgres", marks=NEEDS_POSTGRES)])
def test_each_change_shows_in_the_checksum_of_its_table(engine: str, tmp_path: Path) -> None:
    changes: tuple[tuple[str, str, object], ...] = (
        ("epoch", "UPDATE epoch SET epoch = epoch + ?", 1),
        ("jobs", "UPDATE jobs SET priority = ? WHERE job_id = 3", 1),
        ("jobs", "UPDATE jobs SET command = ? WHERE job_id = 3", "true "),
        ("jobs", "UPDATE jobs SET env = ? WHERE job_id = 3", None),
        ("jobs", "UPDATE jobs SET pending = 0, cancelled = ? WHERE job_id = 3", 1),
        ("runs", "UPDATE runs SET detail = ? WHERE run_id = 9", ""),
        ("outputs", "UPDATE outputs SET stdout_tail = ?", b""),
        ("outputs", "DELETE FROM outputs WHERE run_id = ?", 2),
        ("events", "DELETE FROM events WHERE event_id = ?", 1),
        ("owners", "INSERT INTO owners (owner_id, owner) VALUES (99, ?)", "x"),
    )
    with new_place(engine, tmp_path, "db") as place, place.lead() as tenure:
        fill(tenure)
        before = {table: transfer.sum_of(tenure.engine, table) for table in TABLES}
        for name, statement, value in changes:
            tenure.engine.begin()
            tenure.engine.execute(statement, (value,))
            differ = [table.name for table in TABLES if transfer.sum_of(tenure.engine, table) != before[table]]
            tenure.engine.rollback()
            assert differ == [name], statement
        ids = transfer.sums_of(tenure.engine)[COUNTERS]
        tenure.engine.begin()
        tenure.engine.raise_ids("runs", 0, 1)
        tenure.engine.commit()
        assert transfer.sums_of(tenure.engine)[COUNTERS] != ids


# --- interruptions ---------------------------------------------------------------------------------------------------

STEPS = (
    (move, "take_over"),
    (transfer, "set_mark"),
    (transfer, "load"),
    (transfer, "sums_of"),
    (files, "write_private"),
)


# take_over twice, set_mark three times, and write_private for each key.
@pytest.mark.slow
@pytest.mark.parametrize("step", range(2 * (2 + 3 + 1 + 1 + len(backup.KEYS))))
def test_interrupted_move_leaves_one_database_and_goes_on(places: tuple[Place, Place], step: int) -> None:
    source, target = places
    before = sums(source)
    with pytest.MonkeyPatch.context() as patched:
        interrupting(patched, step, *STEPS)
        with pytest.raises(Interrupted):
            move_between(source, target)
    old, new = usable(source), usable(target)
    # Before the first mark the target is a new database.
    if step > 4:
        assert not (old and new)
        assert not new or sums(target) == before
    if old or not new:
        move_between(source, target, LATER)
    assert (usable(source), usable(target)) == (False, True)
    assert sums(target) == before
    assert [name for name in backup.KEYS if (target.folder / name).exists()] == list(backup.KEYS)


def test_rows_are_copied_all_or_none(places: tuple[Place, Place]) -> None:
    source, target = places
    with pytest.MonkeyPatch.context() as patched:
        # After some of the tables.
        interrupting(patched, 15, (transfer, "_load_table"))
        with pytest.raises(Interrupted):
            move_between(source, target)
    with target.lead(marked=True) as tenure:
        assert transfer.is_new(tenure.engine)
    move_between(source, target)


@pytest.mark.postgres
@pytest.mark.slow
def test_writer_that_lost_its_lock_stores_nothing_in_a_moved_database(tmp_path: Path) -> None:
    with new_place("postgres", tmp_path, "old") as source, closing(open_writer(source.db, NOW)) as earlier:
        earlier.begin()
        earlier.begin_epoch("host", 1, "", NOW)
        earlier.commit()
        move_between(source, Place(str(tmp_path / "new"), tmp_path / "new.d"))
        with pytest.raises(StoreDeposed):
            earlier.begin()


# --- and back --------------------------------------------------------------------------------------------------------


@pytest.mark.postgres
@pytest.mark.slow
def test_there_and_back_is_the_same(tmp_path: Path) -> None:
    first, last = (Place(str(tmp_path / name), tmp_path / f"{name}.d") for name in ("first", "last"))
    with first.lead() as tenure:
        fill(tenure, jobs=3_000)
    before = sums(first)
    with new_place("postgres", tmp_path, "between") as between:
        move_between(first, between)
        move_between(between, last)
        assert (usable(first), usable(between), usable(last)) == (False, False, True)
    assert sums(last) == before


@pytest.mark.postgres
@pytest.mark.slow
def test_text_with_a_nul_is_stored_with_a_sign_in_its_place(tmp_path: Path) -> None:
    source = Place(str(tmp_path / "old"), tmp_path / "old.d")
    with source.lead() as tenure:
        tenure.store.begin()
        tenure.engine.execute("INSERT INTO owners (owner_id, owner) VALUES (1, ?)", ("a\0b",))
        tenure.store.commit()
    with new_place("postgres", tmp_path, "new") as target:
        move_between(source, target)
        with target.lead() as tenure:
            assert tenure.engine.execute("SELECT owner FROM owners") == [("a\ufffdb",)]


def test_restored_moved_database_has_a_new_identity(pair: tuple[Place, Place], tmp_path: Path) -> None:
    source, target = pair
    move_between(source, target)
    with Lock(tmp_path / "third", make=False) as lock:
        backup.restore(lock, Path(source.db), "user:me", NOW, 30_000)
    third = Place(str(tmp_path / "third"), tmp_path / "third.d")
    with target.lead() as one, third.lead() as another:
        assert one.store.identity != another.store.identity
        assert another.store.predecessors()[0] == one.store.identity


def test_unfinished_copy_is_not_restored(pair: tuple[Place, Place], tmp_path: Path) -> None:
    source, target = pair
    with pytest.MonkeyPatch.context() as patched:
        interrupting(patched, 0, (transfer, "sums_of"))
        with pytest.raises(Interrupted):
            move_between(source, target)
    with Lock(tmp_path / "third", make=False) as lock, pytest.raises(StoreError, match="is an unfinished copy of"):
        backup.restore(lock, Path(target.db), "user:me", NOW, 30_000)
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize("engine", ["sqlite", pytest.param("postgres", marks=NEEDS_POSTGRES)])
def test_succeeding_database_gives_no_id_out_again(engine: str, tmp_path: Path) -> None:
    with new_place(engine, tmp_path, "db") as place:
        with place.lead() as tenure:
            fill(tenure)
        with place.lead() as tenure:
            last, before = transfer.last_ids(tenure.engine), tenure.store.identity
            running = tenure.engine.execute("SELECT count(*) FROM runs WHERE status = 'running'")[0][0]
            lost = move.succeed(tenure, "from a copy", "user:me", LATER, 30_000)
            assert lost == running > 0
            assert tenure.store.identity != before == tenure.store.predecessors()[0]
        with place.lead() as tenure:
            assert transfer.last_ids(tenure.engine)["runs"] > last["runs"] + 1_000_000
            assert check(tenure.engine).sentences == []
