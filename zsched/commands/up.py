"""zsched up: start a scheduler and workers on this host, until Ctrl-C.

Usage:
  zsched up [options]

The scheduler keeps its jobs in scheduler.db in the working folder, as `zsched-scheduler` does. Settings from the
environment and INI files apply, except a worker's id, access, token_file and state_dir. When everything is ready, the
URL is printed on stdout. The processes log to stderr.

Options:
  --workers=COUNT  Number of workers, called worker-1, worker-2 … (1).
  --slots=COUNT    Runs at the same time on each worker (the setting slots; of several workers, a share of the CPUs).
  --db=DATABASE    The SQLite database (scheduler.db), or the URL of a PostgreSQL one.
  --data-dir=DIR   With PostgreSQL: the folder of the scheduler's keys, lock and socket.
  --port=PORT      Port that REST listens on; 0 takes any free one (8080).
  --zmq-port=PORT  Port that workers connect to by ZeroMQ; 0 takes any free one (5555).
  --json           Print the URL and the names of the workers as a JSON document.
  -h, --help       Show this.

Ctrl-C or SIGTERM stops everything, but first gives running jobs the workers' shutdown grace (30s) to finish. A second
one stops the jobs at once; they start again with the next scheduler on this database. If this command is killed, its
processes and jobs end at once.

Exit codes: 0 stopped by Ctrl-C or SIGTERM; 1 a process could not start, or ended; 2 wrong usage or setting.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Final

from zsched.client.cluster import Cluster, ClusterError, Plan, free_ports, names, socket_in, stop_on_signals
from zsched.commands import exits, options, table
from zsched.config.config import ConfigError, scheduler_config, worker_config
from zsched.host.cpus import usable_cpus
from zsched.model.limits import LOG_FLUSH_S, UP_STOP_S_MAX

# Options that are passed to the scheduler.
PASSED: Final = ("db", "data-dir", "port", "zmq-port")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    plan = make_plan(arguments)
    stop_on_signals()
    with Cluster(plan) as cluster:
        code = 0
        try:
            cluster.start()
            report_ready(plan, bool(arguments["--json"]))
            cluster.watch()
        except ClusterError as error:
            say_in_time(f"{error}; what it logged is above")
            code = exits.FAILED
        except KeyboardInterrupt:
            say_in_time("stopping; running jobs may finish, Ctrl-C again stops them")
        hurry_on_signals(cluster)
        for name in cluster.stop():
            say_in_time(f"{name} did not end cleanly")
            code = exits.FAILED
    return code


def make_plan(arguments: Mapping[str, options.Value]) -> Plan:
    """The programs to start. Wrong usage or settings end the program. Raises Failure when the port is in use."""
    flags = {name: value for name in PASSED if (value := options.text(arguments, f"--{name}")) is not None}
    for name, port in zip(("port", "zmq-port"), map(str, free_ports(2)), strict=True):
        if flags.get(name) == "0":
            flags[name] = port
    try:
        config = scheduler_config(flags, None, os.environ).config
    except ConfigError as error:
        options.fail(__doc__, str(error))
    if config.port == 0:
        options.fail(__doc__, "the port is set to 0: give --port, so that workers find it")
    # The default URL of workers and commands, so that a worker has the same state folder.
    host = "localhost" if config.host in ("0.0.0.0", "::", "127.0.0.1", "localhost") else config.host  # noqa: S104
    url = f"http://{f'[{host}]' if ':' in host else host}:{config.port}"
    if answers(host, config.port):
        raise exits.Failure(f"something answers at {url} already: use that one, or give another --port")
    count = options.number(__doc__, arguments, "--workers") or 1
    slots = options.number(__doc__, arguments, "--slots") or (share(count) if count > 1 else None)
    return Plan(
        url=url,
        socket=socket_in(config.folder),
        scheduler=[f"--{name}={value}" for name, value in flags.items()],
        workers={
            name: [
                *(f"--{flag}={value}" for flag, value in identity(name).items()),
                state_flag(name, url),
                *([f"--slots={slots}"] if slots else []),
            ]
            for name in names(count)
        },
        folder=Path.cwd(),
        environ=os.environ,
        log_files=False,
        stop_s_max=UP_STOP_S_MAX,
    )


def identity(worker: str) -> dict[str, str]:
    """The flags that identify a worker. They override the settings of a worker that is installed on this host."""
    return {"id": worker, "access": "", "token-file": "", "state-dir": ""}


def state_flag(worker: str, url: str) -> str:
    """The state folder that a worker has when it is started with this URL. Wrong settings end the program."""
    try:
        config = worker_config({**identity(worker), "scheduler": url}, None, os.environ).config
    except ConfigError as error:
        options.fail(__doc__, str(error))
    return f"--state-dir={config.state_dir}"


def share(workers: int) -> int:
    """The slots of each worker if several share the CPUs."""
    return max(1, usable_cpus() // workers)


def answers(host: str, port: int) -> bool:
    """Whether a program listens at this address."""
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def report_ready(plan: Plan, as_json: bool) -> None:
    """Print the URL, and that all programs are ready."""
    if as_json:
        table.document({"url": plan.url, "workers": list(plan.workers)})
    else:
        print(plan.url, flush=True)
        exits.say(f"ready: a scheduler and {', '.join(plan.workers)}; Ctrl-C stops them")


def say_in_time(sentence: str) -> None:
    """Print a line to stderr, and wait at most LOG_FLUSH_S for its reader: processes must be stopped."""
    saying = Thread(target=write, args=(f"zsched: {sentence}\n".encode(),), daemon=True)
    saying.start()
    saying.join(LOG_FLUSH_S)


def write(line: bytes) -> None:
    """Write to descriptor 2. The interpreter would wait for sys.stderr at its end."""
    with suppress(OSError):
        os.write(2, line)


def hurry_on_signals(cluster: Cluster) -> None:
    """From now on Ctrl-C makes the workers stop their jobs, and no longer ends this command."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: cluster.hurry())
