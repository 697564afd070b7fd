"""zsched key: replace the scheduler's keys.

Usage:
  zsched key rotate secret [--db=DATABASE --data-dir=DIR]
  zsched key rotate curve [--db=DATABASE --data-dir=DIR] [--dir=DIR --endpoint=ENDPOINT] [<worker>...]

Run it as the scheduler's user, while the scheduler is stopped. `rotate secret` replaces secret.key and encrypts all
secrets of jobs again. If several schedulers share the database, stop all of them, and copy the new secret.key into the
data folder of each before it starts. `rotate curve` replaces curve.key. Each worker with an access file then needs a
new key and a new access file, which the command writes; with <worker>, only for the workers that are named. Workers of
the scheduler's own user on its host, and workers with a token, learn the new key by themselves.

To continue an interrupted rotation, run the same command again. Until it has finished, the old key is valid.

Options:
  --db=DATABASE        The database: its file, or its URL (scheduler.db, or what the settings of the scheduler say).
  --data-dir=DIR       With PostgreSQL: the scheduler's folder, which has its keys (what its settings say).
  --dir=DIR            Folder for the access files, NAME.access; created if it is missing (the working folder).
  --endpoint=ENDPOINT  Address at which workers reach the scheduler's worker port: tcp://HOST:PORT (the scheduler's
                       setting zmq_advertise, or this machine's name).
  -h, --help           Show this.

Exit codes: 0 done; 1 there is no such key; 2 wrong usage; 3 a worker has no key; 74 the database can't be used; 75 a
scheduler has the database; 78 it or a key is another user's, others can read it, or a newer release wrote it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zsched.commands import exits, options
from zsched.commands.database import failures, settings
from zsched.model.names import WORKER_NAME
from zsched.model.units import counted

if TYPE_CHECKING:
    from zsched.config.config import SchedulerConfig
    from zsched.model.types import WorkerId
    from zsched.store.database import Tenure
    from zsched.store.writer import Writer


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    for worker in options.words(arguments, "<worker>"):
        if not WORKER_NAME.fullmatch(worker):
            options.fail(__doc__, f"invalid worker name {worker!r}: use letters, digits, . _ @ : and -")
    config = settings(__doc__, options.text(arguments, "--db"), options.text(arguments, "--data-dir"))
    return rotate_secret(config) if arguments["secret"] else rotate_curve(arguments, config)


def rotate_secret(config: SchedulerConfig) -> int:
    """`rotate secret`."""
    from zsched.maintenance import rotation
    from zsched.maintenance.keycheck import demand_key
    from zsched.security.vault import Vault

    with lock_database(config) as (folder, tenure):
        demand_key(tenure.store.reads, Vault(folder / rotation.SECRET))
        tenure.engine.overwrite_deleted()
        done = rotation.rotate_secret(folder, tenure.engine)
    resealed = counted(done.jobs - done.unopened, "job")
    print(f"{folder / rotation.SECRET} replaced, the secrets of {resealed} encrypted again")
    if done.unopened:
        exits.say(f"no key opened the secrets of {counted(done.unopened, 'job')}: they stay as they were")
    exits.say("older backups of the database need the old key")
    if not isinstance(config.db, Path):
        exits.say(f"other schedulers of {config.db} need the new key: copy it into the data folder of each")
    return 0


def rotate_curve(arguments: Mapping[str, options.Value], config: SchedulerConfig) -> int:
    """`rotate curve`. Print the paths of the new access files, one per line."""
    from zsched.maintenance import rotation
    from zsched.model.types import WorkerId

    now_ms = time.time_ns() // 1_000_000
    with lock_database(config) as (folder, tenure):
        workers = tuple(map(WorkerId, options.words(arguments, "<worker>"))) or workers_with_access_files(tenure.store)
        endpoint = place(options.text(arguments, "--endpoint"), config) if workers else ""
        issue = rotation.Issue(workers, Path(options.text(arguments, "--dir") or "."), endpoint)
        paths = rotation.rotate_curve(folder, tenure.store, issue, f"user {os.geteuid()} by --db", now_ms)
    for path in paths:
        print(path)
    if paths:
        exits.say("the scheduler's key is new: bring each of these files to its worker, in place of the old one")
    return 0


def workers_with_access_files(store: Writer) -> tuple[WorkerId, ...]:
    """The names of the workers that have a valid key from an access file."""
    from zsched.model.access import KeyOrigin

    live = [key for key in store.reads.worker_keys() if key.revoked_ms is None]
    return tuple(key.worker_id for key in live if key.origin is KeyOrigin.FILE)


def place(given: str | None, config: SchedulerConfig) -> str:
    """The endpoint for the access files. Wrong usage ends the program; raises Failure when it is unknown."""
    from zsched.commands.access import for_other_hosts, read_endpoint

    if given is not None:
        return read_endpoint(given)
    if config.zmq_port == 0:
        options.fail(__doc__, "zmq_port is 0, so the port is unknown: give --endpoint")
    host = config.zmq_advertise or "localhost"
    address = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return for_other_hosts(f"tcp://{address}:{config.zmq_port}", socket.gethostname())


@contextmanager
def lock_database(config: SchedulerConfig) -> Iterator[tuple[Path, Tenure]]:
    """Get the right to write while no scheduler runs, and migrate the schema. Yields the folder of keys, too.

    Raises Failure.
    """
    from zsched.maintenance import move, rotation
    from zsched.store.choice import database

    exits.demand_database(config.db)
    try:
        with (
            failures(config.db),
            database(config.db, config.folder).hold() as hold,
            move.leading(hold, str(config.db), time.time_ns() // 1_000_000) as tenure,
        ):
            yield hold.folder, tenure
    except rotation.NoKeyError as error:
        raise exits.Failure(str(error)) from None
    except rotation.UnknownWorkerError as error:
        raise exits.Failure(str(error), exits.NOT_FOUND) from None
