"""Selectors of jobs, `12`, `3-8`, `1,4,9`, `flow:12`, `last`, `all`, and of tasks, `12.3`, `12.3-8`, `last.3`.

They are parsed first, so that an invalid one is wrong usage; then the scheduler resolves flows, `last` and `all`.
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
    from zsched.client.http import View
    from zsched.client.task import Task

_FORMS: Final = "12, 3-8, 1,4,9, flow:12, last or all"
# What a selector of a flow begins with.
_FLOW: Final = "flow:"
_NUMBER: Final = re.compile("[1-9][0-9]{0,15}", re.ASCII)
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
    """Parsed selectors: numbers of jobs, whether `last` and `all` are among them, numbers of flows, and tasks."""

    ids: Spans
    last: bool = False
    every: bool = False
    flows: Spans = Spans()
    tasks: tuple[Tasks, ...] = ()


def parse(words: Sequence[str]) -> Selection:
    """Parse selectors. Raises ValueError with a message."""
    parts = [part for word in words for part in word.split(",")]
    flows = [part.removeprefix(_FLOW) for part in parts if part.startswith(_FLOW)]
    for number in flows:
        if not _NUMBER.fullmatch(number):
            raise ValueError(f"{_FLOW + number!r} names no flow; write {_FORMS}")
    parts = [part for part in parts if not part.startswith(_FLOW)]
    tasks = tuple(_tasks(part) for part in parts if "." in part)
    if len(tasks) > SELECTED_TASKS_MAX:
        raise ValueError(f"{len(tasks)} ranges of tasks are too many; name at most {SELECTED_TASKS_MAX}")
    numbers = (part for part in parts if part not in ("last", "all") and "." not in part)
    ids = spans.parse(numbers, SELECTED_JOBS_MAX, _FORMS)
    return Selection(ids, "last" in parts, "all" in parts, spans.of_numbers(map(int, flows)), tasks)


def _tasks(part: str) -> Tasks:
    match = _TASKS.fullmatch(part)
    if match is None:
        raise ValueError(f"{part!r} names no tasks; write 12.3 or 12.3-8")
    first, last = int(match[2]), int(match[3] or match[2])
    if last < first:
        raise ValueError(f"{part} runs backwards")
    return Tasks(None if match[1] == "last" else int(match[1]), first, last)


def resolve_last(chosen: Selection, client: Client) -> Spans:
    """The selected numbers, with the jobs of flows, and the newest job for `last`. Raises Failure if no job exists, and
    NotFound for a flow that does not exist.
    """
    ids = chosen.ids
    for flow in chosen.flows:
        ids |= of_flow(client.flow(flow))
    return ids | spans.of_numbers([newest(client)]) if chosen.last else ids


def of_flow(view: View) -> Spans:
    """The jobs of a flow as REST shows it."""
    return spans.parse(view["jobs"]["jobs"].split(","), SELECTED_JOBS_MAX)


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


def single_flow(word: str) -> Selection | None:
    """Parse a selector of one flow; None for another selector. Raises ValueError with a message for an invalid flow."""
    return parse([word]) if word.startswith(_FLOW) and "," not in word else None


def single(word: str, *, tasks: bool = False) -> Selection:
    """Parse a selector of exactly one job; or, with `tasks`, of one task. Raises ValueError with a message."""
    try:
        chosen = parse([word])
    except ValueError:
        raise ValueError(f"{word!r} names no job; write its number, or last") from None
    count = len(chosen.ids) + chosen.last + sum(part.last - part.first + 1 for part in chosen.tasks)
    if chosen.every or chosen.flows or count != 1:
        if chosen.tasks and len(chosen.tasks) == 1 and not chosen.ids:
            raise ValueError(f"{word!r} names several tasks; name a single one")
        raise ValueError(f"{word!r} may name several jobs; name one by its number, or last")
    if chosen.tasks and not tasks:
        raise ValueError(f"{word} names a task; name a job")
    return chosen
