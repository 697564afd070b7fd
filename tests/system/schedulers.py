"""Real schedulers that share a database on PostgreSQL, each with a data folder of its own. Ends what it started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import psycopg

from tests.system.process import ROOT, Logged
from tests.system.session import free_ports

DEADLINE_S = 30.0
# A standby must serve within this time.
SERVED_S = 15.0


class Answer(NamedTuple):
    """`body` is JSON, or the text in `text`. `status` 0: there was no answer."""

    status: int
    body: Any
    text: str


class SharingScheduler(Logged):
    """A process of zsched-scheduler, when it runs."""

    def __init__(self, database: str, folder: Path, name: str, **settings: str) -> None:
        self.name = name
        self.data_dir = folder / name
        self.log_path = folder / f"{name}.log"
        self.port, zmq_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        flags = {
            "db": database,
            "data_dir": str(self.data_dir),
            "host": "127.0.0.1",
            "port": str(self.port),
            "zmq_host": "127.0.0.1",
            "zmq_port": str(zmq_port),
            "worker_timeout": "15s",
        } | settings
        self._options = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until REST is up."""
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "zsched.commands.scheduler", *self._options],
                cwd=ROOT,
                env={"PYTHONPATH": str(ROOT)} | os.environ,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        self.until(lambda: self.role() != "" or not self.runs)

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """SIGSTOP, and wait until no thread of it runs any more: a request that comes now waits for the SIGCONT."""
        assert self._process is not None
        self.send(signal.SIGSTOP)
        threads = Path(f"/proc/{self._process.pid}/task")
        self.until(lambda: all(_state(thread / "stat") == "T" for thread in threads.iterdir()))

    def exit_code(self) -> int:
        """Waits for the end."""
        assert self._process is not None
        return self._process.wait(DEADLINE_S)

    def end(self) -> None:
        if self._process is not None and self.runs:
            self._process.kill()
            self._process.wait()

    def role(self) -> str:
        """`ready` while it is active, `standby`, `unready`, or empty while REST does not answer."""
        return self.call("GET", "/readyz").text.partition("\n")[0]

    def call(self, method: str, path: str, body: object = None, timeout_s: float = 5) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=timeout_s) as answer:
                return _read(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            return _read(error.code, error.read())
        except OSError:
            return Answer(0, None, "")

    def submit(self, command: str, **fields: object) -> int | None:
        """Submit a job; returns its id, or None if it was not accepted."""
        answer = self.call("POST", "/jobs", {"name": "j", "command": command, **fields}, timeout_s=2)
        return answer.body["id"] if answer.status == 201 else None

    def until_served(self) -> float:
        """Submit jobs until one is accepted. Returns how long it took."""
        return self.until(lambda: self.submit("true") is not None)

    def until(self, condition: Callable[[], object], within_s: float = DEADLINE_S) -> float:
        """Wait for something that this scheduler does. Returns how long it took."""
        begin = time.monotonic()
        while not condition():
            assert time.monotonic() - begin < within_s, (
                f"not within {within_s} s; {self.name} has logged:\n{self.log()}"
            )
            time.sleep(0.02)
        return time.monotonic() - begin


def _state(stat: Path) -> str:
    """The state of a thread, by its file in /proc; empty when it has ended."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


class Team:
    """Several schedulers of one database; the first one leads. A context: leaving it kills them all."""

    def __init__(self, database: str, folder: Path, count: int = 2, first: str = "", **settings: str) -> None:
        """`first`: the URL by which the first one reaches the database, when it is another one."""
        self._database = database
        urls = [first or database, *[database] * (count - 1)]
        self.all = [SharingScheduler(url, folder, "abc"[number], **settings) for number, url in enumerate(urls)]

    @property
    def urls(self) -> str:
        return ", ".join(scheduler.url for scheduler in self.all)

    def __enter__(self) -> Self:
        first, *others = self.all
        try:
            first.start()
            first.until(lambda: first.role() == "ready")
            for other in others:
                other.data_dir.mkdir(0o700)
                shutil.copy(first.data_dir / "secret.key", other.data_dir)
                other.start()
                other.until(lambda other=other: other.role() == "standby")  # type: ignore[misc]
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for scheduler in self.all:
            scheduler.end()

    def look(self, statement: str) -> list[tuple[Any, ...]]:
        """Read in the database."""
        with psycopg.connect(self._database) as connection:
            return connection.execute(statement.encode()).fetchall()


def _read(status: int, data: bytes) -> Answer:
    text = data.decode()
    body = None
    with suppress(ValueError):
        body = json.loads(text)
    return Answer(status, body, text)
