"""Selectors of jobs: `12`, `3-8`, `1,4,9`, `last`, `all`, and combinations; and of tasks: `12.3`, `12.3-8`, `last.3`.

They are parsed first, so that an invalid one is wrong usage; then `last` and `all` are resolved by the scheduler.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from zsched.commands.exits import NOT_FOUND, Failure
from zsched.model import spans
from zsched.model.limits import SELECTED_JOBS_MAX, SELECTED_TASKS_MAX
from zsched.model.spans import Spans

if TYPE_CHECKING:
    from zsched.client.client import Client
    from zsched.client.task import Task

_FORMS: Final = "12, 3-8, 1,4,9, last or all"
_TASKS: Final = re.compile(r"(last|[0-9]{1,16})\.([0-9]{1,10})(?:-([0-9]{1,10}))?", re.ASCII)


class Tasks(NamedTuple):
    """Tasks of one job, from an index to another, as they are written: `12.3-8`. `job` None: the last job."""

    job: int | None
    first: int
    last: int

    def __str__(self) -> str:
        job = "last" if self.job is None else self.job
        return f"{job}.{self.indexes}"

    @property
    def indexes(self) -> str:
        """The indexes alone: `3` or `3-8`."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


class Selection(NamedTuple):
    """Parsed selectors: numbers of jobs, tasks, and whether `last` and `all` are among them."""

    ids: Spans
    last: bool = False
    every: bool = False
    tasks: tuple[Tasks, ...] = ()


def parse(words: Sequence[str]) -> Selection:
    """Parse selectors. Raises ValueError with a message."""
    parts = [part for word in words for part in word.split(",")]
    tasks = tuple(_tasks(part) for part in parts if "." in part)
    if len(tasks) > SELECTED_TASKS_MAX:
        raise ValueError(f"{len(tasks)} ranges of tasks are too many; name at most {SELECTED_TASKS_MAX}")
    numbers = (part for part in parts if part not in ("last", "all") and "." not in part)
    ids = spans.parse(numbers, SELECTED_JOBS_MAX, _FORMS)
    return Selection(ids, "last" in parts, "all" in parts, tasks)


def _tasks(part: str) -> Tasks:
    match = _TASKS.fullmatch(part)
    if match is None:
        raise ValueError(f"{part!r} names no tasks; write 12.3 or 12.3-8")
    first, last = int(match[2]), int(match[3] or match[2])
    if last < first:
        raise ValueError(f"{part} runs backwards")
    return Tasks(None if match[1] == "last" else int(match[1]), first, last)


def resolve_last(chosen: Selection, client: Client) -> Spans:
    """The selected numbers, with the newest job for `last`. Raises Failure if no job exists."""
    return chosen.ids | spans.of_numbers([newest(client)]) if chosen.last else chosen.ids


def resolve_tasks(chosen: Selection, client: Client) -> list[Tasks]:
    """The selected tasks, with the newest job for `last`. Raises Failure if no job exists."""
    last = newest(client) if any(tasks.job is None for tasks in chosen.tasks) else None
    return [tasks._replace(job=last) if tasks.job is None else tasks for tasks in chosen.tasks]


def tasks_of(client: Client, chosen: Tasks) -> Iterator[Task]:
    """The tasks that a selector with a number names. Raises Failure if there is none of them, NotFound."""
    from zsched.client import task

    assert chosen.job is not None
    found = False
    for each in task.rows(client, chosen.job, first=chosen.first, limit=chosen.last - chosen.first + 1):
        if each.index > chosen.last:
            break
        found = True
        yield each
    if not found:
        raise Failure(f"job {chosen.job} has no task {chosen.indexes}", NOT_FOUND)


def newest(client: Client) -> int:
    """The number of the newest job. Raises Failure if no job exists."""
    job = next(iter(client.jobs(limit=1)), None)
    if job is None:
        raise Failure("there is no last job: none was ever submitted", NOT_FOUND)
    return job.id


def only(chosen: Selection, client: Client) -> int:
    """The number of the single selected job, or of the job of the single selected task."""
    if chosen.tasks:
        job = resolve_tasks(chosen, client)[0].job
        assert job is not None
        return job
    return next(iter(resolve_last(chosen, client)))


def resolve(chosen: Selection, client: Client, owner: str | None = "me") -> Spans:
    """The numbers of the selected jobs. `all` stands for the unfinished jobs of an owner (None: of all owners), except
    those with a schedule. Raises Failure when `last` finds no job.
    """
    ids = resolve_last(chosen, client)
    return ids | client.unfinished(owner) if chosen.every else ids


def single(word: str, *, tasks: bool = False) -> Selection:
    """Parse a selector of exactly one job; or, with `tasks`, of one task. Raises ValueError with a message."""
    try:
        chosen = parse([word])
    except ValueError:
        raise ValueError(f"{word!r} names no job; write its number, or last") from None
    count = len(chosen.ids) + chosen.last + sum(part.last - part.first + 1 for part in chosen.tasks)
    if chosen.every or count != 1:
        raise ValueError(f"{word!r} may name several jobs; name one by its number, or last")
    if chosen.tasks and not tasks:
        raise ValueError(f"{word} names a task; name a job")
    return chosen
