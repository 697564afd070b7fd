"""A real scheduler process for tests, and what its users have: HTTP, curl, a shell. Ends only what it started."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tests.system.process import ROOT, Logged

DEADLINE_S = 30.0
LAUNCHERS = ROOT / "bin"
SCHEDULER = (sys.executable, "-P", "-m", "zsched.commands.scheduler")


def free_ports(count: int) -> list[int]:
    """Ports that are free now, and that the kernel gives to nobody as the near end of a connection: so a scheduler can
    come back on its port.
    """
    lowest_taken = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            end = held.enter_context(socket.socket())
            port = random.SystemRandom().randrange(10_000, lowest_taken)
            try:
                end.bind(("0.0.0.0", port))
            except OSError:
                continue
            found.append(port)
    return found


def environment(folder: Path, **more: str) -> dict[str, str]:
    """A person's environment, without that person's own settings of zsched and proxies; `more` comes on top."""
    foreign = ("ZSCHED_SCHEDULER_", "ZSCHED_WORKER_", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # No folder for a link to the scheduler's socket: a test of it makes one.
    folders = {
        "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_RUNTIME_DIR": str(folder / "runtime"),
    }
    return {**kept, **folders, "PYTHONPATH": str(ROOT), **more}


class Program(Logged):
    """A process whose output goes to a file."""

    def __init__(self, name: str, argv: Sequence[str | Path], folder: Path, **more: str) -> None:
        self.log_path = folder / f"{name}.log"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in argv],
                cwd=folder,
                env=environment(folder, **more),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self.pid = self.process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def exit_code(self) -> int:
        """Waits for the end."""
        return self.process.wait(DEADLINE_S)


class Scheduler:
    """A scheduler on ports and a database of its own, that can be killed and come back."""

    def __init__(self, folder: Path, *flags: str, argv: Sequence[str | Path] = SCHEDULER) -> None:
        """It starts with `start`, or as a context."""
        self.folder = folder
        self.port, self.zmq_port = free_ports(2)
        self.url = f"http://localhost:{self.port}"
        self._argv = [*argv, "-port", str(self.port), "-zmq-port", str(self.zmq_port), *flags]
        self.program: Program | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        self.launch()
        until(self.ready)

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        self.program = Program("scheduler", self._argv, self.folder)

    def kill(self) -> None:
        if self.program is not None:
            self.program.kill()

    def ready(self) -> bool:
        assert self.program is not None
        assert self.program.process.poll() is None, self.program.log()
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, value: object = None) -> tuple[int, Any]:
        """The status, and the value of the JSON that came with it or else its text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        try:
            body = None if value is None else json.dumps(value)
            connection.request(method, path, body)
            response = connection.getresponse()
            content = response.read()
            as_json = (response.getheader("Content-Type") or "").startswith("application/json")
            return response.status, json.loads(content) if as_json else content
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        status, value = self.ask("GET", path)
        assert status == 200, value
        return value

    def post(self, path: str, value: object = None) -> Any:
        status, answer = self.ask("POST", path, value)
        assert status in (200, 201), answer
        return answer

    def submit(self, *commands: str, **fields: object) -> list[int]:
        """One job for each command, all in one request."""
        made = self.post("/jobs", [{"name": "j", "command": command, **fields} for command in commands])
        return [job["id"] for job in made]

    def last_run(self, job: int) -> dict[str, Any]:
        run: dict[str, Any] = self.get(f"/jobs/{job}")["last_run"]
        return run

    def finished(self, job: int) -> dict[str, Any]:
        """The last run of a job, when the job has ended."""
        until(lambda: self.get(f"/jobs/{job}")["status"] not in ("pending", "running"))
        return self.last_run(job)

    def workers(self) -> dict[str, str]:
        """The status of each worker, by name."""
        return {worker["worker_id"]: worker["status"] for worker in self.get("/workers")}


def until(condition: Callable[[], bool], within_s: float = DEADLINE_S) -> float:
    """Wait for other processes to have done something; returns the seconds it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < within_s, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - started


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line as a person types it."""
    return subprocess.run(
        ["sh", "-c", line], cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=DEADLINE_S
    )
