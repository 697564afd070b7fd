"""Consistency check of a database: replays the events and compares the result with the tables.

Reads only, in one transaction, so it may run while a scheduler runs. Memory grows with the number of runs, about
200 bytes each; events are read in pages.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from zsched.model.arrays import parse_array
from zsched.model.events import EventKind
from zsched.model.lifecycle import MOVES, TRANSITIONS, Cause, State
from zsched.model.types import RunStatus
from zsched.store import rows
from zsched.store.engine import ReadEngine, Row
from zsched.store.ranges import LIVE

PAGE_ROWS: Final = 10_000

_EVENTS: Final = """
    SELECT event_id, job_id, run_first, run_last, worker_id, was, became, reason FROM events
    WHERE event_id > ? ORDER BY event_id LIMIT ?"""
_RUNS: Final = """
    SELECT run_id, job_id, task, status, reason, worker_id FROM runs WHERE run_id > ? ORDER BY run_id LIMIT ?"""
_SUCCESSION: Final = frozenset(MOVES[State.NEW][cause].reason for cause in (Cause.REQUEUE, Cause.RETRY, Cause.RERUN))
_SCHEDULES: Final = """
    SELECT job_id, CASE WHEN ended_ms IS NOT NULL THEN 'ended' WHEN paused_ms IS NOT NULL THEN 'paused'
        ELSE 'scheduled' END, next_fire_ms IS NOT NULL
    FROM jobs WHERE job_id > ? AND schedule IS NOT NULL ORDER BY job_id LIMIT ?"""
# The state of a schedule after each event about it. Without one it is scheduled.
_SCHEDULE_STATES: Final[Mapping[str, str]] = {
    EventKind.SCHEDULED: "scheduled",
    EventKind.SCHEDULE_PAUSED: "paused",
    EventKind.SCHEDULE_RESUMED: "scheduled",
    EventKind.SCHEDULE_ENDED: "ended",
}
_DEMANDS: Final = """
    SELECT demand_id, wish, pending, running FROM demands WHERE demand_id > ? ORDER BY demand_id LIMIT ?"""
_DEMAND_RUNS: Final = """
    SELECT demand_id, sum(CASE WHEN status = 'pending' THEN 1 ELSE 0 END),
        sum(CASE WHEN status = 'running' THEN 1 ELSE 0 END)
    FROM runs WHERE status IN ('pending', 'running') GROUP BY demand_id"""
# Contradictions about jobs that wait for others; 32 is Blocked.PARENTS.
_UNEXPECTED: Final[Mapping[str, str]] = {
    "job {} waits for others, but has ended": """
        SELECT DISTINCT d.child_id FROM dependencies d LEFT JOIN jobs j ON j.job_id = d.child_id
        WHERE coalesce(j.pending + j.running + j.unmade, 0) = 0
            AND NOT EXISTS (SELECT 1 FROM settled s WHERE s.settled_id = d.child_id)""",
    "job {} has ended, but jobs still wait for its end": """
        SELECT DISTINCT d.parent_id FROM dependencies d LEFT JOIN jobs j ON j.job_id = d.parent_id
        WHERE d.judged = 0 AND coalesce(j.pending + j.running + j.unmade, 0) = 0
            AND NOT EXISTS (SELECT 1 FROM settled s WHERE s.settled_id = d.parent_id)""",
    "run {} waits for other jobs, but all have ended": """
        SELECT run_id FROM runs WHERE status = 'pending' AND blocked & 32 <> 0
            AND NOT EXISTS (SELECT 1 FROM dependencies d WHERE d.child_id = runs.job_id AND d.judged = 0)""",
    "run {} does not wait, but jobs before its own have not ended": """
        SELECT run_id FROM runs WHERE status IN ('pending', 'running') AND blocked & 32 = 0
            AND EXISTS (SELECT 1 FROM dependencies d WHERE d.child_id = runs.job_id AND d.judged = 0)""",
}
_JOBS: Final = """
    SELECT job_id, pending, running, success, failed, cancelled, unmade FROM jobs
    WHERE job_id > ? ORDER BY job_id LIMIT ?"""
_ARRAYS: Final = """
    SELECT job_id, task_array, waiting, removing_ms IS NOT NULL, success, failed, cancelled FROM jobs
    WHERE job_id > ? AND task_array IS NOT NULL ORDER BY job_id LIMIT ?"""
_RANGES: Final = "SELECT first_task, last_task, state FROM task_ranges WHERE job_id = ? ORDER BY first_task"
_WAITING: Final = """
    SELECT job_id, count(*) FROM runs WHERE of_array = 1 AND status = 'pending' AND blocked & 1 = 1 GROUP BY job_id"""
# Tasks that no run describes, and that have not ended.
_UNMADE: Final = "unmade"


@dataclass(slots=True)
class Findings:
    """The number of contradictions, sentences for the first `most` of them, and the number of rows compared."""

    most: int = 20
    count: int = 0
    sentences: list[str] = field(default_factory=list)
    runs: int = 0
    events: int = 0
    # Whether old jobs or fires were ever removed.
    purged: bool = False
    # What the events say of runs otherwise than they should. It counts only for runs that still exist: the first events
    # of a removed run may be removed already.
    doubts: defaultdict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    # The tasks of arrays that ranges describe, by their state.
    ranged: defaultdict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    # Arrays whose runs are being removed: their counters are still those of all runs.
    removing: set[int] = field(default_factory=set)
    # Runs that replaced an earlier run of their task in the counters.
    successors: set[int] = field(default_factory=set)

    def add(self, sentence: str) -> None:
        self.count += 1
        if self.count <= self.most:
            self.sentences.append(sentence)


# A run's status, reason and worker.
Replayed = tuple[str, str | None, str | None]


def check(engine: ReadEngine) -> Findings:
    """Check the file, and compare events, runs, counters, schedules and workers. Raises StoreError."""
    findings = Findings()
    with engine.snapshot():
        for sentence in engine.find_damage():
            findings.add(sentence)
        if "purged" in engine.columns("identity"):
            findings.purged = bool(engine.execute("SELECT purged FROM identity")[0][0])
        runs, workers, schedules = _replay(engine, findings)
        last = _check_runs(engine, runs, findings)
        _check_jobs(engine, last, findings)
        _check_demands(engine, findings)
        _check_dependencies(engine, findings)
        _check_schedules(engine, schedules, findings)
        _check_workers(engine, workers, findings)
    return findings


def _pages(engine: ReadEngine, statement: str) -> Iterator[Row]:
    """All rows of a statement that is paged by its first column."""
    last = 0
    while rows := engine.execute(statement, (last, PAGE_ROWS)):
        yield from rows
        last = rows[-1][0]


def _replay(engine: ReadEngine, findings: Findings) -> tuple[dict[int, Replayed], dict[str, str], dict[int, str]]:
    """The state of each run, worker and schedule according to the events."""
    runs: dict[int, Replayed] = {}
    workers: dict[str, str] = {}
    schedules: dict[int, str] = {}
    for event_id, job_id, first, last, worker_id, was, became, reason in _pages(engine, _EVENTS):
        findings.events += 1
        if first is None:
            if job_id is None and worker_id is not None:
                if workers.get(worker_id) != was:
                    findings.add(f"event {event_id}: worker {worker_id} was {workers.get(worker_id)}, not {was}")
                workers[worker_id] = became
                if became == EventKind.WORKER_REMOVED:
                    del workers[worker_id]
            elif became in _SCHEDULE_STATES:
                _replay_schedule(event_id, job_id, became, schedules, findings)
            continue
        if reason == "fire" and schedules.get(job_id, "scheduled") != "scheduled":
            findings.add(f"event {event_id}: job {job_id} fired, but its schedule was {schedules[job_id]}")
        for run_id in range(first, last + 1):
            known = runs.get(run_id)
            if was is None and known is None:
                runs[run_id] = (became, None, None)
                if reason in _SUCCESSION:
                    findings.successors.add(run_id)
            elif known is None or known[0] != was:
                findings.doubts[run_id].append(f"event {event_id}: run {run_id} was {known and known[0]}, not {was}")
                if known is None:
                    runs[run_id] = (became, reason, worker_id)
            elif became != was:
                if RunStatus(became) not in TRANSITIONS[RunStatus(was)]:
                    findings.add(f"event {event_id}: run {run_id} went from {was} to {became}")
                runs[run_id] = (became, reason, None if became == RunStatus.PENDING else worker_id)
    return runs, workers, schedules


def _replay_schedule(event_id: int, job_id: int, became: str, schedules: dict[int, str], findings: Findings) -> None:
    if schedules.get(job_id) == "ended":
        findings.add(f"event {event_id}: {became}, but the schedule of job {job_id} had ended")
    schedules[job_id] = _SCHEDULE_STATES[became]


def _check_runs(engine: ReadEngine, replayed: dict[int, Replayed], findings: Findings) -> dict[int, dict[int, str]]:
    """Compare the runs with the replay, and the totals with the runs; returns the last run's status by job and task."""
    last: dict[int, dict[int, str]] = defaultdict(dict)
    tasks: Counter[str] = Counter()
    for run_id, job_id, task, *stored in _pages(engine, _RUNS):
        findings.runs += 1
        status = stored[0]
        for sentence in findings.doubts.pop(run_id, ()):
            findings.add(sentence)
        if replayed.pop(run_id, None) != tuple(stored):
            findings.add(f"run {run_id} is {status} ({stored[1]}) on {stored[2]}; its events say otherwise")
        # A damaged database may lack the run before, and a task of an array that was cancelled may have had none.
        if run_id in findings.successors and task in last[job_id]:
            tasks[last[job_id][task]] -= 1
        tasks[status] += 1
        last[job_id][task] = status
    for run_id, (status, *_) in replayed.items():
        # Of a removed run, events may be left: its last ones, or the one of all runs that were made together with it.
        if not findings.purged or status == RunStatus.RUNNING:
            findings.add(f"run {run_id} has events but does not exist")
    if not findings.purged:
        for sentences in findings.doubts.values():
            for sentence in sentences:
                findings.add(sentence)
    _replace_by_ranges(engine, last, tasks, findings)
    for status, count in engine.execute("SELECT status, tasks FROM totals"):
        if tasks[status] != count:
            findings.add(f"{count} tasks are counted as {status}, but {tasks[status]} are")
    return last


def _replace_by_ranges(
    engine: ReadEngine, last: dict[int, dict[int, str]], tasks: Counter[str], findings: Findings
) -> None:
    """Count the tasks of arrays that have no live run, in the place of their last runs. `last`: as of _check_runs.
    Compares the number of runs without a place.
    """
    if "task_array" not in engine.columns("jobs"):
        return  # the schema of a release without arrays
    waiting: dict[int, int] = dict(engine.execute(_WAITING))
    for job_id, text, placeless, removing, *counts in _pages(engine, _ARRAYS):
        array, known = parse_array(text), last[job_id]
        if removing:
            # Its runs are partly gone, and its counters count for the totals until it is gone itself.
            findings.removing.add(job_id)
            tasks.subtract(known.values())
            tasks.update(dict(zip(("success", "failed", "cancelled"), counts, strict=True)))
            known.clear()
            continue
        if waiting.get(job_id, 0) != placeless:
            findings.add(f"job {job_id} counts {placeless} runs without a place, it has {waiting.get(job_id, 0)}")
        covered, before, indexes = 0, -1, sorted(known)
        for first, final, state in engine.execute(_RANGES, (job_id,)):
            if first <= before:
                findings.add(f"two ranges of tasks of job {job_id} have the task {first}")
            before = final
            for task in indexes[bisect_left(indexes, first) : bisect_right(indexes, final)]:
                if task in known:
                    tasks[known.pop(task)] -= 1
            count = array.count(first, final)
            covered += count
            findings.ranged[job_id][_UNMADE if state in LIVE else state] += count
            tasks["pending" if state in LIVE else state] += count
        if covered + len(known) != len(array):
            findings.add(f"job {job_id} has {len(array)} tasks, its runs and ranges have {covered + len(known)}")


def _check_jobs(engine: ReadEngine, last: dict[int, dict[int, str]], findings: Findings) -> None:
    for job_id, *counts in _pages(engine, _JOBS):
        tasks = Counter(last.pop(job_id, {}).values()) + findings.ranged.pop(job_id, Counter())
        if job_id in findings.removing:
            continue
        counted = {str(status): count for status, count in zip((*RunStatus, _UNMADE), counts, strict=True) if count}
        if counted != dict(tasks):
            findings.add(f"job {job_id} counts {counted}, its runs are {dict(tasks)}")
    for job_id in last:
        findings.add(f"job {job_id} has runs but does not exist")


def _check_demands(engine: ReadEngine, findings: Findings) -> None:
    if "pending" not in engine.columns("demands"):
        return  # the schema of a release without queues
    counted = {demand_id: (pending, running) for demand_id, pending, running in engine.execute(_DEMAND_RUNS)}
    for demand_id, wish, *counts in _pages(engine, _DEMANDS):
        demand = rows.readable_demand(wish)
        if demand is not None:
            expected = counted.get(demand_id, (0, 0)) if demand.tallied else (0, 0)
            if tuple(counts) != expected:
                findings.add(f"demand {demand_id} counts {tuple(counts)} pending and running runs, it has {expected}")


def _check_dependencies(engine: ReadEngine, findings: Findings) -> None:
    if not engine.columns("dependencies"):
        return  # the schema of a release without them
    for sentence, statement in _UNEXPECTED.items():
        for (number,) in engine.execute(statement):
            findings.add(sentence.format(number))


def _check_schedules(engine: ReadEngine, replayed: dict[int, str], findings: Findings) -> None:
    if "ended_ms" not in engine.columns("jobs"):
        return  # the schema of a release whose schedules can't be paused or ended
    for job_id, state, fires in _pages(engine, _SCHEDULES):
        expected = replayed.get(job_id, "scheduled")
        if state != expected:
            findings.add(f"the schedule of job {job_id} is {state}, but {expected} by its events")
        if fires and state != "scheduled":
            findings.add(f"the schedule of job {job_id} is {state}, but it has a next fire")


def _check_workers(engine: ReadEngine, replayed: dict[str, str], findings: Findings) -> None:
    stored: dict[str, str] = dict(engine.execute("SELECT worker_id, status FROM workers"))
    for worker_id in stored.keys() | replayed.keys():
        status, expected = stored.get(worker_id), replayed.get(worker_id)
        if status != expected:
            findings.add(f"worker {worker_id} is {status}, but {expected} by its events")
