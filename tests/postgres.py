"""A PostgreSQL server of the tests: one for each test process, with a database for each test.

Debian's package `postgresql` has it. ZSCHED_TEST_POSTGRES names another server by a URL; its role must be allowed to
create databases. Where there is neither, the tests that need it are skipped.
"""

from __future__ import annotations

import atexit
import glob
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import pq

ANOTHER = "ZSCHED_TEST_POSTGRES"
START_S = 30

# Nothing has to survive the test.
FAST = (
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "autovacuum=off",
    "shared_buffers=8MB",
    "max_wal_size=10GB",
    "checkpoint_timeout=1h",
)


class Server:
    """A running server. `folder`: of its data and socket; None for a server that is not ours."""

    def __init__(self, url: str, folder: Path | None = None, process: subprocess.Popen[bytes] | None = None) -> None:
        self._url = url
        self.folder = folder
        self.process = process
        self._numbers = itertools.count(1)
        self._template: str | None = None
        self._operator: psycopg.Connection[tuple[object, ...]] | None = None

    def url(self, database: str = "postgres") -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{database}"))

    def execute(self, statement: str) -> None:
        """Execute a statement of an operator, such as CREATE DATABASE."""
        if self._operator is None:
            self._operator = psycopg.connect(self.url(), autocommit=True)
        self._operator.execute(statement.encode())

    def create(self, *, empty: bool = False) -> str:
        """Make a database, by default with our schema; returns its name."""
        name = f"zsched_{os.getpid()}_{next(self._numbers)}"
        template = "template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'" if empty else self.template
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @property
    def template(self) -> str:
        """The name of a database with our schema."""
        if self._template is None:
            from zsched.store.postgres.engine import open_engine

            name = self.create(empty=True)
            open_engine(self.url(name), 1_700_000_000_000).close()
            self._template = name
        return self._template

    @contextmanager
    def database(self, *, empty: bool = False) -> Iterator[str]:
        """The URL of a database that exists within the scope."""
        name = self.create(empty=empty)
        try:
            yield self.url(name)
        finally:
            self.drop(name)

    def end(self) -> None:
        """End the server at once, and remove its folder."""
        if self._template is not None and self.process is None:
            self.drop(self._template)
        if self._operator is not None:
            self._operator.close()
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()
        if self.folder is not None:
            shutil.rmtree(self.folder)


def missing() -> str | None:
    """Why there is no server for the tests; None if there is one."""
    if ANOTHER in os.environ or _programs() is not None:
        return None
    return f"PostgreSQL is not installed: install Debian's package postgresql, or set {ANOTHER} to a server's URL"


@cache
def server() -> Server:
    """The server of this process, started at its first use. Skips the test if there is none."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    another = os.environ.get(ANOTHER)
    started = Server(another) if another else start()
    atexit.register(started.end)
    return started


def start(*settings: str, folder: Path | None = None) -> Server:
    """Start a server on a Unix socket in a folder of its own, with more settings (NAME=VALUE)."""
    if folder is None:
        folder = make_folder()
        run_program(
            "initdb",
            "--auth=trust",
            "--username=zsched",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C",
            str(folder / "data"),
        )
    chosen = [word for setting in (*FAST, *settings) for word in ("-c", setting)]
    log = (folder / "log").open("wb")
    command = [str(program("postgres")), "-D", str(folder / "data"), "-k", str(folder), "-h", "", *chosen]
    process = subprocess.Popen([*as_user(), *command], stdout=log, stderr=log, cwd="/")
    log.close()
    url = f"postgresql://zsched@/postgres?host={folder}"
    await_server(url, process, folder)
    return Server(url, folder, process)


def make_folder() -> Path:
    """A folder of the server's user, in memory where that exists."""
    memory = "/dev/shm"
    folder = Path(tempfile.mkdtemp(prefix="zsched-pg-", dir=memory if os.access(memory, os.W_OK) else None))
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
    return folder


def await_server(url: str, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until the server takes connections."""
    end = time.monotonic() + START_S
    while pq.PGconn.ping(url.encode()) != pq.Ping.OK:
        # The server has no other sign that it is ready.
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < end, (folder / "log").read_text()
        time.sleep(0.02)


def as_user() -> list[str]:
    """What starts a program as a user that may run PostgreSQL, and ends it with this process."""
    words = ["setpriv", "--pdeathsig=QUIT"]
    if os.geteuid() == 0:
        words += ["--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    return words


def run_program(name: str, *arguments: str) -> None:
    subprocess.run([*as_user(), str(program(name)), *arguments], check=True, stdout=subprocess.DEVNULL, cwd="/")


def program(name: str) -> Path:
    programs = _programs()
    assert programs is not None
    return programs / name


@cache
def _programs() -> Path | None:
    """The folder of PostgreSQL's programs: Debian has one for each version."""
    with suppress(ValueError):
        versions = glob.glob("/usr/lib/postgresql/*/bin")
        return Path(max(versions, key=lambda folder: int(folder.split("/")[4])))
    found = shutil.which("postgres")
    return Path(found).parent if found else None
