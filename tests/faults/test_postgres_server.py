"""Schedulers that share a PostgreSQL server, under load: the server dies, is replaced by its replica, has no space."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.faults.cluster import boottime_ms
from tests.faults.disks import Full, small_disk
from tests.faults.servers import FAR, NEAR, DurableServer, Replica, give_to_server
from tests.faults.sharing import Sharing, own_network, spread
from tests.faults.stage import length_s
from tests.system.schedulers import Team
from tests.system.session import until
from zsched.store.contract import StoreError
from zsched.store.postgres.engine import open_reader

log = logging.getLogger(__name__)

pytestmark = pytest.mark.postgres

CALM_S = 3.0
# Nothing promises how soon PostgreSQL itself is back; and then a scheduler may try again after a pause.
BACK_S = 60.0
RESTARTS = 3
# How long a scheduler tries to find out whether a turn is stored, and more.
UNSURE_S = 90.0
CALLERS = 4
# PG_RESOLVE_MS, and three calls that were not answered within 5 s before.
HEALTHY_S = 20.0


def test_server_that_restarts_immediately_loses_nothing(tmp_path: Path) -> None:
    outages = []
    with own_network(), DurableServer() as server, shared(tmp_path, server) as sharing:
        with sharing.loaded():
            for _ in range(RESTARTS):
                time.sleep(CALM_S)
                died_ms = boottime_ms()
                server.stop_immediately()
                server.start()
                outages.append(sharing.await_service(died_ms, BACK_S))
        log.info("without service: %s", spread(outages))
        assert sharing.verdict().clean


def shared(folder: Path, server: DurableServer) -> Sharing:
    return Sharing(folder, [server.url(NEAR), server.url(FAR)], server.socket_url)


@contextmanager
def replicated() -> Iterator[tuple[DurableServer, Replica]]:
    """A server with synchronous replication: a commit waits for the replica."""
    with own_network(), DurableServer() as primary, Replica(primary) as replica:
        with psycopg.connect(primary.socket_url, autocommit=True) as operator:
            operator.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            operator.execute("SELECT pg_reload_conf()")
            states = "SELECT sync_state FROM pg_stat_replication"
            until(lambda: operator.execute(states).fetchall() == [("sync",)])
        yield primary, replica


def test_replica_that_is_promoted_has_all_that_was_acked(tmp_path: Path) -> None:
    with replicated() as (primary, replica):
        hosts = [f"{host}:{server.port}" for host in (NEAR, FAR) for server in (primary, replica)]
        urls = [f"postgresql://zsched@{','.join(hosts[first : first + 2])}/zsched" for first in (0, 2)]
        either = [f"{url}?target_session_attrs=read-write" for url in urls]
        with Sharing(tmp_path, either, either[0]) as sharing:
            with sharing.loaded():
                time.sleep(CALM_S)
                died_ms = boottime_ms()
                primary.kill()
                replica.promote()
                promoted_ms = boottime_ms()
                sharing.await_service(died_ms, BACK_S)
                log.info(
                    "promoted after %d ms; without service: %d ms", promoted_ms - died_ms, sharing.acked_since(died_ms)
                )
                time.sleep(CALM_S)
            assert sharing.verdict().clean


def test_scheduler_does_not_use_a_replica(tmp_path: Path) -> None:
    """What a replica says of the epoch may be old, and a scheduler that was replaced would answer heartbeats."""
    with replicated() as (primary, replica):
        url = f"postgresql://zsched@{NEAR}:{replica.port},{NEAR}:{primary.port}/zsched"
        with Team(url, tmp_path, count=1) as team:
            assert team.all[0].submit("true") == 1
            assert team.all[0].call("GET", "/jobs/1").status == 200
        with pytest.raises(StoreError, match="read-only"):
            open_reader(replica.url(NEAR))


@pytest.mark.timeout(300)
def test_cancelled_wait_for_a_replica_is_never_an_ack(tmp_path: Path) -> None:
    """The job may be stored on the primary alone, and would be lost with it."""
    with replicated() as (primary, replica), Team(primary.url(NEAR), tmp_path, count=1) as team:
        (active,) = team.all
        acked = [active.submit("true")]
        replica.stop_immediately()
        statuses: list[int] = []

        def call() -> None:
            answer = active.call("POST", "/jobs", {"name": "unsure", "command": "true"}, timeout_s=UNSURE_S)
            statuses.append(answer.status)

        callers = [threading.Thread(target=call) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        cancelled = 0
        with psycopg.connect(primary.socket_url, autocommit=True) as operator:
            waiting = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            while any(caller.is_alive() for caller in callers):
                cancelled += len(operator.execute(waiting).fetchall())
                time.sleep(0.1)
        log.info("%d waits cancelled; answers %s", cancelled, Counter(statuses))
        assert cancelled > 0
        assert set(statuses) == {503}
        replica.start()
        active.until(lambda: active.submit("true"), BACK_S)
        assert set(acked) <= {job for (job,) in team.look("SELECT job_id FROM jobs")}


@pytest.fixture(params=["data", "wal"])
def small(request: pytest.FixtureRequest) -> Iterator[tuple[DurableServer, Full, bool]]:
    """A server with its data or its log on a small disk; that disk; and whether the server survives a full disk."""
    with own_network(), ExitStack() as stack:
        server = DurableServer("max_wal_size=64MB", "min_wal_size=2MB", "wal_recycle=off")
        stack.callback(server.end)
        where = server.folder / "small"
        stack.enter_context(small_disk(where, "size=64m"))
        # Ended before its disk is taken away.
        stack.callback(server.stop_if_it_runs)
        give_to_server(where)
        if request.param == "wal":
            server.initialise(f"--waldir={where / 'wal'}")
            server.start()
            server.create()
        else:
            server.initialise()
            server.start()
            server.execute(f"CREATE TABLESPACE small LOCATION '{where}'")
            server.create("TABLESPACE small")
        yield server, Full(where), request.param == "data"


def test_full_disk_of_the_server_acks_only_what_is_stored(
    tmp_path: Path, small: tuple[DurableServer, Full, bool]
) -> None:
    server, full, lives = small
    reads: Counter[int] = Counter()
    with shared(tmp_path, server) as sharing:
        with sharing.loaded():
            time.sleep(CALM_S)
            epochs = sharing.ask("SELECT epoch FROM epoch")
            full.fill()
            until(lambda: refuses(sharing), BACK_S)
            full_s = time.monotonic()
            end_s = full_s + length_s(8)
            active = sharing.team.all[0]
            while time.monotonic() < end_s:
                for path in ("/stats", "/jobs?limit=1", "/workers"):
                    reads[active.call("GET", path).status] += 1
                time.sleep(0.2)
            # Callers hold all its threads only until it has found out, or given up, what is stored.
            active.until(lambda: active.call("GET", "/healthz").status == 200)
            healthy_s = time.monotonic() - full_s
            log.info("the server runs: %s; healthy after %.1f s; reads: %s", server.runs, healthy_s, dict(reads))
            assert healthy_s <= max(HEALTHY_S, length_s(8))
            full.empty()
            emptied_ms = boottime_ms()
            if not server.runs:
                server.start()
            log.info("without service after that: %d ms", sharing.await_service(emptied_ms, BACK_S))
            if lives:
                assert sharing.ask("SELECT epoch FROM epoch") == epochs
        verdict = sharing.verdict()
    assert verdict.clean
    if lives:
        assert set(reads) == {200}


def refuses(sharing: Sharing) -> bool:
    """Whether the last submits, and there are some, were all refused."""
    last = list(sharing.load.done.submits)[-20:]
    return len(last) == 20 and all(one.outcome != "ok" for one in last)
