"""Wait for jobs, with a progress bar on a terminal. Used by `zsched wait` and `zsched submit --wait`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from zsched.commands import exits
from zsched.model.limits import FAILED_SHOWN_MAX

if TYPE_CHECKING:
    from zsched.client.client import Client, Job
    from zsched.model.spans import Spans


def as_completed(client: Client, ids: Spans, timeout_s: float | None = None) -> Iterator[Job]:
    """The jobs in the order in which they end. Raises WaitTimeout, NotFound, Unreachable."""
    with bar(len(ids)) as advance:
        for job in client.as_completed(ids, timeout_s):
            advance(1, int(job.status == "failed"))
            yield job


def wait_for_counts(client: Client, ids: Spans, timeout_s: float | None, *, quiet: bool) -> Counter[str]:
    """Wait for many jobs; returns their number by status. Unless `quiet`, prints failed jobs and the counts. Raises as
    `as_completed` does.
    """
    left = ids
    counts: Counter[str] = Counter()
    with hint_on_interrupt(lambda: left), bar(len(ids)) as advance:
        for status, jobs in client.ended(ids, timeout_s):
            left -= jobs
            advance(len(jobs), len(jobs) if status == "failed" else 0)
            if status == "failed" and not quiet:
                for number in islice(jobs, max(0, FAILED_SHOWN_MAX - counts["failed"])):
                    print(line(client.get(number)), flush=True)
            counts[status] += len(jobs)
    if not quiet:
        print(
            ", ".join(f"{counts[status]} {status}" for status in ("success", "failed", "cancelled") if counts[status])
        )
        if counts["failed"] > FAILED_SHOWN_MAX:
            command = f"zsched list --status failed --limit {counts['failed']}"
            exits.say(f"the first {FAILED_SHOWN_MAX} failed jobs are shown; `{command}` lists more")
    return counts


def line(job: Job) -> str:
    """The result of a job as a line."""
    return f"{job.id} {exits.describe_end(job)}"


@contextmanager
def hint_on_interrupt(left: Callable[[], Spans]) -> Iterator[None]:
    """On Ctrl-C during a wait, print how to cancel the jobs that are left."""
    try:
        yield
    except KeyboardInterrupt:
        exits.say(f"no longer waiting; `zsched cancel {left()}` cancels what goes on")
        raise


@contextmanager
def bar(total: int) -> Iterator[Callable[[int, int], None]]:
    """A progress bar for several jobs, if stderr is a terminal. Yields a function to call with the numbers of jobs that
    have ended, and of those that failed.
    """
    if total < 2 or not sys.stderr.isatty():
        yield lambda _ended, _failed: None
        return
    # Its import takes longer than the rest of a command.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("jobs"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    # Lines to the same terminal appear above the bar; a redirected stdout stays as it is.
    redirect = sys.stdout.isatty()
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True, redirect_stdout=redirect) as progress:
        task = progress.add_task("", total=total)
        failures = 0

        def advance(ended: int, failed: int) -> None:
            nonlocal failures
            failures += failed
            progress.update(task, advance=ended, description=f"{failures} failed" if failures else "")

        yield advance
