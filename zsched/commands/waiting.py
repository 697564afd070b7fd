"""Jobs as they end, with a progress bar on a terminal. Used by `zsched wait` and `zsched submit --wait`."""

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


def each(client: Client, ids: Spans, timeout_s: float | None = None) -> Iterator[Job]:
    """The jobs in the order in which they end. Raises WaitTimeout, NotFound, Unreachable."""
    with bar(len(ids)) as advance:
        for job in client.as_completed(ids, timeout_s):
            advance(1, int(job.status == "failed"))
            yield job


def sums(client: Client, ids: Spans, timeout_s: float | None, *, quiet: bool) -> Counter[str]:
    """Wait for many jobs; returns how many ended with each status. Unless it is `quiet`, prints those that failed and
    the sums. Raises as `each` does.
    """
    left = ids
    counts: Counter[str] = Counter()
    with telling(lambda: left), bar(len(ids)) as advance:
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
    """How a job ended, as a line of results."""
    return f"{job.id} {exits.ending(job)}"


@contextmanager
def telling(left: Callable[[], Spans]) -> Iterator[None]:
    """Around a wait: after Ctrl-C a line says how to cancel the jobs that are left."""
    try:
        yield
    except KeyboardInterrupt:
        exits.say(f"no longer waiting; `zsched cancel {left()}` cancels what goes on")
        raise


@contextmanager
def bar(total: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr for several jobs, where that is a terminal. Gives what to call when some have ended: with how
    many, and how many of them failed.
    """
    if total < 2 or not sys.stderr.isatty():
        yield lambda _ended, _failed: None
        return
    # It takes longer to import than all the rest.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("jobs"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    # Lines that a terminal shows too stand above the bar; those that go elsewhere still go there.
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
