"""The events and counter changes that a turn has gathered, and their one write at its end.

A job's row is written once per turn, however many of its runs changed, and an event is one row of one batch.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from typing import Final, NamedTuple

from msgspec import Struct

from zsched.model.events import Became
from zsched.model.types import DemandId, JobId, RunId, RunStatus
from zsched.store import after, array_sql, sql
from zsched.store.contract import Changes
from zsched.store.engine import Engine, Row
from zsched.store.usage import Usage

_COUNTED: Final = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.SUCCESS, RunStatus.FAILED, RunStatus.CANCELLED)
_PLACE: Final = {status: place for place, status in enumerate(_COUNTED)}


# The lengths of a ledger's lists, and its number of pending tasks.
Mark = tuple[int, int, int, int, int, int, int, int, int]


class Shift(NamedTuple):
    """Changes of the counters of an array, in tasks. `unmade`: tasks without a run, which count as pending in the
    totals. `waiting`: pending runs without a place.
    """

    pending: int = 0
    running: int = 0
    success: int = 0
    failed: int = 0
    cancelled: int = 0
    unmade: int = 0
    waiting: int = 0

    def __add__(self, other: tuple[int, ...]) -> Shift:  # type: ignore[override]
        return Shift(*map(operator.add, self, other))


class Note(Struct, frozen=True, kw_only=True):
    """An event that changes no counter. `became` states what happened, or the state if a run or worker changed it."""

    at_ms: int
    actor: str
    job_id: JobId | None = None
    run_id: RunId | None = None
    worker_id: str | None = None
    was: str | None = None
    became: Became
    reason: str | None = None
    detail: str | None = None


class Ledger:
    """Lists that only grow until they are written, so undoing a part of the turn cuts them back to a mark."""

    def __init__(self) -> None:
        self._events: list[Row] = []
        self._moves: list[tuple[JobId, RunStatus | None, RunStatus]] = []
        # New jobs with a pending task that their rows count already.
        self._made: list[JobId] = []
        self._ends: list[JobId] = []
        # Jobs that run again. Each comes with its owner if `count_metered` counts the job, else with None.
        self._revived: list[tuple[JobId, str | None]] = []
        self._shifts: list[tuple[JobId, Shift]] = []
        # Changes of the numbers of pending and running runs of demands.
        self.tallied: list[tuple[DemandId, int, int]] = []
        self.usage = Usage()
        # By how much the totals have grown, by state, and that is not written yet.
        self._grown = [0] * len(_COUNTED)
        # Change of the number of pending tasks that is not written yet.
        self.pending = 0
        # Whether some ended job may have dependencies that are not handled (store/dependencies.py).
        self.settling = True
        # The events and the jobs that the turn has written so far, and the jobs that have ended.
        self._written: list[Row] = []
        self._counted: set[JobId] = set()
        self._ended: set[JobId] = set()

    def begin(self) -> None:
        """A turn begins: nothing is written yet."""
        self._written.clear()
        self._counted.clear()
        self._ended.clear()
        self.usage.begin()
        self._grown = [0] * len(_COUNTED)

    def changes(self) -> Changes:
        """What the turn has written. An event of several runs stands for runs that were made together."""
        jobs = {JobId(job_id) for _, _, job_id, *_ in self._written if job_id is not None}
        runs = {RunId(first) for _, _, _, first, last, *_ in self._written if first is not None and first == last}
        return Changes(jobs | self._counted, runs, bool(self._written), set(self._ended))

    def add(self, events: Iterable[Row]) -> None:
        """Record events, as the columns of sql.ADD_EVENT."""
        self._events += events

    def count(self, job_ids: Sequence[JobId], was: RunStatus | None, became: RunStatus) -> None:
        """Count for each of the jobs a task that changes its state so. `was` None: the tasks are new."""
        self._moves += [(job_id, was, became) for job_id in job_ids]
        self.pending += len(job_ids) * ((became is RunStatus.PENDING) - (was is RunStatus.PENDING))

    def shift(self, job_id: JobId, shift: Shift) -> None:
        """Count many tasks of an array at once."""
        self._shifts.append((job_id, shift))
        self.pending += shift.pending + shift.unmade

    def note_counted(self, job_ids: Sequence[JobId]) -> None:
        """Each of the jobs is new, and its row counts its pending task."""
        self._made += job_ids
        self.pending += len(job_ids)

    @property
    def counting(self) -> set[JobId]:
        """The jobs whose stored counters, and so their status, are not current."""
        return {job_id for job_id, *_ in self._moves} | {job_id for job_id, _ in self._shifts}

    def touched(self, jobs: set[JobId]) -> set[JobId]:
        """Those of the jobs whose counters this turn has changed."""
        return jobs & (self._counted | self.counting | set(self._made)) if jobs else set()

    def unwritten(self, jobs: Set[JobId]) -> defaultdict[JobId, Shift]:
        """What is not written yet of the changes of these jobs' counters."""
        sums: defaultdict[JobId, Shift] = defaultdict(Shift)
        for job_id, shift in self._shifts:
            if job_id in jobs:
                sums[job_id] += shift
        for job_id, was, became in self._moves:
            if job_id in jobs:
                counts = [0] * len(_COUNTED)
                counts[_PLACE[became]] += 1
                if was is not None:
                    counts[_PLACE[was]] -= 1
                sums[job_id] += (*counts, 0, 0)
        return sums

    def filled(self) -> set[JobId]:
        """Arrays that have got unmade tasks, which their counters do not show yet."""
        return {job_id for job_id, shift in self._shifts if shift.unmade > 0}

    def note_rerun(self, job_id: JobId, metered: str | None) -> None:
        """An ended job runs again. `metered`: its owner, if `count_metered` counts it."""
        self._revived.append((job_id, metered))

    def revived(self) -> set[JobId]:
        """Ended jobs that a rerun of this turn has made live. Their counters do not show it yet."""
        return {job_id for job_id, _ in self._revived}

    def revived_of(self, owner: str) -> int:
        """Number of those that count as pending jobs of an owner."""
        return sum(metered == owner for _, metered in self._revived)

    def note_ends(self, job_ids: Iterable[JobId]) -> None:
        """A task of each of these jobs has ended, or its schedule: the job may have ended."""
        self._ends += job_ids

    def note(self, event: Note) -> None:
        """Record an event that changes no counter."""
        self._events.append(
            (
                event.at_ms, event.actor, event.job_id, event.run_id, event.run_id, event.worker_id, event.was,
                event.became, event.reason, event.detail or None,
            )
        )  # fmt: skip

    def mark(self) -> Mark:
        """The present state of the lists, for `cut`."""
        lists = len(self._events), len(self._moves), len(self._ends), len(self.tallied)
        return *lists, self.pending, len(self.usage), len(self._revived), len(self._shifts), len(self._made)

    def cut(self, mark: Mark = (0, 0, 0, 0, 0, 0, 0, 0, 0)) -> None:
        """Forget what was gathered since the mark."""
        del self._events[mark[0] :]
        del self._moves[mark[1] :]
        del self._ends[mark[2] :]
        del self.tallied[mark[3] :]
        self.pending = mark[4]
        self.usage.cut(mark[5])
        del self._revived[mark[6] :]
        del self._shifts[mark[7] :]
        del self._made[mark[8] :]

    def write(self, engine: Engine, now_ms: int) -> None:
        """Write everything gathered, and start with empty lists."""
        self.end_jobs(engine, now_ms)
        self._write_shifts(engine, now_ms)
        changed = self._sum(self._moves)
        self._counted.update(self._made)
        self._grown[_PLACE[RunStatus.PENDING]] += len(self._made)
        engine.sendmany(sql.COUNT_TASKS, [(*counts, now_ms, job_id) for job_id, counts in changed.items()])
        engine.sendmany(
            sql.ADD_TO_TOTALS, [(more, status) for status, more in zip(_COUNTED, self._grown, strict=True) if more]
        )
        if self.tallied:
            engine.sendmany(sql.COUNT_DEMAND, self._summed_tallies())
        self.usage.write(engine, now_ms)
        if self._events:
            first = engine.take_ids("events", len(self._events))
            engine.sendmany(sql.ADD_EVENT, [(number, *event) for number, event in enumerate(self._events, first)])
        self._written += self._events
        self._grown = [0] * len(_COUNTED)
        self.cut()

    def end_jobs(self, engine: Engine, now_ms: int) -> None:
        """Find which of the jobs with a task that ended have ended themselves: no other place decides that. Writes the
        counters of these jobs, which show it.
        """
        if not self._ends:
            return
        self._write_shifts(engine, now_ms)
        ends = dict.fromkeys(self._ends)
        changed = self._sum([move for move in self._moves if move[0] in ends])
        self._moves = [move for move in self._moves if move[0] not in ends]
        # A schedule may end without a change of a task.
        counted = engine.executemany(sql.COUNT_ENDED, [(*changed[job_id], now_ms, job_id) for job_id in ends])
        settled: list[Row] = []
        for job_id, live, linked, owner_id, queue in counted:
            self.usage.know(job_id, owner_id, queue)
            if not live:
                self._ended.add(job_id)
                if linked:
                    settled.append((job_id,))
        if settled:
            self.settling = True
            engine.sendmany(after.SETTLE, settled)
        self._ends.clear()

    def _write_shifts(self, engine: Engine, now_ms: int) -> None:
        """Write what was counted of arrays by numbers. From now on it counts for the totals."""
        if not self._shifts:
            return
        sums: defaultdict[JobId, Shift] = defaultdict(Shift)
        for job_id, shift in self._shifts:
            sums[job_id] += shift
        engine.sendmany(array_sql.SHIFT_TASKS, [(*shift, now_ms, job_id) for job_id, shift in sums.items()])
        for shift in sums.values():
            for place, more in enumerate((shift.pending + shift.unmade, *shift[1 : len(_COUNTED)])):
                self._grown[place] += more
        self._counted.update(sums)
        self._shifts.clear()

    def _summed_tallies(self) -> list[Row]:
        sums: defaultdict[DemandId, list[int]] = defaultdict(lambda: [0, 0])
        for demand_id, pending, running in self.tallied:
            sums[demand_id][0] += pending
            sums[demand_id][1] += running
        return [(*counts, demand_id) for demand_id, counts in sums.items() if any(counts)]

    def _sum(self, moves: Iterable[tuple[JobId, RunStatus | None, RunStatus]]) -> defaultdict[JobId, list[int]]:
        """The changes of the counters, by job. From now on they count for the totals."""
        changed: defaultdict[JobId, list[int]] = defaultdict(lambda: [0] * len(_COUNTED))
        grown = self._grown
        for job_id, was, became in moves:
            counts = changed[job_id]
            place = _PLACE[became]
            counts[place] += 1
            grown[place] += 1
            if was is not None:
                place = _PLACE[was]
                counts[place] -= 1
                grown[place] -= 1
        self._counted.update(changed)
        return changed
