"""A scheduler and workers on this host, as child processes that live as long as the command that started them.

Used by `zsched demo` and `zsched up`. They are stopped by SIGTERM to exactly the pids that were started, workers first,
so that their last results still arrive. When the command is killed, the kernel ends them, in no order.
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

# Between two looks at what is not ready yet.
LOOK_S: Final = 0.05

# What a failure shows of each log.
TAIL_LINES: Final = 20

SCHEDULER: Final = "scheduler"

# What each program gets when the command is killed. A guard that got SIGTERM would let its jobs run on for a while, for
# a scheduler that ends too. Killed, it ends at once, and its agent ends the jobs.
DEATH_SIGNALS: Final = {"scheduler": signal.SIGTERM, "worker": signal.SIGKILL}


class ClusterError(Exception):
    """The cluster can't be used. The text is one line for a person."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be started: the flags of each program, and the rest that its process gets."""

    # What people are shown; called only where the scheduler has no socket.
    url: str
    # The scheduler's Unix socket. A file system may have none.
    socket: Path
    scheduler: Sequence[str]
    # By the workers' names; without the flag of where the scheduler is.
    workers: Mapping[str, Sequence[str]]
    folder: Path
    environ: Mapping[str, str]
    # Whether each process logs to a file in `folder`; else all log where the command does.
    log_files: bool
    # From SIGTERM until SIGKILL.
    stop_s_max: float
    # By which the scheduler is called: empty for none, None for that of whoever runs this.
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
        # A worker that finds no scheduler tries again a second later, so they come when there is one.
        self._wait(self._scheduler_ready, deadline)
        for name, flags in self._plan.workers.items():
            self._spawn(name, "worker", [f"--scheduler={self.client.url}", *flags])
        self._wait(self._workers_active, deadline)

    def watch(self) -> None:
        """Return never; raises ClusterError when a process ends."""
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
        """Stop what runs, workers first; returns the names of those that did not end cleanly. Twice does no harm."""
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
        """While it stops: tell the workers again, which makes them stop their jobs. For signal handlers."""
        for name in self._plan.workers:
            if name in self._processes:
                self._processes[name].terminate()

    def tail(self) -> str:
        """The last lines that each process logged to its file, for a person who looks for the cause."""
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
            # A process that runs and is not noted would never be stopped.
            opened.enter_context(signals_put_off())
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-P", "-m", f"zsched.commands.{program}", *flags],
                cwd=self._plan.folder,
                env=dict(self._plan.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C at the terminal is for the command alone, which then stops its processes in order.
                process_group=0,
                # Runs between fork and exec, which is safe in a command of one thread.
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
    """A cluster on free ports, all of whose files are in one folder, which is empty and exists."""
    port, zmq_port = free_ports(2)
    url = f"http://127.0.0.1:{port}"
    db = folder / "scheduler.db"
    # A person's own settings are for a person's own cluster.
    environ = {key: value for key, value in os.environ.items() if not key.startswith("ZSCHED_")}
    return Plan(
        url=url,
        socket=socket_of(db),
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
    """Flags that put the default in place of each setting of this host; flags behind them count more. Without the flag
    of where the scheduler is, which the cluster sets.
    """
    return [f"--{key.flag}={key.default}" for key in keys_of(section) if key.name != "scheduler"]


def socket_of(db: Path) -> Path:
    """Where the scheduler of a database listens for programs on this host."""
    return db.with_name(f"{db.name}.d") / "api.sock"


def names(workers: int) -> list[str]:
    """What the workers are called."""
    return [f"worker-{number}" for number in range(1, workers + 1)]


def free_ports(count: int) -> list[int]:
    """Ports of this host that are free now. Held all at once while they are chosen, so that they differ."""
    with ExitStack() as held:
        ends = [held.enter_context(socket.socket()) for _ in range(count)]
        for end in ends:
            end.bind(("127.0.0.1", 0))
        return [int(end.getsockname()[1]) for end in ends]


@contextmanager
def signals_put_off() -> Iterator[None]:
    """Have the signals that end the command do so after the block, when they come within it."""
    came: list[int] = []
    before: dict[int, Callable[[int, FrameType | None], Any]] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            handler = signal.getsignal(number)
            # What is ignored or ends the process at once stays so, also for a process that is started meanwhile.
            if callable(handler) and not isinstance(handler, signal.Handlers):
                before[number] = handler
                signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for replaced, handler in before.items():
            signal.signal(replaced, handler)
        for late in came:
            signal.raise_signal(late)


def stop_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the command as Ctrl-C does, so that its processes are stopped."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
