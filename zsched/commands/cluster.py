"""A scheduler and workers on this host, as child processes that live as long as the command that started them.

Used by `zsched demo`. All their files are in one folder; what they log is there too, for when something fails. They are
stopped by SIGTERM to exactly the pids that were started, workers first, so that their last results still arrive.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

# From the start of the processes until all answer; on a slow host importing alone takes a second or two.
READY_S_MAX: Final = 30.0

# From SIGTERM until SIGKILL. Workers get less for their jobs, so they end by themselves.
STOP_S_MAX: Final = 15.0

# One answer of the scheduler.
ANSWER_S_MAX: Final = 10.0

# Between two looks at what is not ready yet.
LOOK_S: Final = 0.05

# What a failure shows of each log.
TAIL_LINES: Final = 20


class ClusterError(Exception):
    """The cluster can't be used. The text is one line for a person."""


class Cluster:
    """Processes of one scheduler and its workers. A context: leaving it stops them all."""

    def __init__(self, folder: Path, workers: int, slots: int) -> None:
        """Take two free ports and start nothing yet. `folder` is empty and exists."""
        self.folder = folder
        self.workers = [f"worker-{number}" for number in range(1, workers + 1)]
        self._slots = slots
        self._port, self._zmq_port = _free_ports(2)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        # A proxy of the environment is for the world outside, never for this host.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    @property
    def url(self) -> str:
        """Where the scheduler answers REST."""
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all and return when the scheduler is ready and every worker is active.

        Raises ClusterError when a process ends, or all of it takes longer than READY_S_MAX.
        """
        deadline = time.monotonic() + READY_S_MAX
        self._spawn("scheduler", "scheduler", *self._scheduler_flags())
        # A worker that finds no scheduler tries again a second later, so they come when there is one.
        self._wait(self._scheduler_ready, deadline)
        for name in self.workers:
            self._spawn(name, "worker", *self._worker_flags(name))
        self._wait(self._workers_active, deadline)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Ask the scheduler; returns the JSON of its answer. Raises ClusterError for anything but a 2xx with JSON."""
        answer = self._fetch(method, path, None if body is None else json.dumps(body).encode())
        try:
            return json.loads(answer)
        except ValueError as error:
            raise ClusterError(f"{method} {path} answered no JSON: {error}") from error

    def _fetch(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(  # noqa: S310 (our own http address)
            self.url + path, method=method, data=body, headers={"Content-Type": "application/json"}
        )
        try:
            with self._opener.open(request, timeout=ANSWER_S_MAX) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                sentence = error.read(1024).decode(errors="replace").strip()
            raise ClusterError(f"{method} {path} answered {error.code}: {sentence}") from error
        except (OSError, http.client.HTTPException) as error:
            raise ClusterError(f"{method} {path} had no answer: {error}") from error

    def stop(self) -> list[str]:
        """Stop what runs, workers first; returns the names of those that did not end cleanly. Twice does no harm."""
        unclean = []
        for names in (self.workers, ["scheduler"]):
            started = {name: self._processes.pop(name) for name in names if name in self._processes}
            for process in started.values():
                process.terminate()
            deadline = time.monotonic() + STOP_S_MAX
            for name, process in started.items():
                try:
                    code = process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    code = process.wait()
                if code != 0:
                    unclean.append(f"{name} (exit code {code})")
        return unclean

    def tail(self) -> str:
        """The last lines that each process logged, for a person who looks for the cause."""
        parts = []
        for name in ("scheduler", *self.workers):
            log = self.folder / f"{name}.log"
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
            parts += [f"--- {name} logged last:", *lines[-TAIL_LINES:]]
        return "\n".join(parts)

    def _scheduler_flags(self) -> list[str]:
        db = self.folder / "scheduler.db"
        rest = [f"--db={db}", f"--data-dir={db}.d", "--host=127.0.0.1", f"--port={self._port}"]
        return [*rest, "--zmq-host=127.0.0.1", f"--zmq-port={self._zmq_port}"]

    def _worker_flags(self, name: str) -> list[str]:
        place = [f"--id={name}", f"--scheduler={self.url}", f"--state-dir={self.folder / name}"]
        return [*place, f"--slots={self._slots}", "--shutdown-grace=5s"]

    def _spawn(self, name: str, program: str, *flags: str) -> None:
        # A person's own settings are for a person's own cluster.
        environ = {key: value for key, value in os.environ.items() if not key.startswith("ZSCHED_")}
        environ["XDG_CONFIG_HOME"] = str(self.folder)
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", f"zsched.commands.{program}", *flags],
                cwd=self.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C at the terminal is for the command alone, which then stops its processes in order.
                process_group=0,
            )

    def _wait(self, condition: Callable[[], bool], deadline: float) -> None:
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise ClusterError(f"not ready within {READY_S_MAX:.0f} s")
            time.sleep(LOOK_S)

    def _scheduler_ready(self) -> bool:
        try:
            self._fetch("GET", "/readyz")
        except ClusterError:
            return False
        return True

    def _workers_active(self) -> bool:
        workers = self.call("GET", "/workers")
        return {worker["worker_id"] for worker in workers if worker["status"] == "active"} >= set(self.workers)

    def _check(self) -> None:
        for name, process in self._processes.items():
            code = process.poll()
            if code is not None:
                raise ClusterError(f"{name} ended with exit code {code}")


def _free_ports(count: int) -> list[int]:
    """Ports of this host that are free now. Held all at once while they are chosen, so that they differ."""
    with ExitStack() as held:
        ends = [held.enter_context(socket.socket()) for _ in range(count)]
        for end in ends:
            end.bind(("127.0.0.1", 0))
        return [int(end.getsockname()[1]) for end in ends]


def stop_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does, so that its processes are stopped."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
