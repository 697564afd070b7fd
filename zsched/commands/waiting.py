"""Jobs as they end, with a progress bar on a terminal. Used by `zsched wait` and `zsched submit --wait`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from zsched.commands import exits

if TYPE_CHECKING:
    from zsched.client import Client, Job


def each(client: Client, ids: Sequence[int], timeout_s: float | None = None) -> Iterator[Job]:
    """The jobs in the order in which they end. Raises WaitTimeout, NotFound, Unreachable."""
    with bar(len(ids)) as advance:
        for job in client.as_completed(ids, timeout_s):
            advance()
            yield job


def line(job: Job) -> str:
    """How a job ended, as a line of results."""
    return f"{job.id} {exits.ending(job)}"


@contextmanager
def bar(total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr for several jobs, where that is a terminal; gives what to call when one has ended."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    # It takes longer to import than all the rest.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("jobs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Lines that a terminal shows too stand above the bar; those that go elsewhere still go there.
    redirect = sys.stdout.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=redirect) as progress:
        task = progress.add_task("jobs", total=total)
        yield lambda: progress.advance(task)
