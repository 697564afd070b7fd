"""Arrays: jobs with many tasks, each with an index of its own, written as Slurm writes them: `0-15:4%4`. Pure.

`0-15` has the indexes from 0 to 15, `0-15:4` every fourth of them, `1,3,7-9` some; at most `%4` of the tasks run at
the same time.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, islice
from typing import Annotated, Final

from msgspec import Struct

from zsched.model.fields import Codec, Natural, about
from zsched.model.limits import ARRAY_CHARS_MAX, ARRAY_TASKS_MAX, TASK_INDEX_MAX

_PART: Final = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10})(?::([0-9]{1,10}))?)?", re.ASCII)
_CAP: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_FORMS: Final = "write 0-15, 0-15:4, 1,3,7-9 or 0-15%4"


@dataclass(frozen=True, slots=True)
class TaskArray:
    """The indexes of a job's tasks, as ranges that rise and do not overlap. `cap`: how many tasks may be open at once:
    running, or free to start; None: any number.
    """

    parts: tuple[range, ...]
    cap: int | None = None
    # The first index of each part, and the number of tasks before it and at the end: there may be a thousand parts.
    _firsts: list[int] = field(init=False, repr=False, compare=False)
    _before: list[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_firsts", [part[0] for part in self.parts])
        object.__setattr__(self, "_before", list(accumulate(map(len, self.parts), initial=0)))

    def __len__(self) -> int:
        return self._before[-1]

    def __contains__(self, index: int) -> bool:
        place = bisect_right(self._firsts, index)
        return place > 0 and index in self.parts[place - 1]

    def __iter__(self) -> Iterator[int]:
        for part in self.parts:
            yield from part

    def __str__(self) -> str:
        text = ",".join(map(_part_text, self.parts))
        return text if self.cap is None else f"{text}%{self.cap}"

    @property
    def first(self) -> int:
        return self.parts[0][0]

    @property
    def last(self) -> int:
        return self.parts[-1][-1]

    def position(self, index: int) -> int:
        """The number of tasks whose index is lower."""
        place = bisect_left(self._firsts, index)
        if not place:
            return 0
        part = self.parts[place - 1]
        return self._before[place - 1] + min(len(part), -(-(index - part.start) // part.step))

    def at(self, position: int) -> int | None:
        """The index of the task with this many before it; None: there is no such task."""
        if not 0 <= position < len(self):
            return None
        place = bisect_right(self._before, position) - 1
        return self.parts[place][position - self._before[place]]

    def count(self, first: int, last: int) -> int:
        """The number of tasks with an index from `first` to `last`, both included."""
        return max(0, self.position(last + 1) - self.position(first))

    def take(self, first: int, last: int, most: int) -> list[int]:
        """The lowest indexes from `first` to `last`, both included; at most `most`."""
        taken: list[int] = []
        for part in islice(self.parts, max(0, bisect_right(self._firsts, first) - 1), None):
            if part[0] > last or len(taken) == most:
                break
            begin = -(-(max(first, part.start) - part.start) // part.step)
            taken += [index for index in part[begin : begin + most - len(taken)] if index <= last]
        return taken


def parse_array(text: str) -> TaskArray:
    """Read an array. Only a cap, as `%4`, has no parts. Raises ValueError with a sentence."""
    if len(text) > ARRAY_CHARS_MAX:
        raise ValueError(f"at most {ARRAY_CHARS_MAX} characters")
    indexes, percent, cap_text = text.partition("%")
    if percent and not (_CAP.fullmatch(cap_text) and int(cap_text)):
        raise ValueError(f"%{cap_text} does not name a number of tasks; {_FORMS}")
    parts: list[range] = []
    for part_text in indexes.split(",") if indexes or not percent else ():
        part = _parse_part(part_text)
        if parts and part[0] <= parts[-1][-1]:
            raise ValueError(f"{part_text} does not come after {parts[-1][-1]}: write the indexes in rising order")
        parts.append(part)
    array = TaskArray(tuple(parts), min(int(cap_text), ARRAY_TASKS_MAX) if percent else None)
    if len(array) > ARRAY_TASKS_MAX:
        raise ValueError(f"at most {ARRAY_TASKS_MAX} tasks, not {len(array)}")
    return array


def _parse_part(text: str) -> range:
    match = _PART.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} names no tasks; {_FORMS}")
    first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
    if last > TASK_INDEX_MAX:
        raise ValueError(f"the highest index is {TASK_INDEX_MAX}")
    if last < first:
        raise ValueError(f"{text} runs backwards")
    if not step:
        raise ValueError(f"{text} has the step 0; {_FORMS}")
    part = range(first, last + 1, step)
    return range(first, part[-1] + 1, step) if len(part) > 1 else range(first, first + 1)


def _part_text(part: range) -> str:
    if len(part) == 1:
        return str(part[0])
    return f"{part[0]}-{part[-1]}" + (f":{part.step}" if part.step > 1 else "")


# Most jobs have one of a few arrays, or none.
read_array: Final = lru_cache(maxsize=1_024)(parse_array)
ARRAY_CODEC: Final = Codec(read=read_array, write=str, show=str, shown=str)


class Progress(Struct, frozen=True):
    """How many tasks of an array are in each state, each by its last run."""

    total: Annotated[Natural, about("All of them.")]
    pending: Annotated[Natural, about("Not started, or to be run again.")]
    running: Annotated[Natural, about("Running.")]
    success: Annotated[Natural, about("Ended well.")]
    failed: Annotated[Natural, about("Failed for good.")]
    cancelled: Annotated[Natural, about("Cancelled.")]


def read_progress(text: str) -> Progress:
    """Counters as the store has them: unmade, pending, running, success, failed, cancelled."""
    unmade, pending, *others = map(int, text.split())
    return Progress(unmade + pending + sum(others), unmade + pending, *others)


PROGRESS: Final = Codec(read=read_progress)
