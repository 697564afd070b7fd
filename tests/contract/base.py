"""A database under test, with the few words that the contract suite is written in."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import apsw

from tests import postgres
from zsched.model.arrays import parse_array
from zsched.model.types import (
    DemandId,
    JobId,
    JobSpec,
    Outcome,
    Policy,
    Reason,
    Run,
    RunId,
    RunStatus,
    Stream,
    Worker,
    WorkerId,
    WorkerKind,
    WorkerStatus,
)
from zsched.store import rows, sql
from zsched.store.contract import Claim, Claimed, Load, Verdict
from zsched.store.engine import Engine, Row
from zsched.store.reader import EngineReader
from zsched.store.sqlite.engine import SqliteEngine, open_reader
from zsched.store.writer import Writer

if TYPE_CHECKING:
    from zsched.store.postgres.engine import PostgresEngine
    from zsched.store.postgres.session import Call

Trace = Callable[[], AbstractContextManager[list[str]]]

# The runs that successors follow.
REPLACED = """
    SELECT coalesce((SELECT max(before.run_id) FROM runs before
            WHERE before.job_id = runs.job_id AND before.task = runs.task AND before.run_id < runs.run_id), 0)
    FROM events JOIN runs ON run_id BETWEEN run_first AND run_last WHERE was IS NULL
        AND events.reason IN ('requeued', 'retry', 'rerun')"""

NOW = 1_700_000_000_000
LOWEST = -(2**31)
W1, W2 = WorkerId("w1"), WorkerId("w2")


class State(NamedTuple):
    """What the events must be able to tell about a run."""

    status: str
    reason: str | None
    worker_id: str | None


class Base:
    """One open database. Between the tests' steps a turn is always open; `turn` ends it and begins the next."""

    # Makes all jobs unreadable for a claim.
    DAMAGE_JOBS: ClassVar[str]

    def __init__(self, engine: Engine, open_door: Callable[[], EngineReader], trace: Trace) -> None:
        self.engine = engine
        # Collects the statements that the database executes meanwhile, each as often as it is executed.
        self.trace = trace
        self.store = Writer(engine)
        self.open_door = open_door
        # A test that changes rows by hand says so: then the tables owe nothing to the events.
        self.by_hand = False
        self.store.begin()

    def turn(self, now_ms: int = NOW) -> None:
        self.store.flush_counters(now_ms)
        self.store.commit()
        if not self.by_hand:
            self.check()
        self.store.begin()

    def end(self) -> None:
        self.turn()
        self.store.rollback()
        self.store.close()

    def plan(self, statement: str, *parameters: object) -> list[str]:
        """The steps of the plan of a statement."""
        raise NotImplementedError

    def demand_search(self, statement: str, given: tuple[object, ...], search: str) -> None:
        """Demand that a statement searches an index, and neither reads all jobs nor sorts them. `search`: the index and
        its conditions, as SQLite writes them.
        """
        raise NotImplementedError

    def unguard(self) -> None:
        """Remove what keeps rows consistent, outside a turn."""
        raise NotImplementedError

    def trigger(self) -> str:
        """The stored definition of the trigger on runs."""
        raise NotImplementedError

    def refused(self) -> set[tuple[str, str]]:
        """The changes of a run's status that the trigger refuses."""
        condition = re.search("WHEN (.*) (?:BEGIN|EXECUTE) ", " ".join(self.trigger().split()))
        assert condition is not None
        values = ", ".join(f"('{status}')" for status in RunStatus)
        statuses = f"(SELECT column1 AS status FROM (VALUES {values}) AS listed)"
        pairs = f"SELECT old.status, new.status FROM {statuses} AS old, {statuses} AS new"
        return {(was, became) for was, became in self.rows(f"{pairs} WHERE {condition[1]}")}

    # --- verbs with the usual arguments ---

    def submit(
        self, name: str = "job", *, command: str = "true", timeout_ms: int | None = None, policy: Policy | None = None
    ) -> JobId:
        spec = JobSpec(name=name, command=command, policy=policy or Policy(timeout_ms=timeout_ms))
        return self.store.submit([spec], [None], "test", NOW)[0]

    def recurring(self, next_fire_ms: int, *, run_now: bool = False) -> JobId:
        spec = JobSpec(name="cron", command="true", schedule="* * * * *", run_now=run_now)
        return self.store.submit([spec], [next_fire_ms], "test", NOW)[0]

    def claim(
        self,
        worker_id: WorkerId = W1,
        count: int = 64,
        *,
        floor: int = LOWEST,
        n: int = 1,
        now_ms: int = NOW,
        ends: bool = False,
    ) -> list[Claimed]:
        """Claim from the best demand, as if there were no other worker; nothing when none is ready."""
        ready = self.store.ready(NOW)
        if not ready:
            self.stop_avoiding()
            ready = self.store.ready(NOW)
        if not ready:
            return []
        return self.claim_of(ready[0].demand_id, worker_id, count, floor=floor, n=n, now_ms=now_ms, ends=ends)

    def stop_avoiding(self) -> None:
        """Retries take any worker."""
        self.store.next_due_ms()
        self.store.stop_avoiding([run.ready.run_id for run in self.store.avoiding(1_000)])

    def count_ready(self, most: int = 64) -> int:
        """Count the runs of the best demand, as the placement does. PostgreSQL reads them ahead of their claims."""
        return self.store.ready_count(self.store.ready(NOW)[0].demand_id, most)

    def claim_of(
        self,
        demand_id: DemandId,
        worker_id: WorkerId = W1,
        count: int = 64,
        *,
        floor: int = LOWEST,
        n: int = 1,
        now_ms: int = NOW,
        ends: bool = False,
    ) -> list[Claimed]:
        wanted = Claim(worker_id=worker_id, demand_id=demand_id, count=count, floor=floor, handed_n=n, ends=ends)
        return self.store.claim(wanted, now_ms)

    def running(self, worker_id: WorkerId = W1, *, started: bool = False) -> RunId:
        """A run of a new job that is running on a worker."""
        self.submit()
        (claimed,) = self.claim(worker_id)
        if started:
            assert self.store.start(claimed.run_id, worker_id, NOW)
        return claimed.run_id

    def finish(
        self,
        run_id: RunId,
        worker_id: WorkerId = W1,
        status: RunStatus = RunStatus.SUCCESS,
        exit_code: int = 0,
        stdout: Stream = Stream(),  # noqa: B008 - immutable
    ) -> Verdict:
        return self.store.finish(self.outcome(run_id, status, exit_code, stdout), worker_id, NOW)

    def outcome(
        self,
        run_id: RunId,
        status: RunStatus = RunStatus.SUCCESS,
        exit_code: int = 0,
        stdout: Stream = Stream(),  # noqa: B008 - immutable
    ) -> Outcome:
        return Outcome(
            run_id=run_id,
            status=status,
            reason=Reason.EXIT,
            exit_code=exit_code,
            started_ms=NOW + 1,
            finished_ms=NOW + 2,
            stdout=stdout,
        )

    def fail_lost(
        self, run_id: RunId, *, crash: bool = False, together: int = 0, due_ms: int | None = None
    ) -> RunStatus:
        return self.store.fail_lost(run_id, "gone", crash=crash, together=together, due_ms=due_ms, now_ms=NOW)

    def register(self, worker_id: WorkerId = W1, kind: WorkerKind = WorkerKind.ZMQ, now_ms: int = NOW) -> None:
        self.store.register(worker(worker_id, kind), now_ms)

    # --- looking ---

    def rows(self, statement: str, *parameters: object) -> list[Row]:
        return self.engine.execute(statement, parameters)

    def run(self, run_id: RunId) -> Run:
        run = self.store.run(run_id)
        assert run is not None
        return run

    def last_run(self, job_id: JobId) -> Run:
        """The job's newest run, seen from within the turn."""
        return self.run(RunId(self.rows("SELECT max(run_id) FROM runs WHERE job_id = ?", job_id)[0][0]))

    def status(self, job_id: JobId) -> RunStatus:
        """The job's status once what the turn counted is written."""
        self.store.flush_counters(NOW)
        job = self.store.job(job_id)
        assert job is not None
        return job.status

    def events(self) -> list[Row]:
        """All that the turns so far, and this one, have written down."""
        self.store.flush_counters(NOW)
        return self.rows("SELECT was, became, reason, run_first, worker_id, actor FROM events ORDER BY event_id")

    def check(self) -> None:
        """What must hold after every commit: counters and events say the same as the runs."""
        self._check_counters()
        self._check_demands()
        self._check_events()

    def check_loads(self, workers: Sequence[WorkerId] = (W1, W2)) -> None:
        """The loads that the store keeps are those of the runs."""
        for worker_id in workers:
            assert self.store.load(worker_id) == Load(*self.rows(sql.LOAD, worker_id)[0])

    def _check_counters(self) -> None:
        last = self.rows(
            "SELECT job_id, task, status FROM runs WHERE run_id IN (SELECT max(run_id) FROM runs GROUP BY job_id, task)"
        )
        without = self.without_runs()
        expected = Counter((job_id, status) for job_id, task, status in last if (job_id, task) not in without)
        expected.update((job_id, state) for (job_id, _), state in without.items())
        stored: Counter[tuple[int, str]] = Counter()
        counters = "job_id, pending, running, success, failed, cancelled, unmade"
        for job_id, *counts in self.rows(f"SELECT {counters} FROM jobs"):
            for status, count in zip((*RunStatus, "unmade"), counts, strict=True):
                stored[job_id, status] = count
        assert +stored == expected
        # Each fire of a recurring job is a task of its own, and a run with a successor does not count any more.
        runs = self.rows(f"SELECT job_id, task, status FROM runs WHERE run_id NOT IN ({REPLACED})")
        tasks = Counter(status for job_id, task, status in runs if (job_id, task) not in without)
        tasks.update("pending" if state == "unmade" else state for state in without.values())
        assert {status: count for status, count in self.rows("SELECT * FROM totals") if count} == dict(tasks)
        self._check_places()

    def without_runs(self) -> dict[tuple[int, int], str]:
        """The tasks of arrays that no run describes: `unmade`, held ones included, or `cancelled`."""
        arrays: dict[int, str] = dict(self.rows("SELECT job_id, task_array FROM jobs WHERE task_array IS NOT NULL"))
        found: dict[tuple[int, int], str] = {}
        for job_id, first, last, state in self.rows("SELECT job_id, first_task, last_task, state FROM task_ranges"):
            for task in parse_array(arrays[job_id]):
                if first <= task <= last:
                    assert (job_id, task) not in found, "ranges overlap"
                    found[job_id, task] = "cancelled" if state == "cancelled" else "unmade"
        return found

    def _check_places(self) -> None:
        """`waiting` counts the runs of arrays without a place, what is held back has none, and no cap is exceeded."""
        live = self.rows(
            "SELECT job_id, status = 'pending' AND blocked & 1 = 1, blocked & 106 <> 0 AND status = 'pending' FROM runs"
            " WHERE of_array = 1 AND status IN ('pending', 'running')"
        )
        assert all(placeless for _, placeless, closed in live if closed)
        waiting = Counter(job_id for job_id, placeless, _ in live if placeless)
        taken = Counter(job_id for job_id, placeless, _ in live if not placeless)
        for job_id, text, count in self.rows("SELECT job_id, task_array, waiting FROM jobs"):
            assert count == waiting[job_id]
            if text is not None and (cap := parse_array(text).cap) is not None:
                assert taken[job_id] <= cap

    def _check_demands(self) -> None:
        runs = Counter(self.rows("SELECT demand_id, status FROM runs WHERE status IN ('pending', 'running')"))
        for demand_id, wish, pending, running in self.rows("SELECT demand_id, wish, pending, running FROM demands"):
            demand = rows.readable_demand(wish)
            if demand is None:
                continue
            counts = (runs[demand_id, "pending"], runs[demand_id, "running"]) if demand.tallied else (0, 0)
            assert (pending, running) == counts, wish
        # What the store knows is what it would read.
        for demand_id, pending, running in self.rows(
            "SELECT demand_id, pending, running FROM demands WHERE pending + running > 0"
        ):
            assert self.store._tallies._live.get(demand_id, (pending, running)) == (pending, running)

    def _check_events(self) -> None:
        events = self.rows("SELECT * FROM events ORDER BY event_id")
        runs, workers = replay(events)
        assert runs == {
            run_id: State(*rest) for run_id, *rest in self.rows("SELECT run_id, status, reason, worker_id FROM runs")
        }
        assert workers == dict(self.rows("SELECT worker_id, status FROM workers"))
        schedules = self.rows("SELECT job_id, paused_ms, ended_ms, next_fire_ms FROM jobs WHERE schedule IS NOT NULL")
        assert replay_schedules(events) == {
            job_id: "ended" if ended_ms is not None else "paused" if paused_ms is not None else "scheduled"
            for job_id, paused_ms, ended_ms, _ in schedules
        }
        assert all(next_fire_ms is None for _, *stopped, next_fire_ms in schedules if any(stopped))


def replay(events: list[Row]) -> tuple[dict[int, State], dict[str, str]]:
    """The runs and the workers as the events alone tell them."""
    runs: dict[int, State] = {}
    workers: dict[str, str] = {}
    for _, _, _, job_id, first, last, worker_id, was, became, reason, _ in events:
        if first is None:
            # What is about access is about no worker either.
            if job_id is None and worker_id is not None:
                assert workers.get(worker_id) == was
                workers[worker_id] = became
                if became == "worker_removed":
                    del workers[worker_id]
            continue
        assert job_id is not None or was is None, "only a creation spans jobs"
        for run_id in range(first, last + 1):
            if was is None:
                assert run_id not in runs, "made twice"
                runs[run_id] = State(became, None, None)
                continue
            assert runs[run_id].status == was, f"run {run_id} was {runs[run_id].status}, not {was}"
            if became == was:
                continue  # something was said about the run that did not change it
            runs[run_id] = State(became, reason, None if became == RunStatus.PENDING else worker_id)
    return runs, workers


def replay_schedules(events: list[Row]) -> dict[int, str]:
    """The state of each schedule as the events alone tell it. Nothing fires while it is paused or after its end."""
    states: dict[int, str] = {}
    for _, _, _, job_id, first, _, _, _, became, reason, _ in events:
        if became == "scheduled" or became.startswith("schedule_"):
            assert states.get(job_id) != "ended"
            states[job_id] = became.removeprefix("schedule_").replace("resumed", "scheduled")
        elif first is not None and reason == "fire":
            assert states[job_id] == "scheduled"
    return states


def worker(worker_id: WorkerId = W1, kind: WorkerKind = WorkerKind.ZMQ) -> Worker:
    return Worker(
        worker_id=worker_id,
        kind=kind,
        status=WorkerStatus.ACTIVE,
        slots=2,
        registered_ms=0,
        last_seen_ms=0,
        host="h",
        incarnation="i",
        boot_id="b",
        lock=(1, 2),
        agent="1.0",
        can=("env", "cwd"),
        labels={"zone": "a"},
    )


class SqliteBase(Base):
    DAMAGE_JOBS = "UPDATE jobs SET command = CAST(x'ff' AS TEXT)"

    def plan(self, statement: str, *parameters: object) -> list[str]:
        return [row[-1] for row in self.rows(f"EXPLAIN QUERY PLAN {statement}", *parameters)]

    def demand_search(self, statement: str, given: tuple[object, ...], search: str) -> None:
        steps = self.plan(statement, *given)
        assert any(search in step for step in steps), steps
        assert not [step for step in steps if step.startswith("SCAN jobs") or "TEMP B-TREE" in step], steps

    def unguard(self) -> None:
        self.rows("PRAGMA foreign_keys = 0")
        self.rows("DROP TRIGGER runs_change_by_the_table")

    def trigger(self) -> str:
        ((stored,),) = self.rows("SELECT sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'runs'")
        return str(stored)


def open_sqlite(folder: Path) -> Base:
    path = folder / "scheduler.db"
    engine = SqliteEngine(path)
    engine.check()
    engine.migrate(NOW)
    return SqliteBase(engine, lambda: open_reader(path), lambda: traced(engine))


@contextmanager
def on_sqlite(folder: Path) -> Iterator[Base]:
    yield open_sqlite(folder)


@contextmanager
def traced(engine: SqliteEngine) -> Iterator[list[str]]:
    executed: list[str] = []

    def collect(_cursor: apsw.Cursor, statement: str, _bindings: object) -> bool:
        executed.append(statement)
        return True

    engine._connection.exec_trace = collect
    try:
        yield executed
    finally:
        engine._connection.exec_trace = None


class PostgresBase(Base):
    # Text is always valid there, so this damages what the text says.
    DAMAGE_JOBS = "UPDATE jobs SET env = '['"

    def plan(self, statement: str, *parameters: object) -> list[str]:
        return [row[0] for row in self.rows(f"EXPLAIN {statement}", *parameters)]

    def demand_search(self, statement: str, given: tuple[object, ...], search: str) -> None:
        index, _, conditions = search.rstrip(")").partition(" (")
        steps = self.plan(statement, *given)
        used = [place for place, step in enumerate(steps) if f"using {index} " in step or f"on {index} " in step]
        assert used, steps
        for condition in conditions.replace("rowid", "job_id").split(" AND "):
            column, sign = condition[:-2], condition[-2]
            # SQLite writes BETWEEN as < and >.
            assert re.search(rf"{column} {sign}=? ", steps[used[0] + 1]), steps
        assert not [step for step in steps if "Seq Scan on jobs" in step or "Sort" in step], steps

    def unguard(self) -> None:
        self.rows("DROP TRIGGER runs_change_by_the_table ON runs")
        for table, name in self.rows(
            "SELECT conrelid::regclass::text, conname::text FROM pg_constraint WHERE contype = 'f'"
        ):
            self.rows(f"ALTER TABLE {table} DROP CONSTRAINT {name}")

    def trigger(self) -> str:
        ((stored,),) = self.rows(
            "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'runs'::regclass AND NOT tgisinternal"
        )
        return str(stored)


@contextmanager
def on_postgres(_folder: Path) -> Iterator[Base]:
    from zsched.store.postgres import engine as postgresql

    with postgres.server().database() as url:
        engine = postgresql.open_engine(url, NOW)
        with ExitStack() as doors:
            door = lambda: doors.enter_context(closing(postgresql.open_reader(url)))  # noqa: E731
            yield PostgresBase(engine, door, lambda: posted(engine))


@contextmanager
def posted(engine: PostgresEngine) -> Iterator[list[str]]:
    """The statements that a session sends meanwhile."""
    executed: list[str] = []
    session = engine.session
    post = session.post

    def collect(statement: str, *arguments: Any, **options: Any) -> Call:
        executed.append(statement)
        return post(statement, *arguments, **options)

    session.post = collect  # type: ignore[method-assign]
    try:
        yield executed
    finally:
        del session.post


# The engines that keep the contract. A further one is a further line.
ENGINES: dict[str, Callable[[Path], AbstractContextManager[Base]]] = {"sqlite": on_sqlite, "postgres": on_postgres}
