"""A scheduler and workers on this host, as child processes that live as long as the command that started them.

Used by `zsched demo` and `zsched up`. It stops them by SIGTERM to their pids, workers first, so that their last results
still arrive. When the command is killed, the kernel ends them in any order.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, Self

from zsched.client.client import Client, ClientError
from zsched.config.settings import keys_of
from zsched.host import prctl
from zsched.model.limits import READY_S_MAX

# The pause between two checks for readiness.
LOOK_S: Final = 0.05

# Lines of each log that are shown after a failure.
TAIL_LINES: Final = 20

SCHEDULER: Final = "scheduler"

# The signal that each program gets when the command is killed. After SIGTERM a guard would let its jobs run on for a
# while, though the scheduler ends too. After SIGKILL its agent ends the jobs at once.
DEATH_SIGNALS: Final = {"scheduler": signal.SIGTERM, "worker": signal.SIGKILL}


class ClusterError(Exception):
    """The cluster failed. The message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The processes to start: the flags of each program, and their environment."""

    # The URL to show. It is called only if the scheduler has no socket.
    url: str
    # The scheduler's Unix socket. Some file systems have no sockets.
    socket: Path
    scheduler: Sequence[str]
    # Flags by worker name, without --scheduler.
    workers: Mapping[str, Sequence[str]]
    folder: Path
    environ: Mapping[str, str]
    # Whether each process logs to a file in `folder`; else all log to the command's stderr.
    log_files: bool
    # Seconds from SIGTERM until SIGKILL.
    stop_s_max: float
    # The token for the scheduler: empty for none, None for this user's own.
    token: str | None = None


class Cluster:
    """Processes of one scheduler and its workers. A context: leaving it stops them all."""

    def __init__(self, plan: Plan) -> None:
        """Starts nothing yet."""
        self.client = Client(plan.url, plan.token)
        self._plan = plan
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.client.close()

    def start(self) -> None:
        """Start all and return when the scheduler is ready and every worker is active.

        Raises ClusterError when a process ends, or all of it takes longer than READY_S_MAX.
        """
        deadline = time.monotonic() + READY_S_MAX
        self._spawn(SCHEDULER, "scheduler", self._plan.scheduler)
        # A worker that finds no scheduler tries again a second later, so start workers when it is ready.
        self._wait(self._scheduler_ready, deadline)
        for name, flags in self._plan.workers.items():
            self._spawn(name, "worker", [f"--scheduler={self.client.url}", *flags])
        self._wait(self._workers_active, deadline)

    def watch(self) -> None:
        """Never returns. Raises ClusterError when a process ends."""
        while True:
            self.check()
            time.sleep(1.0)

    def check(self) -> None:
        """Raises ClusterError when a process has ended."""
        for name, process in self._processes.items():
            code = process.poll()
            if code is not None:
                raise ClusterError(f"{name} ended with exit code {code}")

    def stop(self) -> list[str]:
        """Stop the processes, workers first. Returns the names of those that did not end cleanly. Idempotent."""
        unclean = []
        for names in (list(self._plan.workers), [SCHEDULER]):
            started = {name: self._processes[name] for name in names if name in self._processes}
            for process in started.values():
                process.terminate()
            deadline = time.monotonic() + self._plan.stop_s_max
            for name, process in started.items():
                try:
                    code = process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.kill()
                    code = process.wait()
                del self._processes[name]
                if code != 0:
                    unclean.append(f"{name} (exit code {code})")
        return unclean

    def hurry(self) -> None:
        """Send SIGTERM to the workers again, which makes them stop their jobs. For signal handlers, while it stops."""
        for name in self._plan.workers:
            if name in self._processes:
                self._processes[name].terminate()

    def tail(self) -> str:
        """The last lines of each process's log file."""
        parts = []
        for name in (SCHEDULER, *self._plan.workers):
            log = self._plan.folder / f"{name}.log"
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
            parts += [f"--- {name} logged last:", *lines[-TAIL_LINES:]]
        return "\n".join(parts)

    def _spawn(self, name: str, program: str, flags: Sequence[str]) -> None:
        with ExitStack() as opened:
            place = self._plan.folder / f"{name}.log"
            log = opened.enter_context(place.open("ab")) if self._plan.log_files else sys.stderr
            # A signal between the start and the assignment would leave a process that nothing stops.
            opened.enter_context(signals_deferred())
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", f"zsched.commands.{program}", *flags],
                cwd=self._plan.folder,
                env=dict(self._plan.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C goes to the command alone, which stops its processes in order.
                process_group=0,
                # Runs between fork and exec, which is safe in a single-threaded command.
                preexec_fn=partial(prctl.die_with, os.getpid(), DEATH_SIGNALS[program]),  # noqa: PLW1509
            )

    def _wait(self, condition: Callable[[], bool], deadline: float) -> None:
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise ClusterError(f"not ready within {READY_S_MAX:.0f} s")
            time.sleep(LOOK_S)

    def _scheduler_ready(self) -> bool:
        if self._plan.socket.exists() and self.client.url == self._plan.url:
            self.client.close()
            self.client = Client(f"unix:{self._plan.socket}", self._plan.token)
        try:
            self.client.ask("GET", "/readyz")
        except ClientError:
            return False
        return True

    def _workers_active(self) -> bool:
        try:
            workers = self.client.workers()
        except ClientError:
            return False
        active = {worker["worker_id"] for worker in workers if worker["status"] == "active"}
        return active >= set(self._plan.workers)


def private(folder: Path, workers: int, slots: int) -> Plan:
    """A cluster on free ports with all files in one existing empty folder."""
    port, zmq_port = free_ports(2)
    url = f"http://127.0.0.1:{port}"
    db = folder / "scheduler.db"
    # Settings of this user are for other schedulers and workers.
    environ = {key: value for key, value in os.environ.items() if not key.startswith("ZSCHED_")}
    return Plan(
        url=url,
        socket=socket_in(db.with_name(f"{db.name}.d")),
        scheduler=[
            *defaults("scheduler"),
            *(f"--db={db}", "--host=127.0.0.1", f"--port={port}"),
            *("--zmq-host=127.0.0.1", f"--zmq-port={zmq_port}"),
        ],
        workers={
            name: [
                *defaults("worker"),
                *(f"--id={name}", f"--state-dir={folder / name}"),
                *(f"--slots={slots}", "--shutdown-grace=5s"),
            ]
            for name in names(workers)
        },
        folder=folder,
        environ={**environ, "XDG_CONFIG_HOME": str(folder)},
        log_files=True,
        stop_s_max=15.0,
        token="",
    )


def defaults(section: str) -> list[str]:
    """Flags that set each setting to its default, so that settings of this host don't apply; later flags win. Without
    --scheduler, which the cluster sets.
    """
    return [f"--{key.flag}={key.default}" for key in keys_of(section) if key.name != "scheduler"]


def socket_in(folder: Path) -> Path:
    """The Unix socket of a scheduler, by the folder of its keys."""
    return folder / "api.sock"


def names(workers: int) -> list[str]:
    """The names of the workers."""
    return [f"worker-{number}" for number in range(1, workers + 1)]


def free_ports(count: int) -> list[int]:
    """Ports of this host that are free now, all different."""
    with ExitStack() as held:
        ends = [held.enter_context(socket.socket()) for _ in range(count)]
        for end in ends:
            end.bind(("127.0.0.1", 0))
        return [int(end.getsockname()[1]) for end in ends]


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Defer signals that end the command until the end of the block."""
    deferred: list[int] = []
    before: dict[int, Callable[[int, FrameType | None], Any]] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            handler = signal.getsignal(number)
            # Signals that are ignored or have the default action keep it: a process started meanwhile inherits that.
            if callable(handler) and not isinstance(handler, signal.Handlers):
                before[number] = handler
                signal.signal(number, lambda number, _: deferred.append(number))
        yield
    finally:
        for replaced, handler in before.items():
            signal.signal(replaced, handler)
        for came in deferred:
            signal.raise_signal(came)


def stop_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does, so that its processes are stopped."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
