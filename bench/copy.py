"""Seconds and memory of `zsched db copy`: from SQLite to PostgreSQL and back, with a check of the result.

Usage: python -m bench.copy [JOBS]      (100,000 jobs with runs, events, outputs, variables and secrets, if not said)

PostgreSQL is that of the tests (tests/postgres.py): in memory and without fsync, unless ZSCHED_TEST_POSTGRES names
another server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.machine import facts
from tests import postgres
from tests.contract.base import LOWEST, NOW, W1, worker
from zsched.model.types import JobSpec, Outcome, Reason, RunStatus, Stream
from zsched.security.vault import Vault
from zsched.store.contract import Claim
from zsched.store.sqlite.database import SqliteDatabase
from zsched.store.writer import Writer

JOBS = 100_000
BATCH = 1_000
# Every byte, and some that are no UTF-8.
OUTPUT = bytes(range(256)) * 4


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    print(facts())
    with tempfile.TemporaryDirectory(prefix="zsched-bench-") as name, postgres.server().database(empty=True) as url:
        folder = Path(name)
        fill(folder / "old.db", jobs)
        size = (folder / "old.db").stat().st_size
        print(f"{jobs} jobs, {size / 2**20:.0f} MiB in SQLite")
        there = copy(folder, str(folder / "old.db"), url)
        back = copy(folder, url, str(folder / "new.db"))
        # Each command takes over, which the epoch counts.
        differ = [table for table in there if there[table]["target"] != back[table]["target"] and table != "epoch"]
        print(f"tables that differ after the way back: {', '.join(differ) or 'none'}")
        subprocess.run([*zsched(folder), "db", "check", f"--db={folder}/new.db"], check=True)


def copy(folder: Path, source: str, target: str) -> dict[str, Any]:
    """Run the command in a process of its own; returns the checksums."""
    began = time.monotonic()
    with (folder / "out").open("w+b") as out:
        process = subprocess.Popen(
            [*zsched(folder), "db", "copy", "--json", f"--data-dir={folder}/data", source, target], stdout=out
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        assert process.returncode == 0
        out.seek(0)
        tables: dict[str, Any] = json.load(out)["tables"]
    rows, memory = sum(table["rows"] for table in tables.values()), used.ru_maxrss / 1024
    print(f"{rows} rows in {seconds:.1f} s ({rows / seconds:.0f} rows/s), at most {memory:.0f} MiB of memory")
    return tables


def zsched(folder: Path) -> list[str]:
    return ["env", f"TMPDIR={folder}", sys.executable, "-P", "-m", "zsched.commands.zsched"]


def fill(path: Path, jobs: int) -> None:
    """A database whose jobs have all ended, but each tenth."""
    with SqliteDatabase(path).hold() as hold:
        vault = Vault(hold.folder / "secret.key")
        sealed = {"TOKEN": vault.seal("TOKEN", "correct horse")}
        with closing(hold.lead(NOW)) as tenure:
            store = tenure.store
            store.begin()
            store.register(worker(W1), NOW)
            end(store)
            for begin in range(0, jobs, BATCH):
                specs = [
                    JobSpec(
                        name=f"j{number} \U0001f600", command="echo \u00e4", env={"N": str(number)}, secret_env=sealed
                    )
                    for number in range(begin, begin + BATCH)
                ]
                store.begin()
                store.submit(specs, [None] * BATCH, "user:me", NOW, owner="user:me")
                end(store)
                store.begin()
                run_some(store, BATCH * 9 // 10)
                end(store)


def run_some(store: Writer, count: int) -> None:
    while count:
        claim = Claim(
            worker_id=W1,
            demand_id=store.ready(NOW)[0].demand_id,
            count=min(count, 64),
            floor=LOWEST,
            handed_n=1,
            ends=False,
        )
        for run in store.claim(claim, NOW):
            count -= 1
            outcome = Outcome(
                run_id=run.run_id,
                status=RunStatus.SUCCESS,
                reason=Reason.EXIT,
                exit_code=0,
                started_ms=NOW,
                finished_ms=NOW,
                stdout=Stream(head=OUTPUT, total=len(OUTPUT)),
            )
            store.finish(outcome, W1, NOW)


def end(store: Writer) -> None:
    store.flush_counters(NOW)
    store.commit()


if __name__ == "__main__":
    main()
