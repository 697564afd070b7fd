"""zsched-worker: run a scheduler's jobs on this host.

Usage:
  zsched-worker [options]

The worker asks the scheduler for its ZeroMQ port, connects there and runs the jobs that it gets, --slots at a time.
SIGTERM or SIGINT lets running jobs finish for --shutdown-grace; a second one stops them. While the scheduler is away,
running jobs go on, and their results wait in --state-dir.

Options:
  --id=NAME                      The worker's name, unique among the workers of a scheduler (required, unless --access
                                 names it).
  --scheduler=URL                Where the scheduler answers REST: http://…, https://… or unix:/PATH of its socket
                                 (its socket on this host, else http://localhost:8080).
  --access=FILE                  Access file that `zsched access new` wrote for this worker; needed on another host.
  --token-file=FILE              A file (0600) with a token of scope worker, by which it may enrol from elsewhere.
  --slots=COUNT                  Runs at the same time; 0 takes the CPUs that the worker may use (0).
  --poll-interval=DURATION       How often an idle worker reports that it is ready (5s).
  --heartbeat-interval=DURATION  Heartbeat interval; at most a third of --worker-timeout (10s).
  --shutdown-grace=DURATION      How long SIGTERM lets running jobs finish before it stops them (30s).
  --state-dir=DIR                Results wait here until stored ($XDG_STATE_HOME/zsched/HOST_PORT/ID, by the scheduler's
                                 address).
  --users=NAMES                  Users that jobs may run as, such as alice,bob; needs root (its own user alone).
  --umask=UMASK                  Which rights files that a job makes don't have (077).
  --no-new-privs=WORD            yes: no job gets more rights by sudo or another setuid program (yes).
  --job-nofile=COUNT             Open files that each process of a job may have.
  --job-nproc=COUNT              Processes that a job's user may have on this host.
  --job-core=SIZE                Bytes of a core file that a job's process may leave.
  --log-level=LEVEL              DEBUG, INFO, WARN or ERROR (INFO).
  --config=FILE                  An INI file with the same settings, in its section [worker].
  -h, --help                     Show this.
  --version                      Show the version.

One dash does as well as two: -id worker-1. Durations: 500ms, 3s, 1m30s, 2h, 1d.
Every option is also a line in an INI file (poll_interval = 3s) and a variable (ZSCHED_WORKER_POLL_INTERVAL=3s).
A flag wins over a variable, a variable over --config, that over $XDG_CONFIG_HOME/zsched/*.ini and /etc/zsched/*.ini.

Exit codes: 0 ended cleanly; 2 wrong usage or setting; 70 a job stopped its agents again and again; 73 --state-dir
can't be used; 75 another worker uses it; 77 the scheduler refuses this worker for good.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Final

from zsched.commands import options
from zsched.config.config import WorkerConfig, worker_config
from zsched.host import logs
from zsched.worker.guard import guard

# By name: this module may run as __main__.
log: Final = logging.getLogger("zsched.commands.worker")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    loaded = options.load(__doc__, sys.argv[1:] if argv is None else argv, "worker", worker_config)
    logs.start(loaded.config.log_level)
    for source in loaded.sources():
        log.info("%s", source)
    return run(loaded.config)


def run(config: WorkerConfig) -> int:
    """Become the guard and run until it has to end; returns the exit code."""
    return guard.run(config)


if __name__ == "__main__":
    sys.exit(main())
