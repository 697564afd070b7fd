"""Ended tasks of arrays that run again: they are unmade once more. Part of the write side (see core.py)."""

from __future__ import annotations

from zsched.model.events import EventKind
from zsched.model.lifecycle import TERMINAL
from zsched.model.types import JobId, Reason, RunStatus
from zsched.store import acts, array_sql, ranges, sql
from zsched.store.arrays import ArrayState
from zsched.store.contract.tasks import Again, TaskStep
from zsched.store.ledger import Shift
from zsched.store.lives import Change
from zsched.store.ranges import Range
from zsched.store.tasks import ALL, Part, TasksWriter


class RerunsWriter(TasksWriter):
    """The part of the role contract.Tasks that is about reruns."""

    def rerun_array(self, job_id: JobId, actor: str, reason: str, now_ms: int) -> bool:
        state = self._array(job_id)
        if state.live:
            return False
        self._ranges.clear(job_id)
        array = state.array
        self._ranges.add(job_id, [Range(array.first, array.last, ranges.UNMADE, 1)])
        gone = Shift(success=-state.success, failed=-state.failed, cancelled=-state.cancelled)
        self._run_again(state, gone, len(array), ALL, Change(at_ms=now_ms, actor=actor, detail=reason))
        return True

    def rerun_tasks(self, again: Again, most: int, actor: str, reason: str, now_ms: int) -> TaskStep:
        job_id, part = again.job_id, again.part
        state = self._array(job_id)
        looked = state.array.take(*part, most)
        if not looked:
            return TaskStep(0, None)
        first, last = looked[0], looked[-1]
        ended: dict[int, tuple[str, str | None]] = {
            task: (status, why)
            for task, status, why in self._execute(array_sql.LAST_STATUSES, (job_id, first, last))
            if RunStatus(status) in TERMINAL
        }
        for span in ranges.overlapping(self._engine, job_id, first, last):
            for task in state.array.take(max(first, span.first), min(last, span.last), most):
                ended.pop(task, None)
                if span.state == ranges.CANCELLED:
                    ended[task] = RunStatus.CANCELLED, span.reason
        if again.failed:
            ended = {task: end for task, end in ended.items() if _has_failed(*end)}
        if ended:
            self._ranges.make_again(job_id, state.array, looked, ended.keys())
            counts = {status: sum(end[0] == status for end in ended.values()) for status in TERMINAL}
            gone = Shift(**{str(status): -count for status, count in counts.items()})
            change = Change(at_ms=now_ms, actor=actor, detail=reason)
            self._run_again(state, gone, len(ended), (min(ended), max(ended)), change)
        return TaskStep(len(ended), last if last < min(part[1], state.array.last) else None)

    def _run_again(self, state: ArrayState, gone: Shift, count: int, part: Part, change: Change) -> None:
        """Tasks of an array, whose ends do not count any more, are unmade again."""
        job_id = state.job_id
        self._ledger.shift(job_id, gone + Shift(unmade=count))
        self._execute(acts.REVIVE_JOB, (job_id,))
        # Those that have failed and are not run again do not count for `max_fails`.
        self._execute(array_sql.FORGIVE, (state.failed + gone.failed, job_id))
        ((unique,),) = self._execute(array_sql.UNIQUE_KEY, (job_id,))
        if unique is not None:
            self._engine.send(sql.HOLD_UNIQUE, (unique, job_id), rows=1)
        self._arrays.add(job_id)
        self._note_tasks(job_id, EventKind.TASKS_RERUN, count, part, change)


def _has_failed(status: str, reason: str | None) -> bool:
    """Whether a task has failed, or was cancelled because others had."""
    return status == RunStatus.FAILED or (status == RunStatus.CANCELLED and reason == Reason.MAX_FAILS)
