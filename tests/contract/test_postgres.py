"""What only the PostgreSQL engine has: lost sessions, commits that are not confirmed, and errors that come late."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from msgspec.structs import replace
from psycopg import pq

from tests import postgres
from tests.contract.base import NOW, W1, Base, PostgresBase, posted
from tests.relay import Relay, relay
from zsched.model.limits import COMMAND_BYTES_MAX, PAGE_BYTES_MAX
from zsched.model.types import JobSpec, RunStatus, Stream
from zsched.store import sql, transitions
from zsched.store.contract import (
    StoreBusy,
    StoreConstraint,
    StoreCorrupt,
    StoreDeposed,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreMisplaced,
    StoreNewer,
    StoreUnsure,
)
from zsched.store.engine import Row
from zsched.store.postgres import dialect, outcome
from zsched.store.postgres.connection import Connection
from zsched.store.postgres.engine import PostgresEngine, open_engine, open_reader
from zsched.store.postgres.session import Call, Session

pytestmark = pytest.mark.postgres

WAIT_S = 10


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.server().database() as url:
        yield url


def open_base(url: str) -> Base:
    engine = open_engine(url, NOW)
    return PostgresBase(engine, lambda: open_reader(url), lambda: posted(engine))


@pytest.fixture
def base(url: str) -> Iterator[Base]:
    base = open_base(url)
    yield base
    base.store.close()


@pytest.fixture
def operator(url: str) -> Iterator[psycopg.Connection[Row]]:
    """Another session on the same database."""
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def engine_of(base: Base) -> PostgresEngine:
    assert isinstance(base.engine, PostgresEngine)
    return base.engine


def end_session(operator: psycopg.Connection[Row], pid: int) -> None:
    """End a session of the server, and wait until it has ended."""
    operator.execute("SELECT pg_terminate_backend(%s)", (pid,))
    wait_for(lambda: not operator.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchall())


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "in time"
        time.sleep(0.01)


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[list[object]]:
    """Do some work in a thread; its result, or its error, is in the list after the scope."""
    done: list[object] = []

    def do() -> None:
        try:
            done.append(work())
        except Exception as error:
            done.append(error)

    thread = threading.Thread(target=do)
    thread.start()
    try:
        yield done
    finally:
        thread.join(WAIT_S)
        assert not thread.is_alive()


# --- sessions --------------------------------------------------------------------------------------------------------


def test_a_session_that_was_lost_between_two_turns_is_replaced(base: Base, operator: psycopg.Connection[Row]) -> None:
    base.submit()
    base.store.flush_counters(NOW)
    base.store.commit()
    before = engine_of(base).session.backend_pid
    end_session(operator, before)
    base.store.begin()
    assert engine_of(base).session.backend_pid != before
    base.submit()
    base.turn()
    assert base.rows("SELECT count(*) FROM jobs") == [(2,)]


def test_a_turn_whose_session_is_lost_is_given_up_and_the_next_one_works(
    base: Base, operator: psycopg.Connection[Row]
) -> None:
    base.submit()
    end_session(operator, engine_of(base).session.backend_pid)
    with pytest.raises(StoreError, match="session is lost"), base.store.savepoint():
        base.claim()
    base.store.rollback()
    base.store.begin()
    assert base.rows("SELECT count(*) FROM jobs") == [(0,)]
    assert base.submit() == 1
    base.turn()


def test_a_turn_that_pauses_too_long_is_ended_by_the_server(base: Base, operator: psycopg.Connection[Row]) -> None:
    base.store.rollback()
    (setting,) = base.rows("SHOW idle_in_transaction_session_timeout")
    assert setting == ("5s",)
    base.rows("SET idle_in_transaction_session_timeout = 20")
    base.store.begin()
    base.submit()
    pid = engine_of(base).session.backend_pid
    wait_for(lambda: not operator.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchall())
    base.store.flush_counters(NOW)
    with pytest.raises(StoreError, match="is not stored"):
        base.store.commit()
    base.store.rollback()
    base.store.begin()
    assert base.rows("SELECT count(*) FROM jobs") == [(0,)]


def test_a_large_turn_that_pauses_is_ended_by_the_server(base: Base, operator: psycopg.Connection[Row]) -> None:
    """libpq sends its buffer by itself when it is full. The server bounds a pause only after a sync."""
    base.store.rollback()
    base.rows("SET idle_in_transaction_session_timeout = 200")
    base.store.begin()
    base.store.submit([JobSpec(name="job", command="x" * 90_000)] * 4, [None] * 4, "test", NOW)
    pid = engine_of(base).session.backend_pid
    wait_for(lambda: not operator.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchall())


def test_a_turn_whose_session_is_lost_at_its_rollback_is_undone(url: str, link: Relay) -> None:
    base = open_base(through(url, link))
    base.submit()
    link.cut_before = b"ROLLBACK"
    base.store.rollback()
    assert link.was_cut.wait(WAIT_S)
    base.store.begin()
    assert base.submit() == 1
    base.turn()
    base.store.close()


def test_a_rollback_does_not_wait_for_what_was_not_sent(base: Base) -> None:
    base.engine.send("INSERT INTO owners (owner_id, owner) VALUES (?, ?)", (1, "a"), 1)
    base.engine.send("INSERT INTO owners (owner_id, owner) VALUES (?, ?)", (1, "b"), 1)
    base.store.rollback()
    base.store.begin()
    assert base.submit() == 1
    base.turn()


def test_a_reader_whose_session_was_lost_reads_on(base: Base, url: str, operator: psycopg.Connection[Row]) -> None:
    job_id = base.submit()
    base.turn()
    connection = Connection(url)
    with closing(connection):
        end_session(operator, connection.session.backend_pid)
        assert connection.execute(sql.STATUS, (job_id,)) == [("pending",)]
        end_session(operator, connection.session.backend_pid)
        assert len(list(connection.iterate("SELECT 1 FROM generate_series(1, 5000)"))) == 5000
        listed = connection.iterate("SELECT 1 FROM generate_series(1, 5000)")
        next(listed)
        end_session(operator, connection.session.backend_pid)
        with pytest.raises(StoreError, match="session is lost"):
            list(listed)
        assert connection.execute(sql.STATUS, (job_id,)) == [("pending",)]


def test_a_list_of_large_rows_is_read_in_small_steps(base: Base, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base.store.submit([JobSpec(name="job", command="x" * COMMAND_BYTES_MAX)] * 200, [None] * 200, "test", NOW)
    base.turn()
    sizes: list[int] = []
    rows = Session.rows

    def measure(session: Session, call: Call) -> list[Row]:
        found = rows(session, call)
        sizes.append(sum(len(value) for row in found for value in row if isinstance(value, str)))
        return found

    monkeypatch.setattr(Session, "rows", measure)
    with closing(open_reader(url)) as reader:
        assert len(list(reader.jobs(None, 1_000))) == 200
    assert max(sizes) <= PAGE_BYTES_MAX


def test_a_reader_can_not_write(url: str) -> None:
    with closing(Connection(url)) as connection, pytest.raises(StoreError, match="read-only"):
        connection.execute("UPDATE totals SET tasks = 9")


def test_lists_that_are_open_together_are_of_one_moment(base: Base, url: str) -> None:
    jobs = [base.submit() for _ in range(3)]
    base.turn()
    with closing(open_reader(url)) as door:
        listed = door.jobs_between(jobs[0], jobs[2], 10)
        assert next(listed).job_id == jobs[0]
        base.submit()
        base.turn()
        other = door.jobs(None, 10)
        assert next(other).job_id == jobs[2]
        assert [job.job_id for job in listed] == jobs[1:]
        other.close()
        assert len(list(door.jobs(None, 10))) == 4


def test_another_database_in_the_place_of_ours_is_refused(base: Base, operator: psycopg.Connection[Row]) -> None:
    base.store.rollback()
    operator.execute("UPDATE identity SET db = 'another'")
    end_session(operator, engine_of(base).session.backend_pid)
    with pytest.raises(StoreMisplaced, match="another"):
        base.store.begin()


def test_messages_never_have_the_password() -> None:
    with pytest.raises(StoreError) as caught:
        PostgresEngine("postgresql://ann:seekrit@/db?host=/nowhere&port=1")
    assert "seekrit" not in str(caught.value)
    with pytest.raises(StoreError, match="invalid address") as caught:
        PostgresEngine("postgresql://ann:seekrit@/db?hots=/nowhere")
    assert "seekrit" not in str(caught.value)


# --- commits that are not confirmed ----------------------------------------------------------------------------------


@pytest.fixture
def link(url: str, tmp_path: Path) -> Iterator[Relay]:
    """A relay to the server. A test that needs it has a server of its own."""
    folder = postgres.server().folder
    if folder is None:
        folder = postgres.start().folder
    assert folder is not None
    with relay(tmp_path, folder) as opened:
        yield opened


def through(url: str, link: Relay) -> str:
    return f"{url.partition('?')[0]}?host={link.folder}"


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
def test_a_commit_without_an_answer_is_found_to_be_stored_or_not(url: str, link: Relay, answered: bool) -> None:
    base = open_base(through(url, link))
    job_id = base.submit()
    base.store.flush_counters(NOW)
    if answered:
        link.cut_after = b"COMMIT"
        base.store.commit()
    else:
        link.cut_before = b"COMMIT"
        with pytest.raises(StoreError, match="is not stored"):
            base.store.commit()
        base.store.rollback()
    assert link.was_cut.is_set()
    base.store.begin()
    assert (base.store.job(job_id) is not None) is answered
    assert base.submit() == job_id + answered
    base.turn()
    base.store.close()


def test_a_commit_whose_fate_can_not_be_found_out_is_unsure(
    url: str, link: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "PG_RESOLVE_MS", 50)
    monkeypatch.setattr(outcome, "PG_RESOLVE_PAUSE_MS", 10)
    base = open_base(through(url, link))
    base.submit()
    base.store.flush_counters(NOW)
    link.cut_after, link.closed = b"COMMIT", True
    with pytest.raises(StoreUnsure, match="unknown whether the turn is stored"):
        base.store.commit()
    base.store.close()


def test_a_commit_before_a_takeover_is_unknown(url: str, link: Relay, operator: psycopg.Connection[Row]) -> None:
    base = open_base(through(url, link))
    base.store.rollback()
    engine_of(base).fence(0)
    base.store.begin()
    base.submit()
    base.store.flush_counters(NOW)
    link.cut_after, link.closed = b"COMMIT", True
    with in_thread(base.store.commit) as done:
        assert link.was_cut.wait(WAIT_S)
        operator.execute("UPDATE epoch SET epoch = 1")
        operator.execute("UPDATE turn SET mark = 'of another'")
        link.closed = False
    # Not StoreDeposed: callers would believe that nothing of it is stored, and submit again.
    assert isinstance(done[0], StoreUnsure)
    base.store.close()


@pytest.fixture
def waiting(url: str, base: Base) -> Iterator[Callable[[], None]]:
    """A turn's COMMIT waits for a replica that is missing, until the fixture's value is called."""
    server = postgres.server()
    if server.process is None:
        pytest.skip("needs a server of its own")

    def choose(names: str) -> None:
        server.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        server.execute("SELECT pg_reload_conf()")

    # Other sessions never wait. That of `base` does from now on, and so does a new one of this database.
    server.execute(f"ALTER DATABASE {urlsplit(url).path[1:]} SET synchronous_commit = on")
    base.rows("SET synchronous_commit = on")
    choose("nobody")
    with psycopg.connect(url, autocommit=True) as probe, psycopg.connect(url, autocommit=True) as operator:
        wait_for(lambda: commit_waits(probe.pgconn, operator))
    yield lambda: choose("")
    choose("")


def commit_waits(probe: pq.abc.PGconn, operator: psycopg.Connection[Row]) -> bool:
    """Whether a commit waits for a replica: the server needs a moment to see its new settings."""
    probe.send_query(b"UPDATE totals SET tasks = 0")
    while not (waited := waits(operator)) and probe.is_busy():
        probe.consume_input()
    operator.execute("SELECT pg_cancel_backend(%s)", (probe.backend_pid,))
    while probe.get_result() is not None:
        pass
    return waited


def waits(operator: psycopg.Connection[Row]) -> bool:
    """Whether a COMMIT waits for a replica."""
    return bool(operator.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchall())


def test_a_cancelled_wait_for_a_replica_is_not_a_confirmation(
    base: Base, waiting: Callable[[], None], operator: psycopg.Connection[Row]
) -> None:
    operator.execute("SET synchronous_commit = off")
    base.submit()
    base.store.flush_counters(NOW)
    pid = engine_of(base).session.backend_pid
    with in_thread(base.store.commit) as done:
        wait_for(lambda: waits(operator))
        operator.execute("SELECT pg_cancel_backend(%s)", (pid,))
        # That session has ended, and another one waits now.
        wait_for(lambda: not operator.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchall())
        wait_for(lambda: waits(operator))
        assert done == []
        waiting()
    assert done == [None]


def test_a_commit_has_no_timeout(base: Base, waiting: Callable[[], None], operator: psycopg.Connection[Row]) -> None:
    operator.execute("SET synchronous_commit = off")
    base.submit()
    base.store.flush_counters(NOW)
    pid = engine_of(base).session.backend_pid
    base.rows("SET statement_timeout = 300")
    with in_thread(base.store.commit) as done:
        wait_for(lambda: waits(operator))
        began = time.monotonic()
        wait_for(lambda: time.monotonic() > began + 0.5 or not waits(operator))
        waiting()
    assert done == [None]
    assert engine_of(base).session.backend_pid == pid


# --- one writer ------------------------------------------------------------------------------------------------------


def test_a_turn_of_a_deposed_scheduler_can_not_begin(base: Base, operator: psycopg.Connection[Row]) -> None:
    base.store.rollback()
    engine_of(base).fence(0)
    base.store.begin()
    base.submit()
    base.turn()
    base.store.rollback()
    operator.execute("UPDATE epoch SET epoch = epoch + 1")
    with pytest.raises(StoreDeposed):
        engine_of(base).confirm_epoch()
    with pytest.raises(StoreDeposed):
        base.store.begin()
    engine_of(base).fence(1)
    base.store.begin()
    assert base.submit() == 2
    base.turn()


def test_a_takeover_waits_for_the_turn_under_way(base: Base, operator: psycopg.Connection[Row]) -> None:
    operator.execute("SET lock_timeout = 20")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        operator.execute("UPDATE epoch SET epoch = epoch + 1")
    base.store.rollback()
    operator.execute("UPDATE epoch SET epoch = epoch + 1")


def test_a_takeover_does_not_block_a_waiting_writer(base: Base, url: str, operator: psycopg.Connection[Row]) -> None:
    waits = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    with closing(PostgresEngine(url)) as replaced:
        replaced.fence(0)
        with in_thread(replaced.begin) as done:
            wait_for(lambda: bool(operator.execute(waits, (replaced.session.backend_pid,)).fetchall()))
            base.store.take_over()
            base.store.commit()
        assert isinstance(done[0], StoreDeposed)
    base.store.begin()


def test_a_second_writer_is_busy(base: Base, url: str) -> None:
    with closing(PostgresEngine(url)) as other:
        other.execute("SET lock_timeout = 20")
        with pytest.raises(StoreBusy):
            other.begin()
        base.store.rollback()
        other.begin()
        other.rollback()


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("53100", StoreFull),
        ("XX001", StoreCorrupt),
        ("40001", StoreBusy),
        ("23514", StoreConstraint),
        ("58030", StoreError),
    ],
)
def test_errors_of_the_server_are_the_stores(
    base: Base, operator: psycopg.Connection[Row], state: str, kind: type
) -> None:
    base.store.rollback()
    operator.execute(
        f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '{state}'; END $$;"
        " CREATE TRIGGER fail BEFORE INSERT ON tokens FOR EACH ROW EXECUTE FUNCTION fail()".encode()
    )
    base.store.begin()
    with pytest.raises(StoreError) as caught, base.store.savepoint():
        base.rows("INSERT INTO tokens (token_id, digest, scopes, note, created_ms, created_by, name)"
                  " VALUES ('1', '', '', '', 1, '', '')")  # fmt: skip
    assert type(caught.value) is kind


def test_a_value_that_the_server_refuses_fails_its_part_alone(base: Base) -> None:
    with base.store.savepoint():
        kept = base.submit()
    with pytest.raises(StoreConstraint), base.store.savepoint():
        base.rows("UPDATE jobs SET priority = ?", 2**63)
    base.turn()
    assert base.store.job(kept) is not None


def test_nul_in_what_a_worker_says_costs_no_result(base: Base) -> None:
    run_id = base.running()
    said = base.outcome(run_id, RunStatus.FAILED, 1, Stream(head=b"a\0b", total=3))
    assert base.store.finish(replace(said, detail="c\0d"), W1, NOW) == "stored"
    base.turn()
    assert base.run(run_id).detail == "c\ufffdd"
    assert base.rows("SELECT stdout_head FROM outputs") == [(b"a\0b",)]


def test_a_late_error_undoes_the_turn_and_later_turns_are_careful(base: Base) -> None:
    kept = base.submit()
    base.turn()

    def double(base: Base) -> None:
        """A job with an id that another job has."""
        base.engine.send("INSERT INTO owners (owner_id, owner) VALUES (?, ?)", (1, "twice"), 1)
        base.engine.send("INSERT INTO owners (owner_id, owner) VALUES (?, ?)", (1, "twice"), 1)

    with base.store.savepoint():
        double(base)
    with pytest.raises(StoreError, match="the whole turn is given up") as caught, base.store.savepoint():
        base.claim()
    assert not isinstance(caught.value, StoreConstraint)
    base.store.rollback()
    base.store.begin()
    with pytest.raises(StoreConstraint), base.store.savepoint():
        double(base)
    with base.store.savepoint():
        second = base.submit()
    base.turn()
    assert [job for job in (kept, second) if base.store.job(job) is None] == []
    assert base.rows("SELECT count(*) FROM owners") == [(0,)]


def test_an_error_that_comes_with_the_commit_undoes_the_turn(base: Base) -> None:
    base.submit()
    base.engine.send("INSERT INTO owners (owner_id, owner) VALUES (?, ?)", (1, "a"), 1)
    base.engine.send("INSERT INTO owners (owner_id, owner) VALUES (?, ?)", (1, "b"), 1)
    with pytest.raises(StoreError, match="duplicate key"):
        base.store.commit()
    base.store.rollback()
    base.store.begin()
    assert base.submit() == 1
    base.turn()


def test_ids_have_no_gap_after_what_was_undone(base: Base) -> None:
    assert base.submit() == 1
    with suppress(LookupError), base.store.savepoint():
        base.submit()
        raise LookupError
    assert base.submit() == 2
    base.turn()
    base.submit()
    base.store.rollback()
    base.store.begin()
    assert base.submit() == 3
    base.turn()
    assert base.rows("SELECT job_id FROM jobs ORDER BY job_id") == [(1,), (2,), (3,)]


# --- the schema ------------------------------------------------------------------------------------------------------


def test_a_turn_without_a_change_writes_nothing(base: Base, operator: psycopg.Connection[Row]) -> None:
    base.turn()
    with base.trace() as executed:
        base.store.commit()
        base.store.begin()
    assert "COMMIT" not in executed


@pytest.mark.parametrize(
    ("statement", "given"),
    [
        (sql.READY, ()),
        (sql.NEXT_DUE, ()),
        (sql.READY_COUNT, (1, 10)),
        (sql.CLAIMABLE, (1, 0, 10)),
        (sql.READY_LIMITED, ()),
        (sql.READY_LIMITED_OF, (2,)),
        (sql.READY_LIMITED_COUNT, (2, 10)),
        (sql.CLAIMABLE_LIMITED, (2, 0, 10)),
        (sql.LIVE_DEMANDS, ()),
        (sql.DUE_JOBS, (NOW, 10)),
        (sql.RELEASE_DUE, (NOW, NOW, 10)),
        (sql.AVOIDING, (10,)),
        (transitions.EXPIRED, (NOW, 10)),
        (sql.HELD, ("w1",)),
        (sql.LOAD, ("w1",)),
        (sql.LATEST, ()),
        (sql.JOBS, (1_000, 10, 0)),
        (sql.JOBS_BY_STATUS, ("pending", 1_000, 10, 0)),
    ],
)
def test_what_each_turn_reads_does_not_grow_with_the_waiting_runs(
    base: Base, statement: str, given: tuple[object, ...]
) -> None:
    for limits in ({}, {"db": 1}):
        spec = JobSpec(name="job", command="true", limits=limits)
        base.store.submit([spec] * 2_000, [None] * 2_000, "test", NOW)
    base.turn()
    plan = [row[0] for row in base.rows(f"EXPLAIN (ANALYZE, TIMING OFF) {statement}", *given)]
    assert [step for step in plan if "rows=2000" in step or "Removed by Filter: 2000" in step] == []


def test_no_statement_starts_processes_of_the_server(base: Base) -> None:
    # A claim beside a million rows started two for each 64 runs, which took longer than all the rest.
    ((setting,),) = base.rows(
        "SELECT name FROM pg_settings WHERE name IN ('debug_parallel_query', 'force_parallel_mode')"
    )
    base.rows("SELECT set_config(?, 'on', false)", setting)
    plan = base.plan(sql.CLAIMABLE_AHEAD, 1, 0, 64)
    assert [step for step in plan if "Workers Planned" in step] == []


ONE_BY_ONE = (
    *(
        "QUARANTINE_PENDING",
        "CANCEL_PENDING",
        "RUNNING_OF_JOB",
        "MARK_CANCELLED",
        "START",
        "OUTLIVE",
        "SUCCEED",
        "FAIL",
    ),
    *("LAPSE", "REFUSE", "RETURN", "BOUNCE", "HANGING", "HANG", "LOSE", "CRASH", "LAST_CRASH", "WITHDRAW"),
    *("QUARANTINE", "CLAIM"),
)
LISTED = ("SUCCEED_MANY", "FAIL_MANY", "LAPSE_MANY", "REFUSE_MANY", "CLAIM_LISTED", "RESTORE", "EXPIRE")


@pytest.mark.parametrize("name", [*ONE_BY_ONE, *LISTED])
def test_runs_are_found_by_the_name_that_a_statement_has(base: Base, name: str) -> None:
    statement = vars(transitions)[name]
    if name in ONE_BY_ONE:
        plan = base.plan(statement, *[1] * statement.count("?"))
    else:
        columns = transitions.RESULT_COLUMNS if name.endswith("_MANY") else ("run_id",)
        listed = tuple("1" if dialect.type_of(column) == "text" else 1 for column in columns)
        others = (1,) * (statement.count("?") - len(columns))
        plan = [row[0] for row in base.engine.execute_list(f"EXPLAIN {statement}", [listed], others)]
    used = {found[1] for step in plan if (found := re.search(r"using (runs_\w+) on runs(?: runs)?\b(?! r\b)", step))}
    assert used <= {"runs_pkey", "runs_of_job"}, plan
    assert used, plan


def test_tables_of_another_program_are_left_alone() -> None:
    with postgres.server().database(empty=True) as url:
        with psycopg.connect(url, autocommit=True) as operator:
            operator.execute("CREATE TABLE theirs (a INTEGER)")
        with pytest.raises(StoreForeign):
            open_engine(url, NOW)


def test_a_newer_schema_is_refused(url: str, operator: psycopg.Connection[Row]) -> None:
    operator.execute("UPDATE migrations SET schema = 999")
    with pytest.raises(StoreNewer):
        open_engine(url, NOW)
    # A scheduler that stands by reads, and could not take over.
    with pytest.raises(StoreNewer):
        open_reader(url)


REFUSED = "OLD.status IN ('success', 'failed', 'cancelled') OR (OLD.status = 'pending' AND NEW.status = 'success')"
TRIGGER = """
    CREATE OR REPLACE TRIGGER runs_change_by_the_table {} UPDATE ON runs FOR EACH ROW
    WHEN ({}) EXECUTE FUNCTION refuse_change_of_run()"""


@pytest.mark.parametrize(
    "change",
    [
        "DROP TRIGGER runs_change_by_the_table ON runs",
        "ALTER TABLE runs DISABLE TRIGGER runs_change_by_the_table",
        TRIGGER.format("BEFORE", "OLD.status IN ('success', 'failed')"),
        TRIGGER.format("AFTER", REFUSED),
        "CREATE OR REPLACE FUNCTION refuse_change_of_run() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    ],
)
def test_a_trigger_that_was_changed_is_found_at_the_start(
    url: str, operator: psycopg.Connection[Row], change: str
) -> None:
    open_engine(url, NOW).close()
    operator.execute(change.encode())
    with pytest.raises(StoreCorrupt, match="trigger"):
        open_engine(url, NOW)


def test_the_database_has_to_hold_any_text() -> None:
    server = postgres.server()
    server.execute("CREATE DATABASE zsched_latin TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        with pytest.raises(StoreError, match="encoding"):
            open_engine(server.url("zsched_latin"), NOW)
    finally:
        server.drop("zsched_latin")


def test_the_dialect_knows_the_types_of_the_columns(base: Base) -> None:
    columns = base.rows(
        "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns"
        " WHERE table_schema = 'public'"
    )
    assert {kind for _, _, kind in columns} == {"bigint", "text", "bytea"}
    # The tables that statements for many rows change.
    many = {"jobs", "runs", "outputs", "events", "totals"}
    assert [row for row in columns if row[0] in many and dialect.type_of(row[1]) != row[2]] == []


def test_text_is_compared_by_its_bytes(base: Base) -> None:
    collations = base.rows(
        "SELECT DISTINCT collation_name::text FROM information_schema.columns WHERE table_schema = 'public'"
        " AND data_type = 'text'"
    )
    assert collations == [("C",)]
