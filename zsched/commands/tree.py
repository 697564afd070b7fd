"""A flow as a tree on the terminal: each job below the last of those that it waits for, with its state."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from zsched.commands.exits import describe_end
from zsched.commands.text import line

if TYPE_CHECKING:
    from zsched.client.client import Job

# Of this number of jobs in a row with the same parent and state, and none below them, only the first ones are shown.
_ALIKE: Final = 6
_FIRST: Final = 2
# The widest indent.
_INDENT: Final = 36
# Parents that a line names.
_NAMED: Final = 3
_STATUSES: Final = ("running", "pending", "failed", "cancelled", "success")


def parents(job: Job, known: Mapping[int, Job]) -> list[Job]:
    """The jobs of the same flow that a job waits for, in order, each once. It may wait for single tasks: `12.3:any`."""
    numbers = dict.fromkeys(int(re.split("[.:]", entry)[0]) for entry in job.view.get("after", ()))
    return [known[number] for number in numbers if number in known]


def head(flow: int, jobs: Sequence[Job]) -> str:
    """The first line: how many jobs are in which state."""
    counts = Counter(job.status for job in jobs)
    states = ", ".join(f"{counts[status]} {status}" for status in _STATUSES if counts[status])
    return f"flow {flow}: {len(jobs)} job{'s' * (len(jobs) > 1)}, {states}"


def lines(jobs: Sequence[Job]) -> Iterator[str]:
    """The lines of the tree. `jobs`: all of a flow in the order of their numbers, so parents come first."""
    known = {job.id: job for job in jobs}
    below: dict[int | None, list[Job]] = defaultdict(list)
    for job in jobs:
        above = parents(job, known)
        below[max((parent.id for parent in above), default=None)].append(job)
    rows = list(_rows(below, known))
    width = max(len(label) for label, _, _ in rows)
    digits = max(len(number) for _, number, _ in rows)
    for label, number, state in rows:
        yield f"{label:<{width}}  {number:>{digits}}  {state}".rstrip()


def _rows(below: Mapping[int | None, Sequence[Job]], known: Mapping[int, Job]) -> Iterator[tuple[str, str, str]]:
    """Label, number and state of each line. Without recursion: a chain may have thousands of jobs."""
    left = [(jobs, more, "", "") for jobs, more in _gathered(below.get(None, ()), below)][::-1]
    while left:
        jobs, more, mark, indent = left.pop()
        job = jobs[0]
        if more:
            yield f"{mark}… {len(jobs)} more", "", job.status
            continue
        yield f"{mark}{line(job.name)}", str(job.id), describe_end(job) + _others(job, known)
        children = list(_gathered(below.get(job.id, ()), below))
        for place, (some, rest) in reversed(list(enumerate(children, 1))):
            last = place == len(children)
            # Deeper jobs stand under each other.
            deeper = indent + ("   " if last else "│  ") if len(indent) < _INDENT else indent
            left.append((some, rest, indent + ("└─ " if last else "├─ "), deeper))


def _gathered(jobs: Sequence[Job], below: Mapping[int | None, Sequence[Job]]) -> Iterator[tuple[Sequence[Job], bool]]:
    """Jobs one by one; of many that are alike, the first ones, and then the others together."""

    def kind(job: Job) -> object:
        return job.id if below.get(job.id) else job.status

    for _, group in groupby(jobs, kind):
        alike = list(group)
        single = len(alike) if len(alike) < _ALIKE else _FIRST
        for job in alike[:single]:
            yield [job], False
        if alike[single:]:
            yield alike[single:], True


def _others(job: Job, known: Mapping[int, Job]) -> str:
    """What else a job waits for, where that is more than the job above it."""
    above = parents(job, known)
    if len(above) < 2:
        return ""
    names = [line(parent.name) for parent in above[:_NAMED]]
    more = len(above) - len(names)
    return f"  (after {', '.join(names)}{f' and {more} more' if more else ''})"
