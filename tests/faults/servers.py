"""PostgreSQL servers that keep what they have confirmed, and that can die: fsync is on, and the data is on a disk.

Each listens on a Unix socket and on two addresses of loopback, of which a test can cut off one.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Final, Self

import psycopg

from tests import postgres
from tests.system.session import free_ports, until

# Where the schedulers reach the server: the first of them by the near address, the others by the far one.
NEAR, FAR = "127.0.0.2", "127.0.0.3"

# As an administrator has it, in a test's size.
SETTINGS: Final = ("fsync=on", "synchronous_commit=on", "full_page_writes=on", "shared_buffers=64MB", "autovacuum=on")
DATABASE: Final = "zsched"


class DurableServer:
    """A server with one database. A context: leaving it ends the server and removes its folder."""

    def __init__(self, *settings: str) -> None:
        """`settings`: more of them, NAME=VALUE."""
        # Its user can't enter the folders of pytest.
        self.folder = Path(tempfile.mkdtemp(prefix="zsched-pg-"))
        give_to_server(self.folder)
        self.data = self.folder / "data"
        self.log_path = self.folder / "log"
        (self.port,) = free_ports(1)
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.initialise()
            self.start()
            self.create()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def socket_url(self) -> str:
        """Of our database, by the Unix socket."""
        return f"postgresql://zsched@/{DATABASE}?host={self.folder}&port={self.port}"

    def url(self, host: str) -> str:
        return f"postgresql://zsched@{host}:{self.port}/{DATABASE}"

    def initialise(self, *options: str) -> None:
        """Make the data folder. `options`: more of them for initdb."""
        fixed = ("--auth=trust", "--username=zsched", "--encoding=UTF8", "--locale=C", "--wal-segsize=1")
        postgres.run_program("initdb", *fixed, *options, str(self.data))

    def execute(self, statement: str) -> None:
        """Execute a statement of an operator, outside our database."""
        with psycopg.connect(self.socket_url.replace(f"/{DATABASE}?", "/postgres?"), autocommit=True) as operator:
            operator.execute(statement.encode())

    def create(self, tail: str = "") -> None:
        """Create our database. `tail`: more of the statement."""
        settings = "TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
        self.execute(f"CREATE DATABASE {DATABASE} {settings} {tail}")

    def launch(self) -> None:
        """Start the server, and wait for nothing."""
        listens = (f"listen_addresses={NEAR},{FAR}", f"port={self.port}")
        chosen = [word for setting in (*SETTINGS, *listens, *self.settings) for word in ("-c", setting)]
        command = [str(postgres.program("postgres")), "-D", str(self.data), "-k", str(self.folder), *chosen]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen([*postgres.as_user(), *command], stdout=log, stderr=log, cwd="/")

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        self.launch()
        until(self.answers)

    def answers(self) -> bool:
        return psycopg.pq.PGconn.ping(self.socket_url.encode()) == psycopg.pq.Ping.OK

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop_immediately(self) -> None:
        """As `pg_ctl stop -m immediate` does: without a checkpoint."""
        assert self._process is not None
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)

    def kill(self) -> None:
        """kill -9 of the postmaster. Its children end as soon as they notice."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def stop_if_it_runs(self) -> None:
        if self.runs:
            self.stop_immediately()

    def end(self) -> None:
        self.stop_if_it_runs()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        return self.log_path.read_text("utf-8", "replace")


class Replica(DurableServer):
    """A copy of another server that follows it, until it is promoted."""

    def __init__(self, primary: DurableServer) -> None:
        super().__init__()
        self._primary = primary

    def __enter__(self) -> Self:
        try:
            address = ("-h", str(self._primary.folder), "-p", str(self._primary.port), "-U", "zsched")
            postgres.run_program("pg_basebackup", *address, "-D", str(self.data), "-R", "-X", "stream", "-c", "fast")
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def promote(self) -> None:
        postgres.run_program("pg_ctl", "promote", "-D", str(self.data), "-w")


def give_to_server(folder: Path) -> None:
    """Let the server's user own a folder."""
    if os.geteuid() == 0:
        user = pwd.getpwnam("nobody")
        os.chown(folder, user.pw_uid, user.pw_gid)
