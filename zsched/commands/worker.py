"""zsched-worker: run a scheduler's jobs on this host.

Usage:
  zsched-worker [options]

The worker asks the scheduler for its ZeroMQ port, connects there and runs the jobs that it gets, --slots at a time.
After SIGTERM or SIGINT, running jobs have --shutdown-grace to finish; a second signal stops them. While the scheduler
is away, running jobs continue, and their results wait in --state-dir.

Options:
  --id=NAME                      The worker's name, unique among the workers of a scheduler (required, unless --access
                                 names it).
  --scheduler=URLS               Where the scheduler answers REST: http://…, https://… or unix:/PATH of its socket
                                 (its socket on this host, else http://localhost:8080). With schedulers that stand by,
                                 all of them, separated by commas.
  --access=FILE                  Access file that `zsched access new` wrote for this worker; needed on another host.
  --token-file=FILE              File (mode 0600) with a token of scope worker, to enrol from another host.
  --slots=COUNT                  Runs at the same time; 0 takes the CPUs that the worker may use (0).
  --queues=QUEUES                Queues whose jobs the worker runs, such as default,nightly; * for all (default).
  --labels=LABELS                What jobs can ask of their worker, such as gpu=a100,disk=ssd, besides the labels worker
                                 and host.
  --poll-interval=DURATION       How often an idle worker reports that it is ready (5s).
  --heartbeat-interval=DURATION  Heartbeat interval; at most a third of --worker-timeout (10s).
  --shutdown-grace=DURATION      Time that running jobs have to finish after SIGTERM (30s).
  --state-dir=DIR                Results wait here until the scheduler has stored them
                                 ($XDG_STATE_HOME/zsched/HOST_PORT/ID, named by the scheduler's address; of several
                                 the first in the alphabet that exists, else the first).
  --users=NAMES                  Users that jobs may run as, such as alice,bob; needs root (only the worker's own user).
  --umask=UMASK                  The umask of jobs (077).
  --no-new-privs=WORD            yes: jobs can't gain rights by sudo or other setuid programs (yes).
  --job-nofile=COUNT             Limit of open files for each process of a job.
  --job-nproc=COUNT              Limit of processes of a job's user on this host.
  --job-core=SIZE                Size limit of a job's core files, such as 64MiB.
  --log-level=LEVEL              DEBUG, INFO, WARN or ERROR (INFO).
  --config=FILE                  An INI file with the same settings, in its section [worker].
  -h, --help                     Show this.
  --version                      Show the version.

Options take one dash or two: -id worker-1. Durations: 500ms, 3s, 1m30s, 2h, 1d.
Every option is also a line in an INI file (poll_interval = 3s) and a variable (ZSCHED_WORKER_POLL_INTERVAL=3s).
The first of these wins: option, variable, --config, $XDG_CONFIG_HOME/zsched/*.ini, /etc/zsched/*.ini.

Exit codes: 0 ended cleanly; 2 wrong usage or setting; 70 a job keeps stopping its agents; 73 --state-dir
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
