"""zsched db: check, move, back up and restore a scheduler's database.

Usage:
  zsched db check [--db=DATABASE] [--json]
  zsched db copy [--data-dir=DIR] [--json] <from> <to>
  zsched db backup [--db=DATABASE] [--no-keys] <file>
  zsched db restore [--db=DATABASE] <backup>
  zsched db succeed [--db=DATABASE] [--data-dir=DIR]

`check` replays the events and compares the result with the tables: runs, counters, workers. It only reads, and may run
while the scheduler works.

`copy` moves a database to another place: from SQLite to PostgreSQL, back, or within one of them. <from> and <to> are
files or URLs. No scheduler may run on either. <to> must be new: a file that does not exist, or an empty database. The
command copies all rows and the keys, and compares a checksum of each table. Then it marks <from> as moved: schedulers
refuse it from then on. If it is interrupted, run it again: until it has finished, schedulers refuse <to>.

`backup` writes the database and the keys in the folder next to it (secret.key, curve.key) into one file of mode 0600.
It may run while the scheduler works: everything that was acknowledged before the command began is in the backup.

`restore` replaces the database and its keys with a backup, while no scheduler runs. The old files are kept under names
that end with .replaced-TIME. The restored database gets a new identity, and its job and run ids continue 1,000,000
higher. Runs that were running or pending in the backup may have run since then. They end as lost, and start again
unless their job's on_lost is fail. A plain copy of a database can be restored too.

`backup` and `restore` are for SQLite. Back PostgreSQL up with its own tools, such as pg_dump. After you restored such a
backup, run `succeed` before a scheduler starts: it gives the database a new identity and new ids, as `restore` does.

Options:
  --db=DATABASE   The database: its file, or its URL (scheduler.db, or what the settings of the scheduler say).
  --data-dir=DIR  With PostgreSQL: the scheduler's folder, which has its keys (what the settings of the scheduler say).
  --json          With `check` and `copy`: print the result as JSON.
  --no-keys       Leave out the keys. Keep copies of them elsewhere: without secret.key, secrets of jobs can't be
                  decrypted.
  -h, --help      Show this.

Exit codes: 0 done, or the database is consistent; 1 it is not, or the copy differs; 2 wrong usage; 73 a file can't be
written, or <to> is not new; 74 a database can't be read, is damaged or of the wrong kind; 75 a scheduler has the
database; 78 a file belongs to another user, to another program or to a newer release, or the database was moved.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from zsched.commands import exits, options, table
from zsched.commands.database import failures, settings
from zsched.config.config import SchedulerConfig
from zsched.maintenance import backup, move
from zsched.model.units import counted
from zsched.security import owners
from zsched.store.choice import database
from zsched.store.contract import StoreCorrupt, StoreFull
from zsched.store.sqlite.lock import Lock
from zsched.store.transfer import Sum


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    if arguments["copy"]:
        return copy(arguments)
    if arguments["succeed"]:
        return succeed(settings(__doc__, options.text(arguments, "--db"), options.text(arguments, "--data-dir")))
    # These don't use the folder.
    config = settings(__doc__, options.text(arguments, "--db"), ".")
    with _failures(config.db):
        if arguments["check"]:
            return check_database(config, arguments)
        path = exits.demand_file(
            config.db, "back it up with pg_dump, and after you restored that, run `zsched db succeed`"
        )
        if arguments["backup"]:
            return back_up(path, Path(options.text(arguments, "<file>") or ""), keys=not arguments["--no-keys"])
        return restore(path, Path(options.text(arguments, "<backup>") or ""), config.worker_timeout_ms)


@contextmanager
def _failures(subject: object) -> Iterator[None]:
    """Turn errors of a database and its files into Failure. `subject`: what fails."""
    try:
        with failures(subject):
            yield
    except (backup.TakenError, move.TakenError) as error:
        raise exits.Failure(str(error), os.EX_CANTCREAT) from None


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


def copy(arguments: Mapping[str, options.Value]) -> int:
    """`copy`. Print the checksums of all tables."""
    folder = options.text(arguments, "--data-dir")
    source, target = (settings(__doc__, options.text(arguments, name), folder) for name in ("<from>", "<to>"))
    if source.db == target.db:
        options.fail(__doc__, "<from> and <to> are the same database")
    exits.demand_database(source.db)
    if isinstance(target.db, Path):
        _demand_right_user(target.db)
    with _failures(f"the copy of {source.db} to {target.db}"), ExitStack() as stack:
        old = _side(stack, source, source.folder)
        # The folder is held once if both have the same.
        shared = source.folder == target.folder
        new = _side(
            stack, target, Path(stack.enter_context(tempfile.TemporaryDirectory())) if shared else target.folder
        )
        try:
            done = move.move(old, new, _now_ms())
        except move.MismatchError as error:
            _show_sums(error.compared, arguments)
            raise exits.Failure(str(error)) from None
    _show_sums(done.compared, arguments)
    rows = counted(sum(copied.rows for _, copied in done.compared.values()), "row")
    exits.say(f"{rows} copied from {source.db} to {target.db}, checksums agree; {source.db} is no longer usable")
    if done.keys:
        exits.say(f"{' and '.join(done.keys)} copied from {source.folder} to {target.folder}")
    place = str(target.db)
    if not isinstance(target.db, Path):
        # It was shown without its parameters.
        place = f"that URL, with its parameters, and data_dir to {target.folder}"
    exits.say(f"set db to {place}, and start the scheduler")
    return 0


def _side(stack: ExitStack, config: SchedulerConfig, folder: Path) -> move.Side:
    hold = stack.enter_context(database(config.db, folder).hold())
    return move.Side(str(config.db), config.folder, hold)


def _show_sums(compared: Mapping[str, tuple[Sum, Sum]], arguments: Mapping[str, options.Value]) -> None:
    if arguments["--json"]:
        rows = {
            name: {"rows": read.rows, "source": read.digest, "target": copied.digest}
            for name, (read, copied) in compared.items()
        }
        table.document({"tables": rows})
        return
    # 16 hexadecimal digits are enough to see whether two are equal. The whole values were compared.
    lines = [
        (name, read.rows, read.digest[:16], copied.digest[:16], "yes" if read == copied else "NO")
        for name, (read, copied) in compared.items()
    ]
    table.show(("TABLE", "ROWS", "SOURCE", "TARGET", "EQUAL"), lines)


def succeed(config: SchedulerConfig) -> int:
    """`succeed`."""
    exits.demand_database(config.db)
    actor = f"{owners.of_user(os.geteuid())} by --db"
    with (
        _failures(config.db),
        database(config.db, config.folder).hold() as hold,
        move.leading(hold, str(config.db), _now_ms()) as tenure,
    ):
        before = tenure.store.identity
        lost = move.succeed(tenure, "from a copy", actor, _now_ms(), config.worker_timeout_ms)
        exits.say(f"{config.db} has a new identity, {tenure.store.identity}; it was {before}")
    _say_lost(lost)
    return 0


def _say_lost(lost: int) -> None:
    if lost:
        exits.say(f"{counted(lost, 'run')} of the backup had not ended: lost, and started again where on_lost says so")


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
    _say_lost(done.lost)
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
            " db ...`",
            os.EX_CONFIG,
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
