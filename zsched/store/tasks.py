"""Tasks of arrays: they become runs in bounded turns, and callers act on some of them. Part of the write side
(see core.py).

A task is **open** while its run is running or free to start. The array's cap bounds how many are open, and only some
thousand runs wait for workers at a time; the other tasks are ranges of indexes in one table. So a million tasks
cost no more than a few rows until they start, and an act on all of them changes few rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from zsched.model.after import Ends
from zsched.model.arrays import TaskArray, read_array
from zsched.model.blocked import Blocked
from zsched.model.events import EventKind
from zsched.model.lifecycle import Cause
from zsched.model.limits import DEMANDS_MAX, TASK_INDEX_MAX, TASKS_AHEAD_MAX
from zsched.model.types import DemandId, JobId, JobSpec, Reason, RunId, WorkerId
from zsched.model.units import counted
from zsched.store import array_sql, ranges, sql, transitions
from zsched.store.arrays import ArrayState
from zsched.store.contract import Cancelled
from zsched.store.engine import Row
from zsched.store.ledger import Note, Shift
from zsched.store.lives import PENDING, RUNNING, Change, Lives
from zsched.store.ranges import Range, Ranges

# The first and the last index of some tasks, both included; and all tasks of an array.
Part = tuple[int, int]
ALL: Final = (0, TASK_INDEX_MAX)


class TasksWriter(Lives):
    """The role contract.Tasks."""

    @property
    def _ranges(self) -> Ranges:
        return Ranges(self._engine)

    def _add_tasks(self, job_id: JobId, spec: JobSpec, actor: str, now_ms: int) -> None:
        """Store the tasks of a new array, all unmade, and their entries."""
        array = spec.array
        assert array is not None
        follows = any(dependency.ends is Ends.SAME for dependency in spec.after)
        self._ranges.add(job_id, [Range(array.first, array.last, ranges.WAITS if follows else ranges.UNMADE)])
        if spec.each is not None:
            # One by one: a block may have a megabyte.
            for first, packed in spec.each.blocks:
                self._engine.send(array_sql.ADD_ENTRIES, (job_id, first, packed), rows=1)
        self._ledger.shift(job_id, Shift(unmade=len(array)))
        self._arrays.submitted(job_id, actor, spec.blocked_at(now_ms) & ~(Blocked.LIMITED | Blocked.PARENTS))

    # --- tasks become runs ---

    def make_tasks(self, now_ms: int, most: int) -> bool:
        self._arrays.stir_late(now_ms)
        self._arrays.stir_crowded(DEMANDS_MAX - self._tallies.live)
        states = self._arrays.states(self._arrays.take())
        # All are looked at: the end of an array must not wait until others have made their tasks.
        for state in states:
            self._arrays.note(state, now_ms)
            if not state.live:
                self._arrays.ended(state.job_id)
            elif state.spent:
                self._give_up(state, now_ms)
            elif self._is_late(state, now_ms):
                self._expire_unmade(state, now_ms)
            elif state.is_short and self._is_crowded(state):
                self._arrays.crowd(state.job_id)
            elif state.is_short:
                if most > 0:
                    most -= self._fill(state, most, now_ms)
                if most <= 0:
                    self._arrays.stir([state.job_id])
        self._arrays.new.clear()
        return most <= 0

    def tasks_short(self) -> bool:
        touched = self._arrays.states(self._arrays.touched())
        short = [state.job_id for state in touched if state.is_short and self._has_more(state.job_id)]
        self._arrays.stir(short)
        return bool(short)

    def _is_crowded(self, state: ArrayState) -> bool:
        """Whether runs of an array would be of one kind too many: a submit counts only the kinds that have runs."""
        demand_id = DemandId(state.demand_id)
        if not self._demand(demand_id).tallied or self._tallies.is_live(demand_id):
            return False
        return self._tallies.live >= DEMANDS_MAX

    def _has_more(self, job_id: JobId) -> bool:
        """Whether an array has tasks to be made, or runs that wait for a place alone."""
        return self._ranges.lowest(job_id) is not None or bool(self._execute(array_sql.PLACELESS, (job_id,)))

    def _fill(self, state: ArrayState, most: int, now_ms: int) -> int:
        """Give runs of an array places, then make more runs. Returns the number of rows changed."""
        job_id, changed = state.job_id, 0
        if state.waiting:
            placed = len(self._execute(array_sql.GIVE_PLACES, (job_id, min(state.places, most))))
            self._ledger.shift(job_id, Shift(waiting=-placed))
            self._ahead.waiting = None
            changed = placed
        actor, blocked = self._arrays.new.get(job_id, ("scheduler", Blocked.DATE))
        room = min(state.places, state.rows, most) - changed
        if state.run_at_ms is None or state.run_at_ms <= now_ms:
            blocked = 0
        elif state.unmade:
            # They take no places, but a submit must not make more of them than others.
            room = min(TASKS_AHEAD_MAX - state.pending, most)
            blocked |= Blocked.CAP
        while room > 0 and (span := self._ranges.lowest(job_id)) is not None:
            made = state.array.take(span.first, span.last, room)
            following = state.array.take(made[-1] + 1, span.last, 1)
            self._ranges.begin_later(job_id, span, following[0] if following else None)
            self._make_tasks(state, made, span.again, blocked, actor, now_ms)
            room -= len(made)
            changed += len(made)
        return changed

    def _make_tasks(
        self, state: ArrayState, tasks: Sequence[int], again: int, blocked: int, actor: str, now_ms: int
    ) -> None:
        """Make the next runs of some tasks."""
        job_id, demand_id = state.job_id, state.demand_id
        attempts: dict[int, int] = {}
        expires_ms = state.deadline_ms
        if again:
            attempts = dict(self._execute(array_sql.ATTEMPTS, (job_id, tasks[0], tasks[-1])))
            if expires_ms is not None and expires_ms <= now_ms:
                expires_ms = None
        due_ms = state.run_at_ms if blocked else None
        waiting = blocked & Blocked.CAP
        if self._demand(DemandId(demand_id)).limits:
            blocked |= Blocked.LIMITED
        values: Row = (demand_id, state.priority, now_ms, blocked, due_ms, expires_ms)
        new = [(job_id, demand_id, (job_id, task, attempts.get(task, 1), *values)) for task in tasks]
        cause = Cause.RERUN if again else Cause.SUBMIT
        self._make(cause, transitions.ADD_TASK, new, Change(at_ms=now_ms, actor=actor))
        self._ledger.shift(job_id, Shift(unmade=-len(tasks), waiting=len(tasks) if waiting else 0))

    # --- tasks end without a run ---

    def _is_late(self, state: ArrayState, now_ms: int) -> bool:
        """Whether the unmade tasks of an array have missed its deadline. It does not count for those that run again."""
        if not state.unmade or state.deadline_ms is None or state.deadline_ms > now_ms:
            return False
        return not self._execute(array_sql.RUNS_AGAIN, (state.job_id,))

    def _expire_unmade(self, state: ArrayState, now_ms: int) -> None:
        change = Change(at_ms=now_ms, detail="they had not started at the deadline")
        self._end_unmade(state.job_id, state.array, ALL, Reason.EXPIRED, change)

    def _give_up(self, state: ArrayState, now_ms: int) -> None:
        """Cancel the tasks of an array that have not started: too many have failed."""
        assert state.max_fails is not None
        detail = f"more than {counted(state.max_fails, 'task')} of its array had failed"
        change = Change(at_ms=now_ms, detail=detail)
        # Each of its running tasks that ends comes here once more.
        if state.pending:
            values = (detail, now_ms, state.job_id, *ALL)
            self._move((PENDING, Cause.GIVE_UP), transitions.GIVE_UP_TASKS, values, change)
        if state.unmade:
            self._end_unmade(state.job_id, state.array, ALL, Reason.MAX_FAILS, change)

    def _end_unmade(
        self,
        job_id: JobId,
        array: TaskArray,
        part: Part,
        reason: Reason,
        change: Change,
        was: Collection[str] = ranges.LIVE,
    ) -> int:
        """End those tasks of a part that have no live run; returns their number. They are cancelled, or fail by a
        dependency, a deadline or a restore. No other place ends tasks without a run. `was`: only ranges in these
        states.
        """
        fails = reason is not Reason.CANCELLED and reason is not Reason.MAX_FAILS
        kind = EventKind.TASKS_FAILED if fails else EventKind.TASKS_CANCELLED
        state = ranges.FAILED if fails else ranges.CANCELLED
        count = self._ranges.change(job_id, array, part, was, (state, None, reason))
        if count:
            self._ledger.shift(job_id, Shift(unmade=-count, failed=count * fails, cancelled=count * (not fails)))
            self._ledger.note_ends([job_id])
            self._settle_part(job_id, part)
            self._note_tasks(job_id, kind, count, part, change, reason)
        return count

    def _note_tasks(
        self,
        job_id: JobId,
        kind: EventKind,
        count: int,
        part: Part,
        change: Change,
        reason: str | None = None,
    ) -> None:
        """The event of an act on tasks of an array."""
        within = "" if part == ALL else f" from {part[0]} to {part[1]}" if part[0] < part[1] else f": {part[0]}"
        detail = f"{counted(count, 'task')}{within}" + (f"; {change.detail}" if change.detail else "")
        note = Note(at_ms=change.at_ms, actor=change.actor, job_id=job_id, became=kind, reason=reason, detail=detail)
        self._ledger.note(note)

    def _restore_tasks(self, lease_ms: int, detail: str, now_ms: int) -> None:
        for state in self._arrays.states(self._arrays.live()):
            demand = self._demand(DemandId(state.demand_id))
            if not state.unmade or (state.run_at_ms or 0) > now_ms:
                continue
            if demand.once:
                change = Change(at_ms=now_ms, detail=detail)
                self._end_unmade(state.job_id, state.array, ALL, Reason.WORKER_LOST, change)
            elif demand.leased and lease_ms:
                self._execute(array_sql.START_LATER, (now_ms + lease_ms, state.job_id))

    # --- what callers do ---

    def _tasks_of(self, job_id: JobId) -> TaskArray:
        """The tasks of an array, which never change. Its state costs a look at all that the turn has changed."""
        return read_array(self._execute(array_sql.TASK_ARRAY, (job_id,))[0][0])

    def _array(self, job_id: JobId) -> ArrayState:
        (state,) = self._arrays.states([job_id])
        return state

    def cancel_tasks(
        self, job_id: JobId, actor: str, now_ms: int, reason: str = "", part: Part | None = None
    ) -> Cancelled:
        change = Change(at_ms=now_ms, actor=actor, detail=reason)
        tasks: Row = (job_id, *(part or ALL))
        pending = self._move((PENDING, Cause.CANCEL), transitions.CANCEL_TASKS, (actor, now_ms, now_ms, *tasks), change)
        running = self._execute(transitions.RUNNING_TASKS, tasks)
        unmade = self._end_unmade(job_id, self._tasks_of(job_id), part or ALL, Reason.CANCELLED, change)
        if part is None and (pending or running or unmade):
            self._execute(sql.MARK_JOB_CANCELLED, (actor, now_ms, reason or None, now_ms, job_id))
        if running:
            marks = (actor, now_ms, *tasks)
            self._move((RUNNING, Cause.CANCEL), transitions.MARK_TASKS_CANCELLED, marks, change, running)
        live = [(WorkerId(worker_id), RunId(run_id)) for run_id, _, worker_id, *_ in running]
        return Cancelled(len(pending) + unmade, live)

    def hold_tasks(self, job_id: JobId, part: Part, actor: str, reason: str, now_ms: int) -> int:
        runs = self._close_tasks(job_id, part)
        count = self._ranges.change(job_id, self._tasks_of(job_id), part, {ranges.UNMADE}, (ranges.HELD, None, None))
        change = Change(at_ms=now_ms, actor=actor, detail=reason)
        if runs + count:
            self._note_tasks(job_id, EventKind.TASKS_HELD, runs + count, part, change)
        return runs + count

    def _close_tasks(self, job_id: JobId, part: Part = ALL) -> int:
        """Hold the live runs of tasks; returns their number. They lose their places."""
        self._ahead.waiting = None
        tasks = (job_id, *part)
        left = self._execute(array_sql.LEAVE_PLACES, tasks)
        self._ledger.shift(job_id, Shift(waiting=len(left)))
        return len(self._execute(array_sql.HOLD_TASKS, tasks))

    def release_tasks(self, job_id: JobId, part: Part, actor: str, reason: str, now_ms: int) -> int:
        count = self._open_tasks(job_id, part)
        if count:
            change = Change(at_ms=now_ms, actor=actor, detail=reason)
            self._note_tasks(job_id, EventKind.TASKS_RELEASED, count, part, change)
        return count

    def _open_tasks(self, job_id: JobId, part: Part = ALL) -> int:
        """Release tasks; returns their number. Their runs wait for places, which the turn's tick gives them."""
        self._arrays.stir([job_id])
        runs = len(self._execute(array_sql.RELEASE_TASKS, (job_id, *part)))
        array = self._tasks_of(job_id)
        return runs + self._ranges.change(job_id, array, part, {ranges.HELD}, (ranges.UNMADE, None, None))
