"""conf/postgresql/role.sql: a scheduler needs no more rights than its role has, and the role has no others."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests import postgres
from tests.system.process import ROOT, WorkerProcess
from tests.system.schedulers import SharingScheduler
from zsched.store.postgres.engine import open_reader

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

NAME = f"least_{os.getpid()}"
FORBIDDEN = (
    "CREATE TABLE public.mine (a int)",
    "CREATE SCHEMA mine",
    "CREATE TEMP TABLE mine (a int)",
    "CREATE DATABASE mine",
    "CREATE ROLE mine",
    "DROP DATABASE {name}",
    "SET ROLE zsched",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('/etc/passwd')",
)


@pytest.fixture
def url() -> Iterator[str]:
    """The URL of the database for the role."""
    server, psql = postgres.server(), shutil.which("psql")
    if psql is None or server.folder is None:
        pytest.skip("needs psql, and a server of our own")
    script = ROOT / "conf" / "postgresql" / "role.sql"
    words = [psql, "-q", "-X", "-v", f"role={NAME}", "-v", f"database={NAME}", "-f", str(script), server.url()]
    subprocess.run(words, check=True, timeout=60)
    try:
        yield server.url(NAME).replace("zsched@", f"{NAME}@")
    finally:
        server.drop(NAME)
        server.execute(f"DROP ROLE {NAME}")


def test_scheduler_needs_no_more_than_the_role_may(url: str, tmp_path: Path) -> None:
    scheduler, threads = SharingScheduler(url, tmp_path, "a", threads="4"), 4
    try:
        scheduler.start()
        scheduler.until(lambda: scheduler.role() == "ready")
        with WorkerProcess(scheduler.url, tmp_path):
            job = scheduler.submit("true")
            scheduler.until(lambda: scheduler.call("GET", f"/jobs/{job}").body["status"] == "success")
            with closing(open_reader(url)) as reader:
                assert reader.instances()
            with psycopg.connect(postgres.server().url(NAME)) as admin:
                counted = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", (NAME,)).fetchone()
                schemas = admin.execute(
                    "SELECT DISTINCT schemaname::text FROM pg_tables WHERE tableowner = %s", (NAME,)
                ).fetchall()
            assert counted is not None
            assert 2 <= counted[0] <= threads + 3
            assert schemas == [(NAME,)]
    finally:
        scheduler.end()


def test_scheduler_without_a_schema_says_so_and_ends(url: str, tmp_path: Path) -> None:
    with psycopg.connect(postgres.server().url(NAME)) as admin:
        admin.execute(f"DROP SCHEMA {NAME}".encode())
    scheduler = SharingScheduler(url, tmp_path, "a")
    try:
        scheduler.start()
        assert scheduler.exit_code() == os.EX_IOERR
        assert "no schema has been selected to create in" in scheduler.log()
    finally:
        scheduler.end()


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_role_may_do_nothing_else(url: str, statement: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement.format(name=NAME).encode())
