"""zsched-scheduler: keep jobs in a database and hand their runs to workers.

Usage:
  zsched-scheduler [options]

The scheduler answers REST on --port and on the Unix socket api.sock in its data folder, and workers on
--zmq-port. It keeps everything in the database --db: an SQLite file, or a database on PostgreSQL, which several
schedulers may share (one is active, and the others stand by). It can be killed at any moment: what it has acknowledged
is on the disk. SIGINT or SIGTERM stops it cleanly. In either case running jobs continue, and a restart picks them up.

Options:
  --db=DATABASE              The file of the SQLite database, or a URL: postgresql://USER@HOST/DATABASE (scheduler.db).
                             Keep passwords out of it: see PGPASSFILE and PGSERVICE.
  --data-dir=DIR             With PostgreSQL, this scheduler's own folder for keys, lock and socket. With SQLite it is
                             the file's name with .d.
  --host=HOST                Address that REST listens on (0.0.0.0).
  --port=PORT                Port that REST listens on; 0 takes any free one (8080).
  --zmq-host=HOST            Address of the worker port (ZeroMQ), 0.0.0.0 for all. Empty: loopback, and all addresses
                             once a worker on another host has a key.
  --zmq-port=PORT            Port that workers connect to by ZeroMQ; 0 takes any free one (5555).
  --zmq-advertise=HOST       Host name that workers connect to. Empty: the one that they called by REST.
  --advertise=URL            URL of this scheduler for callers, which the others on a PostgreSQL database name them.
                             Empty: http://HOST:PORT, by the name of this machine.
  --worker-security=WORD     curve: workers need a key. none: they need none, on loopback only (curve).
  --local-trust=WORD         Programs on this host that need no token: uid (own user, root, --local-uids), socket (own
                             user and root, by the Unix socket only), any, none (uid; in a container that does not
                             map all users: socket).
  --local-uids=UIDS          User ids of other users on this host that need no token: 1000,1001.
  --admin-token-file=FILE    File (mode 0600) with an admin token; stored at each start.
  --trusted-proxies=NETS     Proxies that are trusted to name the caller in events and logs: 127.0.0.1.
  --insecure=WORD            yes: every caller may do everything without a token (no).
  --worker-timeout=DURATION  A worker silent for longer is lost, and its runs start again elsewhere; at least 1s (30s).
  --pending-max=COUNT        Runs that may be pending; a submit beyond it gets 429 (2000000).
  --keep-success=DURATION    How long jobs that succeeded are kept, or never to remove none (7d; in a database of an
                             earlier release never).
  --keep-others=DURATION     The same for jobs that failed or were cancelled (30d; in such a database never).
  --threads=COUNT            Requests answered at the same time (16).
  --log-level=LEVEL          DEBUG, INFO, WARN or ERROR (INFO).
  --config=FILE              An INI file with the same settings, in its section [scheduler].
  -h, --help                 Show this.
  --version                  Show the version.

Options take one dash or two: -port 8080. Durations: 500ms, 3s, 1m30s, 2h, 1d.
Every option is also a line in an INI file (worker_timeout = 3s) and a variable (ZSCHED_SCHEDULER_WORKER_TIMEOUT=3s).
The first of these wins: option, variable, --config, $XDG_CONFIG_HOME/zsched/*.ini, /etc/zsched/*.ini.

Exit codes: 0 ended cleanly; 2 wrong usage or setting; 70 a sync to disk failed, or an error in zsched itself; 71 a port
can't be used; 74 the database is damaged, is a backup, or was deleted, replaced or overwritten, or its disk is full; 75
another scheduler has the database; 78 the database is of a newer release or of another program, or was moved by
`zsched db copy`, or it or a key is another user's, or others can read it, or psycopg is missing.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Final

from zsched.api.http.listeners import ListenError
from zsched.api.http.server import ServerError
from zsched.commands import options
from zsched.config.config import scheduler_config
from zsched.host import logs
from zsched.host.files import PrivateFileError
from zsched.serve import process as serve
from zsched.store.contract import (
    StoreError,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreLoose,
    StoreMoved,
    StoreNewer,
    StoreUnsupported,
    StoreUnsure,
)

# By name: this module may run as __main__.
log = logging.getLogger("zsched.commands.scheduler")

# Exit codes of sysexits.h, for a supervisor. The first class that fits an error counts.
EXIT_CODES: Final[dict[type[Exception], int]] = {
    ListenError: os.EX_OSERR,
    ServerError: os.EX_SOFTWARE,
    PrivateFileError: os.EX_CONFIG,
    StoreUnsure: os.EX_SOFTWARE,
    StoreLocked: os.EX_TEMPFAIL,
    StoreMoved: os.EX_CONFIG,
    StoreNewer: os.EX_CONFIG,
    StoreForeign: os.EX_CONFIG,
    StoreLoose: os.EX_CONFIG,
    StoreUnsupported: os.EX_CONFIG,
    StoreError: os.EX_IOERR,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    loaded = options.load(__doc__, sys.argv[1:] if argv is None else argv, "scheduler", scheduler_config)
    logs.start(loaded.config.log_level)
    for source in loaded.sources():
        log.info("%s", source)
    try:
        serve.run(loaded.config)
    except tuple(EXIT_CODES) as error:
        remedy = ""
        if isinstance(error, StoreFull):
            remedy = f": make room on the file system of {loaded.config.db}, then start the scheduler again"
        log.critical("%s%s", error, remedy, exc_info=error if isinstance(error, ServerError) else None)
        return next(code for kind, code in EXIT_CODES.items() if isinstance(error, kind))
    return 0


if __name__ == "__main__":
    sys.exit(main())
