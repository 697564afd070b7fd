"""The lock by which schedulers on PostgreSQL choose the one that leads: who has it, when it is lost, and their list."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from signal import SIGSTOP
from typing import Any

import psycopg
import pytest
from msgspec.structs import replace

from tests import postgres
from tests.relay import relay
from tests.system.process import ROOT
from tests.unit.test_rest_standby import A, B
from zsched.model.address import PostgresUrl, parse_url
from zsched.model.limits import LOCK_ANSWER_MS, LOCK_CONNECT_S, LOCK_IDLE_MS, LOCK_PING_S
from zsched.model.records import Instance, Role
from zsched.store.contract import StoreError
from zsched.store.postgres.leader import Candidate

pytestmark = pytest.mark.postgres

# The time of a ping and of a new session, on a busy machine.
SOON_S = LOCK_PING_S + 8


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.server().database() as url:
        yield url


@pytest.fixture
def join(url: str) -> Iterator[Callable[[], Candidate]]:
    """Makes candidates, which are closed at the end."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(Candidate(parse_url(url))))


def look(url: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def until(condition: Callable[[], object], within_s: float = SOON_S) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"not within {within_s} s"
        time.sleep(0.05)


def locks(url: str) -> int:
    (count,) = look(url, "SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND granted")[0]
    return int(count)


def end_sessions(url: str) -> None:
    """As a server does that restarts, or a network that fails."""
    look(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'zsched lock'")


def test_one_candidate_has_the_lock(join: Callable[[], Candidate]) -> None:
    first, second = join(), join()
    assert first.try_lock()
    assert first.try_lock()
    assert not second.try_lock()
    first.release()
    assert second.try_lock()
    assert not first.try_lock()
    second.close()
    # The server ends the session a moment later.
    until(first.try_lock)


def test_schemas_of_one_database_have_a_lock_each(url: str, join: Callable[[], Candidate]) -> None:
    look(url, "CREATE SCHEMA other")
    assert join().try_lock()
    with closing(Candidate(parse_url(f"{url}&options=-csearch_path%3Dother"))) as elsewhere:
        assert elsewhere.try_lock()


def test_lock_is_taken_again_by_a_new_session(url: str, join: Callable[[], Candidate]) -> None:
    first, second = join(), join()
    assert first.try_lock()
    end_sessions(url)
    until(lambda: locks(url) == 1)
    assert not second.try_lock()


def test_lock_that_another_has_taken_is_not_taken_again(url: str, join: Callable[[], Candidate]) -> None:
    first = join()
    assert first.try_lock()
    with psycopg.connect(url, autocommit=True) as other, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(other.execute, "SELECT pg_advisory_lock(2054382440, hashtext(current_schema())) IS NULL")
        until(lambda: look(url, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))
        end_sessions(url)
        waiting.result(SOON_S)
        first.publish(replace(A, role=Role.ACTIVE))
        until(lambda: look(url, "SELECT role FROM instances") == [("standby",)])
    # The other one is gone, and the first one still wants to lead.
    until(lambda: look(url, "SELECT role FROM instances") == [("active",)])


def test_released_lock_is_not_taken_again(url: str, join: Callable[[], Candidate]) -> None:
    first = join()
    assert first.try_lock()
    first.release()
    first.publish(A)
    seen = look(url, "SELECT seen_ms FROM instances")
    until(lambda: look(url, "SELECT seen_ms FROM instances") != seen)
    assert locks(url) == 0


@pytest.mark.slow
def test_lock_of_a_living_scheduler_is_kept_and_of_a_stopped_one_lost(url: str, join: Callable[[], Candidate]) -> None:
    program = (
        "import sys, time; from zsched.model.address import parse_url;"
        " from zsched.store.postgres.leader import Candidate;"
        " assert Candidate(parse_url(sys.argv[1])).try_lock(); print('led', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", program, url], stdout=subprocess.PIPE, cwd=ROOT) as leader:
        try:
            assert leader.stdout is not None
            assert leader.stdout.readline() == b"led\n"
            second = join()
            end = time.monotonic() + LOCK_IDLE_MS / 1_000 + LOCK_PING_S + 1
            while time.monotonic() < end:
                assert not second.try_lock()
                time.sleep(0.2)
            leader.send_signal(SIGSTOP)
            begin = time.monotonic()
            until(second.try_lock, LOCK_IDLE_MS / 1_000 + 5)
            assert time.monotonic() - begin > LOCK_IDLE_MS / 1_000 - LOCK_PING_S - 1
        finally:
            leader.kill()


def test_schedulers_list_themselves(url: str, join: Callable[[], Candidate]) -> None:
    first, second = join(), join()
    assert first.try_lock()
    first.publish(A)
    second.publish(B)
    assert listed(url) == [("aa", "active"), ("bb", "standby")]
    # The first one is killed, and the second one takes over.
    first.release()
    assert second.try_lock()
    second.publish(replace(B, role=Role.ACTIVE))
    assert listed(url) == [("aa", "standby"), ("bb", "active")]
    look(url, "UPDATE instances SET seen_ms = seen_ms - 3600000 WHERE instance = 'aa'")
    first.close()
    until(lambda: listed(url) == [("bb", "active")])
    second.close()
    assert listed(url) == []


def listed(url: str) -> list[tuple[str, str]]:
    return [(one, role) for one, role in look(url, "SELECT instance, role FROM instances ORDER BY instance")]


def test_failed_statement_keeps_the_lock(url: str, join: Callable[[], Candidate]) -> None:
    first = join()
    assert first.try_lock()
    look(url, "DROP TABLE instances")
    first.publish(A)
    assert locks(url) == 1


def test_server_that_hangs_holds_no_candidate(url: str, tmp_path: Path) -> None:
    """Its host, or a proxy, goes on to acknowledge what it gets."""
    folder = postgres.server().folder
    if folder is None:
        pytest.skip("the server is another host's")
    through = url.replace(f"host={folder}", f"host={tmp_path}")
    assert through != url
    with (
        relay(tmp_path, folder) as link,
        ThreadPoolExecutor(1) as pool,
        closing(Candidate(parse_url(through))) as first,
    ):
        link.flows.clear()
        try:
            # A ping may be under way, and a new session is tried after it.
            with pytest.raises(StoreError):
                pool.submit(first.try_lock).result(LOCK_ANSWER_MS / 1_000 + 2 * LOCK_CONNECT_S + 5)
        finally:
            link.flows.set()
        # The lost session may have got the lock for a moment.
        until(first.try_lock)


def test_lock_that_can_not_be_released_ends_with_its_session(
    join: Callable[[], Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = join(), join()
    assert first.try_lock()
    with monkeypatch.context() as patch:
        patch.setattr("zsched.store.postgres.leader._RELEASE", "SELECT 1 / 0")
        first.release()
    until(second.try_lock)


def test_invalid_address_is_not_repeated() -> None:
    """libpq's own sentence has the whole URL."""
    with pytest.raises(StoreError, match="invalid address") as caught:
        Candidate(PostgresUrl("postgresql://ann:seekrit@[::1]x/db"))
    assert "seekrit" not in str(caught.value)


def test_instance_fields_are_stored(url: str, join: Callable[[], Candidate]) -> None:
    from zsched.store.postgres.engine import open_reader

    join().publish(B)
    with closing(open_reader(url)) as reader:
        (stored,) = reader.instances()
    assert replace(stored, seen_ms=B.seen_ms) == B
    assert isinstance(stored, Instance)
