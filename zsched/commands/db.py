"""zsched db: check, back up and restore a scheduler's database.

Usage:
  zsched db check [options]
  zsched db backup [options] [--no-keys] <file>
  zsched db restore [options] <backup>

`check` replays the events and compares the result with the tables: runs, counters, workers. It only reads, and may run
while the scheduler works. `backup` and `restore` are for SQLite; PostgreSQL has its own tools.

`backup` writes the database and the keys in the folder next to it (secret.key, curve.key) into one file of mode 0600.
It may run while the scheduler works: everything that was acknowledged before the command began is in the backup.

`restore` replaces the database and its keys with a backup, while no scheduler runs. The old files are kept under names
that end with .replaced-TIME. The restored database gets a new identity, and its job and run ids continue 1,000,000
higher. Runs that were running or pending in the backup may have run since then. They end as lost, and start again
unless their job's on_lost is fail. A plain copy of a database can be restored too.

Options:
  --db=DATABASE  The database: its file, or its URL (scheduler.db, or what the settings of the scheduler say).
  --json         With `check`: print the result as JSON.
  --no-keys      Leave out the keys. Keep copies of them elsewhere: without secret.key, secrets of jobs can't be
                 decrypted.
  -h, --help     Show this.

Exit codes: 0 done, or the database is consistent; 1 it is not; 2 wrong usage; 73 a file can't be written; 74 a file
can't be read, is damaged or of the wrong kind; 75 a scheduler has the database; 78 a file belongs to another user, to
another program or to a newer release.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from zsched.commands import exits, options, table
from zsched.config.config import ConfigError, SchedulerConfig, scheduler_config
from zsched.host import files
from zsched.maintenance import backup
from zsched.model.address import PostgresUrl
from zsched.model.units import counted
from zsched.security import owners
from zsched.store.choice import database
from zsched.store.contract import (
    StoreCorrupt,
    StoreError,
    StoreForeign,
    StoreFull,
    StoreLocked,
    StoreLoose,
    StoreNewer,
    StoreUnsupported,
)
from zsched.store.sqlite.lock import Lock


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    db = options.text(arguments, "--db")
    try:
        config = scheduler_config({} if db is None else {"db": db}, None, os.environ).config
    except ConfigError as error:
        options.fail(__doc__, str(error))
    with _failures(config.db):
        if arguments["check"]:
            return check_database(config, arguments)
        path = exits.demand_file(config.db, "back it up and restore it with the tools of PostgreSQL")
        if arguments["backup"]:
            return back_up(path, Path(options.text(arguments, "<file>") or ""), keys=not arguments["--no-keys"])
        return restore(path, Path(options.text(arguments, "<backup>") or ""), config.worker_timeout_ms)


@contextmanager
def _failures(db: Path | PostgresUrl) -> Iterator[None]:
    """Turn errors of the database and its files into messages and exit codes."""
    try:
        yield
    except backup.TakenError as error:
        raise exits.Failure(str(error), os.EX_CANTCREAT) from None
    except StoreLocked as error:
        raise exits.Failure(f"{error}: stop it first", os.EX_TEMPFAIL) from None
    except (files.PrivateFileError, StoreLoose, StoreForeign, StoreNewer, StoreUnsupported) as error:
        raise exits.Failure(str(error), os.EX_CONFIG) from None
    except StoreError as error:
        raise exits.Failure(f"{db}: {error}", os.EX_IOERR) from None


def check_database(config: SchedulerConfig, arguments: Mapping[str, options.Value]) -> int:
    """`check`."""
    exits.demand_database(config.db)
    findings = database(config.db, config.folder).check()
    if arguments["--json"]:
        counts = {"runs": findings.runs, "events": findings.events}
        table.document({"findings": findings.count, "sentences": findings.sentences, **counts})
    else:
        for sentence in findings.sentences:
            print(sentence)
        if findings.count > len(findings.sentences):
            print(f"and {findings.count - len(findings.sentences)} more")
        scope = f"{counted(findings.runs, 'run')} and {counted(findings.events, 'event')} of {config.db}"
        verdict = counted(findings.count, "contradiction") if findings.count else "all agrees"
        exits.say(f"{scope}: {verdict}")
    return exits.FAILED if findings.count else 0


def back_up(db: Path, target: Path, *, keys: bool) -> int:
    """`backup`. Print the backup's path."""
    exits.demand_database(db)
    try:
        made = backup.back_up(db, target, _now_ms(), keys=keys)
    except (OSError, StoreFull) as error:
        raise exits.Failure(f"{target} can't be written: {_why(error)}", os.EX_CANTCREAT) from None
    print(target)
    exits.say(f"{made.size} bytes of {db}, with {' and '.join(made.keys) or 'no keys'}")
    return 0


def restore(db: Path, source: Path, worker_timeout_ms: int) -> int:
    """`restore`. Print the database's path."""
    _demand_right_user(db)
    if not source.exists():
        raise exits.Failure(f"there is no backup {source}", os.EX_IOERR)
    actor = f"{owners.of_user(os.geteuid())} by --db"
    try:
        with Lock(db, make=False) as lock:
            done = backup.restore(lock, source, actor, _now_ms(), worker_timeout_ms)
    except (OSError, StoreFull) as error:
        raise exits.Failure(f"{db} can't be restored: {_why(error)}", os.EX_CANTCREAT) from None
    except StoreCorrupt as error:
        # Not the database that it replaces: that may be damaged.
        raise exits.Failure(f"{source}: {error}", os.EX_IOERR) from None
    print(db)
    exits.say(f"{db} is restored from {source}{_origin(done)}")
    if done.replaced is not None:
        exits.say(f"the database that was there is {done.replaced}")
    if done.keys:
        exits.say(f"{' and '.join(done.keys)} of the backup are restored, too")
    if done.lost:
        lost = counted(done.lost, "run")
        exits.say(f"{lost} of the backup had not ended: lost, and started again where on_lost says so")
    return 0


def _why(error: OSError | StoreFull) -> str:
    return str(error) if isinstance(error, StoreFull) else error.strerror or str(error)


def _origin(done: backup.Restored) -> str:
    """The origin of a backup, as the end of a sentence."""
    if done.origin is None:
        return ", a plain copy of a database"
    made = datetime.fromtimestamp(done.origin.made_ms / 1000, UTC).isoformat(timespec="seconds")
    return f", a backup of {done.origin.path} made at {made}"


def _demand_right_user(db: Path) -> None:
    """Raises Failure when root would create a database that the scheduler's user can't open."""
    place = db if db.exists() else db.absolute().parent
    owner = place.stat().st_uid if place.exists() else 0
    if os.geteuid() == 0 and owner != 0:
        raise exits.Failure(
            f"{place} belongs to user {owner}: run this as that user, `setpriv --reuid={owner} --clear-groups -- zsched"
            " db restore ...`",
            os.EX_CONFIG,
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
