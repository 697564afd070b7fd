"""The status of each of many jobs, updated from the events. A call that waits for jobs holds one.

One byte for each job. All jobs are read once; then only jobs of new events are read, so an update costs as much as has
happened since the last one, however many jobs are waited for.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from contextlib import closing
from itertools import accumulate
from typing import Final

from zsched.model.limits import WAIT_EVENTS_MAX
from zsched.model.spans import Span, Spans
from zsched.model.types import JobId, RunStatus
from zsched.store.contract import Reader

# 0: the job was not read, or does not exist.
_CODES: Final = {status: code for code, status in enumerate(RunStatus, 1)}


class Roll:
    """`ids` are the jobs. `next` is the number of the last event that was read."""

    def __init__(self, ids: Spans, after: int) -> None:
        """For the jobs with these ids. The caller knows the events up to `after`."""
        self.ids = ids
        self._firsts = [first for first, _ in ids.spans]
        # The offset of each span in the bytes.
        sizes = (last - first + 1 for first, last in ids.spans)
        *self._begins, total = accumulate(sizes, initial=0)
        self._codes = bytearray(total)
        self.next = after

    def read(self, reader: Reader) -> None:
        """Read the status of every job. Changes meanwhile are in the events after `next`."""
        self.next = reader.last_event()
        for begin, (first, last) in zip(self._begins, self.ids.spans, strict=True):
            with closing(reader.statuses_between(JobId(first), JobId(last))) as found:
                for job_id, status in found:
                    self._codes[begin + job_id - first] = _CODES[status]

    def follow(self, reader: Reader) -> None:
        """Read the jobs of new events, at most WAIT_EVENTS_MAX events."""
        events = reader.jobs_of_events(self.next, WAIT_EVENTS_MAX)
        if not events:
            return
        self.next = events[-1][0]
        for job_id in {job_id for _, job_id in events if job_id is not None}:
            place = bisect_right(self._firsts, job_id) - 1
            if place < 0 or job_id > self.ids.spans[place][1]:
                continue
            # A job that is removed meanwhile becomes an unknown one.
            code = _code(reader.status(job_id))
            self._codes[self._begins[place] + job_id - self._firsts[place]] = code

    def has(self, *statuses: RunStatus | None) -> bool:
        """Whether any of the jobs has one of these statuses. None stands for unknown jobs."""
        return any(self._codes.count(_code(status)) for status in statuses)

    def jobs(self, status: RunStatus | None) -> Spans:
        """The jobs with a status; None stands for unknown jobs."""
        found: list[Span] = []
        if not self.has(status):
            return Spans()
        code = bytes((_code(status),))
        for run in re.finditer(re.escape(code) + b"+", self._codes):
            start, end = run.span()
            # Equal bytes may extend into the next span.
            while start < end:
                place = bisect_right(self._begins, start) - 1
                first, last = self.ids.spans[place]
                shift = first - self._begins[place]
                stop = min(end, last + 1 - shift)
                found.append((start + shift, stop - 1 + shift))
                start = stop
        return Spans(tuple(found))


def _code(status: RunStatus | None) -> int:
    return 0 if status is None else _CODES[status]
