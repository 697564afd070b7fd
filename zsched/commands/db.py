"""zsched db: look after a scheduler's database.

Usage:
  zsched db check [options]

`check` replays the events and holds what they tell against the tables: runs, counters, workers. It only reads, and may
run while the scheduler works.

Options:
  --db=FILE   The database (scheduler.db, or what the settings of the scheduler say).
  --json      Print what was found as JSON.
  -h, --help  Show this.

Exit codes: 0 all agrees; 1 something does not; 2 wrong usage; 74 the file can't be read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing

from zsched.commands import exits, options, table
from zsched.config import ConfigError, scheduler_config
from zsched.store.check import check
from zsched.store.contract import StoreError
from zsched.store.sqlite import SqliteEngine


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    found = options.parse(__doc__, argv, mixed=True)
    db = options.text(found, "--db")
    try:
        path = scheduler_config({} if db is None else {"db": db}, None, os.environ).config.db
        with closing(SqliteEngine(path, read_only=True)) as engine:
            findings = check(engine)
    except ConfigError as error:
        options.fail(__doc__, str(error))
    except StoreError as error:
        there = "" if path.exists() else "; there is none, name the one that is meant by --db"
        exits.say(f"{path}: {error}{there}")
        return os.EX_IOERR
    if found["--json"]:
        looked = {"runs": findings.runs, "events": findings.events}
        table.document({"findings": findings.count, "sentences": findings.sentences, **looked})
    else:
        for sentence in findings.sentences:
            print(sentence)
        if findings.count > len(findings.sentences):
            print(f"and {findings.count - len(findings.sentences)} more")
        told = f"{findings.runs} runs and {findings.events} events of {path}"
        exits.say(f"{told}: {findings.count} do not agree" if findings.count else f"{told}: all agrees")
    return exits.FAILED if findings.count else 0
