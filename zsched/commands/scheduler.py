"""zsched-scheduler: keep jobs in a database and hand their runs to workers.

Usage:
  zsched-scheduler [options]

The scheduler answers REST on --port, workers on --zmq-port, and keeps everything in the SQLite database --db. It can be
killed at any moment: what it has acknowledged is on the disk, and after a restart running jobs go on. SIGINT or SIGTERM
end it cleanly; jobs go on then too.

Options:
  --db=FILE                  The SQLite database (scheduler.db).
  --data-dir=DIR             Keys and the lock live here (the database's name with .d added).
  --host=HOST                Address that REST listens on (0.0.0.0).
  --port=PORT                Port that REST listens on; 0 takes any free one (8080).
  --zmq-host=HOST            Address that workers connect to by ZeroMQ (127.0.0.1).
  --zmq-port=PORT            Port that workers connect to by ZeroMQ; 0 takes any free one (5555).
  --worker-timeout=DURATION  A worker silent for longer is lost, and its runs start anew elsewhere; at least 1s (30s).
  --threads=COUNT            Requests answered at the same time (16).
  --log-level=LEVEL          DEBUG, INFO, WARN or ERROR (INFO).
  --config=FILE              An INI file with the same settings, in its section [scheduler].
  -h, --help                 Show this.
  --version                  Show the version.

One dash does as well as two: -port 8080. Durations: 500ms, 3s, 1m30s, 2h, 1d.
Every option is also a line in an INI file (worker_timeout = 3s) and a variable (ZSCHED_SCHEDULER_WORKER_TIMEOUT=3s).
A flag wins over a variable, a variable over --config, that over $XDG_CONFIG_HOME/zsched/*.ini and /etc/zsched/*.ini.

Exit codes: 0 ended cleanly; 2 wrong usage or setting; 70 the disk failed; 74 the database is damaged; 75 another
scheduler has the database; 78 the database is of a newer release.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zsched import logs
from zsched.commands import options
from zsched.config import SchedulerConfig, scheduler_config


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    config = options.load(__doc__, sys.argv[1:] if argv is None else argv, "scheduler", scheduler_config)
    logs.start(config.log_level)
    return run(config)


def run(config: SchedulerConfig) -> int:
    """Put the scheduler together and run it until it is told to end; returns the exit code."""
    raise NotImplementedError


if __name__ == "__main__":
    sys.exit(main())
