"""Which arrays are live, and which of them may have room for more of their tasks. Part of the write side (see core.py).

Most turns change few arrays, so only those are looked at. The sets are remembered from turn to turn; after a rollback
they are read again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import Struct

from zsched.model.arrays import TaskArray, read_array
from zsched.model.limits import TASKS_AHEAD_MAX, TASKS_PENDING_MAX
from zsched.model.types import JobId
from zsched.store import array_sql
from zsched.store.blocks import Blocks
from zsched.store.engine import Engine, Row
from zsched.store.ledger import Ledger


class ArrayState(Struct, frozen=True, kw_only=True):
    """An array in this turn. `goes_on`: more of its tasks may be made."""

    job_id: JobId
    array: TaskArray
    demand_id: int
    priority: int
    goes_on: bool
    run_at_ms: int | None
    deadline_ms: int | None
    max_fails: int | None
    forgiven: int
    unmade: int
    pending: int
    running: int
    waiting: int
    success: int
    failed: int
    cancelled: int

    @property
    def live(self) -> bool:
        return self.pending + self.running + self.unmade > 0

    @property
    def spent(self) -> bool:
        """Whether more tasks have failed than may."""
        return self.max_fails is not None and self.failed - self.forgiven > self.max_fails

    @property
    def ready(self) -> int:
        """Its runs that a worker may get."""
        return self.pending - self.waiting

    @property
    def places(self) -> int:
        """How many more tasks may be open now."""
        free = TASKS_AHEAD_MAX - self.ready
        return free if self.array.cap is None else min(free, self.array.cap - self.ready - self.running)

    @property
    def is_short(self) -> bool:
        """Whether more of its tasks should be made or get a place. Not for each run that starts: many at once cost
        less.
        """
        if not self.goes_on or not (self.unmade or self.waiting):
            return False
        return self.places > 0 and 2 * self.ready <= TASKS_AHEAD_MAX

    @property
    def rows(self) -> int:
        """How many more runs it may have."""
        return TASKS_PENDING_MAX - self.pending


class Arrays:
    """The live arrays."""

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self._engine = engine
        self._ledger = ledger
        # The live arrays, and perhaps some that have ended; None: they are to be read.
        self._live: set[JobId] | None = None
        # Those to look at.
        self._stirred: set[JobId] = set()
        # Those whose tasks would be of one kind more than there may be (DEMANDS_MAX).
        self._crowded: set[JobId] = set()
        # Deadlines of live arrays with unmade tasks.
        self._deadlines: dict[JobId, int] = {}
        # Those that this turn has submitted: the actor, and the bits of Blocked of their first runs.
        self.new: dict[JobId, tuple[str, int]] = {}
        self.blocks = Blocks(engine)

    def __contains__(self, job_id: JobId) -> bool:
        return job_id in self._known()

    def _known(self) -> set[JobId]:
        if self._live is None:
            stored = self._engine.execute(array_sql.LIVE_ARRAYS)
            self._live = {JobId(job_id) for job_id, _ in stored}
            self._deadlines = {JobId(job_id): late_ms for job_id, late_ms in stored if late_ms is not None}
            # Also those that this turn has submitted or run again.
            self._live |= self._ledger.filled()
            self._stirred |= self._live
        return self._live

    def live(self) -> set[JobId]:
        """All live arrays, and perhaps some that have ended."""
        return set(self._known())

    def add(self, job_id: JobId) -> None:
        """The job is live now."""
        self._known().add(job_id)
        self._stirred.add(job_id)

    def submitted(self, job_id: JobId, actor: str, blocked: int) -> None:
        self.new[job_id] = actor, blocked
        self.add(job_id)

    def stir(self, jobs: Iterable[JobId]) -> None:
        """These may have room for more tasks."""
        self._stirred.update(jobs)

    def ended(self, job_id: JobId) -> None:
        self._known().discard(job_id)

    def note(self, state: ArrayState, now_ms: int) -> None:
        """An array was looked at."""
        if state.unmade and state.deadline_ms is not None and state.deadline_ms > now_ms:
            self._deadlines[state.job_id] = state.deadline_ms
        else:
            self._deadlines.pop(state.job_id, None)

    def crowd(self, job_id: JobId) -> None:
        """An array waits until there may be one kind of runs more."""
        self._crowded.add(job_id)

    def stir_crowded(self, room: int) -> None:
        """There may be some more kinds of runs."""
        if self._crowded and room > 0:
            chosen = sorted(self._crowded)[:room]
            self._crowded.difference_update(chosen)
            self._stirred.update(chosen)

    def stir_late(self, now_ms: int) -> None:
        """Tasks whose deadline has come are ended, whatever they wait for."""
        self._known()
        for job_id in [job_id for job_id, late_ms in self._deadlines.items() if late_ms <= now_ms]:
            del self._deadlines[job_id]
            self._stirred.add(job_id)

    def undo(self) -> None:
        """A part of the turn was undone: what it has submitted does not exist, and its number may be given to a job
        without an array.
        """
        if self.new:
            self._live = None

    def clear(self) -> None:
        """The turn was undone."""
        self._live = None
        self._stirred.clear()
        self._crowded.clear()
        self.new.clear()

    def take(self) -> set[JobId]:
        """The arrays to look at: those that this turn has changed or stirred."""
        known = self._known()
        taken = (self._stirred & known) | self._ledger.touched(known)
        self._stirred.clear()
        return taken

    def touched(self) -> set[JobId]:
        """The arrays that this turn has changed."""
        return self._ledger.touched(self._known())

    def states(self, jobs: Collection[JobId]) -> list[ArrayState]:
        """How the arrays among these jobs are in this turn, best first."""
        if not jobs:
            return []
        rows = self._engine.execute_list(array_sql.STATES, [(job_id,) for job_id in sorted(jobs)])
        unwritten = self._ledger.unwritten({row[0] for row in rows})
        states = [_state(row, unwritten[row[0]]) for row in rows]
        states.sort(key=lambda state: (-state.priority, state.job_id))
        return states


def _state(row: Row, shift: tuple[int, ...]) -> ArrayState:
    """A row of array_sql.STATES, with what is not written yet."""
    job_id, text, demand_id, priority, goes_on, run_at_ms, deadline_ms, max_fails, forgiven, *counts = row
    pending, running, success, failed, cancelled, unmade, waiting = shift
    return ArrayState(
        job_id=JobId(job_id),
        array=read_array(text),
        demand_id=demand_id,
        priority=priority,
        goes_on=bool(goes_on),
        run_at_ms=run_at_ms,
        deadline_ms=deadline_ms,
        max_fails=max_fails,
        forgiven=forgiven,
        unmade=counts[0] + unmade,
        pending=counts[1] + pending,
        running=counts[2] + running,
        waiting=counts[3] + waiting,
        success=counts[4] + success,
        failed=counts[5] + failed,
        cancelled=counts[6] + cancelled,
    )
