"""Tasks of arrays that are neither live nor described by their last run, as ranges of indexes. See 0021_arrays.sql."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from zsched.model.arrays import TaskArray
from zsched.model.limits import RANGES_MERGED_MAX
from zsched.model.types import JobId, RunStatus
from zsched.store import array_sql
from zsched.store.engine import Engine, ReadEngine, Row

# States of ranges.
UNMADE: Final = "unmade"
HELD: Final = "held"
WAITS: Final = "waits"
CANCELLED: Final = "cancelled"
FAILED: Final = "failed"
# The final status of the tasks of a range, by its state.
ENDS: Final = {CANCELLED: RunStatus.CANCELLED, FAILED: RunStatus.FAILED}
# Those whose tasks have not ended.
LIVE: Final = frozenset({UNMADE, HELD, WAITS})


class Range(NamedTuple):
    """Tasks from `first` to `last`, both included. `again`: they may have earlier runs. `reason`: of their end."""

    first: int
    last: int
    state: str
    again: int = 0
    reason: str | None = None

    def follows(self, other: Range, array: TaskArray) -> bool:
        """Whether the tasks are those after the other's, and in the same state."""
        return self[2:] == other[2:] and array.count(other.last + 1, self.first) == 1


def overlapping(engine: ReadEngine, job_id: JobId, first: int, last: int) -> list[Range]:
    """The ranges with a task from `first` to `last`, in order."""
    found = [Range(*row) for row in engine.execute(array_sql.RANGES, (job_id, last, job_id, first))]
    return [span for span in found if span.last >= first]


class Ranges:
    """Reads and changes the ranges of arrays."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def lowest(self, job_id: JobId) -> Range | None:
        """The first range of tasks that may be made."""
        stored = self._engine.execute(array_sql.LOWEST_RANGE, (job_id, job_id))
        return Range(*stored[0]) if stored else None

    def begin_later(self, job_id: JobId, span: Range, first: int | None) -> None:
        """The tasks of a range up to this one were made; None: all of them."""
        if first is None:
            self._engine.send(array_sql.DELETE_RANGES, (job_id, span.first, span.first), rows=1)
        else:
            self._engine.send(array_sql.BEGIN_LATER, (first, job_id, span.first), rows=1)

    def add(self, job_id: JobId, spans: Sequence[Range]) -> None:
        self._engine.sendmany(array_sql.ADD_RANGE, [(job_id, *span) for span in spans])

    def change(self, job_id: JobId, array: TaskArray, part: tuple[int, int], was: Collection[str], became: Row) -> int:
        """Give the tasks of a part that are in one of some states another one: state, `again` and reason. None for
        `again`: as before. Returns their number.
        """
        first, last = part
        if first <= array.first and last >= array.last and self._has_many(job_id):
            return self._change_all(job_id, array, was, became)
        old = self._with_neighbours(job_id, array, first, last)
        state, again, reason = became
        new: list[Range] = []
        changed = 0
        for span in old:
            cut = (max(first, span.first), min(last, span.last))
            count = array.count(*cut) if span.state in was else 0
            if not count:
                new.append(span)
                continue
            changed += count
            inside = array.take(*cut, 1)[0], _last(array, *cut)
            if (left := array.count(span.first, inside[0] - 1)) > 0:
                new.append(span._replace(last=_at(array, array.position(span.first) + left - 1)))
            new.append(Range(*inside, state, span.again if again is None else again, reason))
            if array.count(inside[1] + 1, span.last) > 0:
                new.append(span._replace(first=array.take(inside[1] + 1, span.last, 1)[0]))
        if changed:
            self._replace(job_id, old, _merged(new, array))
        return changed

    def _has_many(self, job_id: JobId) -> bool:
        ((count,),) = self._engine.execute(array_sql.COUNT_RANGES, (job_id, RANGES_MERGED_MAX))
        return bool(count == RANGES_MERGED_MAX)

    def _change_all(self, job_id: JobId, array: TaskArray, was: Collection[str], became: Row) -> int:
        """As `change`, for all tasks of an array, without reading each range."""
        of_job: Row = (job_id, *(sorted(was) * len(LIVE))[: len(LIVE)])
        if len(array.parts) == 1:
            changed = int(self._engine.execute(array_sql.COUNT_TASKS, (array.parts[0].step, *of_job))[0][0])
        else:
            changed = sum(array.count(*span) for span in self._engine.execute(array_sql.SPANS, of_job))
        if changed:
            self._engine.execute(array_sql.CHANGE_ALL, (*became, *of_job))
        return changed

    def make_again(self, job_id: JobId, array: TaskArray, part: Sequence[int], chosen: Collection[int]) -> None:
        """The chosen ones of some neighbouring tasks are unmade again."""
        first, last = part[0], part[-1]
        old = self._with_neighbours(job_id, array, first, last)
        states: dict[int, Row] = {}
        new: list[Range] = []
        for span in old:
            if array.count(span.first, first - 1):
                new.append(span._replace(last=_last(array, span.first, min(span.last, first - 1))))
            if array.count(last + 1, span.last):
                new.append(span._replace(first=array.take(max(span.first, last + 1), span.last, 1)[0]))
            inside = array.take(max(first, span.first), min(last, span.last), len(part))
            states |= dict.fromkeys(inside, span[2:])
        states |= dict.fromkeys(chosen, (UNMADE, 1, None))
        new += [Range(task, task, *state) for task, state in states.items()]
        self._replace(job_id, old, _merged(sorted(new, key=_first), array))

    def _with_neighbours(self, job_id: JobId, array: TaskArray, first: int, last: int) -> list[Range]:
        """The ranges of some tasks, and those that they may continue."""
        lowest, highest = array.at(array.position(first) - 1), array.at(array.position(last + 1))
        return overlapping(
            self._engine, job_id, first if lowest is None else lowest, last if highest is None else highest
        )

    def clear(self, job_id: JobId) -> None:
        self._engine.execute(array_sql.DELETE_RANGES, (job_id, 0, 2**62))

    def _replace(self, job_id: JobId, old: Sequence[Range], new: Sequence[Range]) -> None:
        if old:
            self._engine.send(array_sql.DELETE_RANGES, (job_id, old[0].first, old[-1].first), rows=len(old))
        self.add(job_id, new)


def _first(span: Range) -> int:
    return span.first


def _merged(spans: Sequence[Range], array: TaskArray) -> list[Range]:
    merged: list[Range] = []
    for span in spans:
        if merged and span.follows(merged[-1], array):
            merged[-1] = merged[-1]._replace(last=span.last)
        else:
            merged.append(span)
    return merged


def _last(array: TaskArray, first: int, last: int) -> int:
    """The highest index of a part that has one."""
    return _at(array, array.position(first) + array.count(first, last) - 1)


def _at(array: TaskArray, position: int) -> int:
    index = array.at(position)
    assert index is not None
    return index
