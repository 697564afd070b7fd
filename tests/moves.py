"""A database on either engine for the tests of moves, and rows of every table for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests import postgres
from tests.contract.base import LOWEST, NOW, W1, worker
from zsched.maintenance import move
from zsched.maintenance.move import Moved, Side
from zsched.model.address import parse_url
from zsched.model.after import parse_after
from zsched.model.arrays import TaskArray
from zsched.model.entries import pack
from zsched.model.files import File
from zsched.model.types import JobSpec, Outcome, Reason, RunStatus, Stream
from zsched.store.choice import database
from zsched.store.contract import Claim
from zsched.store.database import Hold, Tenure

NEEDS_POSTGRES: Final = (pytest.mark.postgres, pytest.mark.slow)
# Sources and targets.
PAIRS: Final = (
    pytest.param(("sqlite", "sqlite"), id="sqlite-sqlite"),
    pytest.param(("sqlite", "postgres"), id="sqlite-postgres", marks=NEEDS_POSTGRES),
    pytest.param(("postgres", "sqlite"), id="postgres-sqlite", marks=NEEDS_POSTGRES),
    pytest.param(("postgres", "postgres"), id="postgres-postgres", marks=NEEDS_POSTGRES),
)
ODD: Final = "tr\u00fce \U0001f600 \ufeff \u202e\x01\x1f\x7f \u2028 '\"\\ %s ? $1 \ud7ff\ue000\uffff\U0010ffff"
OUTPUT: Final = bytes(range(256)) + b"\0\0\xff\xfe\xed\xa0\x80"


@dataclass(frozen=True, slots=True)
class Place:
    """A database that need not exist yet. `db`: a path or a URL."""

    db: str
    folder: Path

    @property
    def name(self) -> str:
        return str(parse_url(self.db)) if "://" in self.db else self.db

    @contextmanager
    def hold(self) -> Iterator[Hold]:
        address = parse_url(self.db) if "://" in self.db else Path(self.db)
        with database(address, self.folder).hold() as hold:
            yield hold

    @contextmanager
    def lead(self, *, marked: bool = False) -> Iterator[Tenure]:
        """As a scheduler, or with `marked` as the command."""
        with self.hold() as hold, move.leading(hold, self.name, NOW, marked=marked) as tenure:
            yield tenure


def move_between(source: Place, target: Place, now_ms: int = NOW) -> Moved:
    with source.hold() as old, target.hold() as new:
        return move.move(Side(source.name, old.folder, old), Side(target.name, new.folder, new), now_ms)


@contextmanager
def new_place(engine: str, folder: Path, name: str) -> Iterator[Place]:
    if engine == "sqlite":
        yield Place(str(folder / f"{name}.db"), folder / f"{name}.db.d")
        return
    with postgres.server().database(empty=True) as url:
        yield Place(url, folder / name)


def fill(tenure: Tenure, jobs: int = 20) -> None:
    """Rows of every table, with values that engines treat differently. Some ids were given out and have no row."""
    store, engine = tenure.store, tenure.engine
    store.begin()
    store.begin_epoch("host", 1, ODD, NOW)
    store.register(worker(W1), NOW)
    specs = [JobSpec(name=f"{ODD} {number}", command=ODD, env={"A": ODD}) for number in range(jobs)]
    specs.append(
        JobSpec(
            name="input",
            command="cat",
            argv=("cat", ODD),
            cwd=f"/{ODD}",
            umask="027",
            stdin=ODD * 99,
            files=(File(ODD.replace("/", "") or "f", OUTPUT * 99, 0o755), File("g", b"")),
            artifacts=(ODD,),
            tags=("nightly", "team=data"),
            priority=-7,
            queue="nightly",
            limits={"user:me db": 3},
            unique="user:me k",
        )
    )
    specs.append(JobSpec(name="cron", command="true", schedule="* * * * *", run_now=True))
    store.submit(specs, [None] * (jobs + 1) + [NOW], "user:me", NOW, owner="user:me")
    # An array with entries, a job that waits for it, and one that waits for the second job, which fails below.
    entries = pack([ODD, "b"])
    array = JobSpec(name="array", command=ODD, each=entries, array=TaskArray((range(2),), 1))
    waiting = [JobSpec(name="waits", command=ODD, after=parse_after([job])) for job in (len(specs) + 1, 2)]
    store.submit([array, *waiting], [None] * 3, "user:me", NOW, owner="user:me")
    store.queues.pause("nightly", ODD, "user:me", NOW)
    store.queues.share("other", "owner", "user:me", NOW)
    for number in range(0, jobs, 4):
        (run,) = store.claim(
            Claim(worker_id=W1, demand_id=store.ready(NOW)[0].demand_id, count=1, floor=LOWEST, handed_n=1, ends=False),
            NOW,
        )
        if number % 8:
            stream = Stream(head=OUTPUT * (number % 50), tail=OUTPUT, total=10**12)
            outcome = Outcome(
                run_id=run.run_id,
                status=RunStatus.FAILED,
                reason=Reason.EXIT,
                detail=ODD,
                exit_code=-1,
                started_ms=NOW,
                finished_ms=NOW,
                stdout=stream,
                artifacts=(File("a", OUTPUT), File("b", b"")),
            )
            store.finish(outcome, W1, NOW)
    store.end_jobs(NOW)
    store.flush_counters(NOW)
    for statement, values in _BY_HAND:
        engine.execute(statement, values)
    for name in ("jobs", "runs", "events", "demands", "owners", "predecessors"):
        engine.raise_ids(name, 0, 1_000)
    store.commit()


def _insert(table: str, **values: object) -> tuple[str, tuple[object, ...]]:
    places = ", ".join("?" * len(values))
    return f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})", tuple(values.values())


_BY_HAND: Final = (
    _insert(
        "tokens",
        token_id="t1",
        digest=OUTPUT,
        scopes="read",
        note=ODD,
        created_ms=2**53,
        created_by="me",
        name="t",
    ),
    _insert("keys", public_key="k" * 40, worker_id="w1", created_ms=-(2**63), created_by=ODD),
    *(
        _insert(
            "idempotency",
            caller=caller,
            idem_key=key,
            digest=OUTPUT,
            first_job=1,
            last_job=2,
            jobs=2,
            made_ms=2**63 - 1,
        )
        # In another order by their characters, or in another language.
        for caller in ("a", "B", "\u00e4", "\uffff", "\U0001f600", "_", "")
        for key in (b"\0", b"\xff", b"\x7f")
    ),
    _insert("predecessors", generation=7, db="before", restored_ms=0),
    _insert("foreign_runs", worker_id="w1", db="other", running=1, results=2, runs="[]", since_ms=3),
)
