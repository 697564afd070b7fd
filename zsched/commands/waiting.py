"""Wait for jobs, with a progress bar on a terminal. Used by `zsched wait` and `zsched submit --wait`."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from zsched.client.client import HOLD_S, LOOK_S_MAX, PATIENCE_S, WaitTimeout
from zsched.commands import exits, text
from zsched.model.limits import FAILED_SHOWN_MAX

if TYPE_CHECKING:
    from zsched.client.client import Client, Job
    from zsched.client.task import Task
    from zsched.model.spans import Spans

# The remaining time is shown when this much of the wait has passed.
PACE_S_MIN: Final = 2.0


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


def wait_for_tasks(job: Job, timeout_s: float | None, *, quiet: bool) -> Job:
    """Wait for an array, with a line of progress on a terminal. Unless `quiet`, prints the tasks that fail. Raises
    WaitTimeout, NotFound, Unreachable.
    """
    deadline_s = math.inf if timeout_s is None else time.monotonic() + timeout_s
    printed: set[int] = set()
    with progress(job) as show:
        while True:
            left_s = max(0.0, deadline_s - time.monotonic())
            # Without a terminal nobody sees progress, but failures are printed as they happen.
            hold_s = min(HOLD_S if quiet and show is None else LOOK_S_MAX, left_s)
            job.refresh(PATIENCE_S, hold_s)
            if not quiet:
                print_failures(job, printed)
            if show is not None:
                show(job)
            if job.done:
                break
            if left_s == 0:
                raise WaitTimeout(f"job {job.id} had not ended after {timeout_s:g} s")
    failed = (job.counts or {}).get("failed", 0)
    if not quiet and failed > len(printed):
        command = f"zsched show {job.id} --status failed --limit {failed}"
        exits.say(f"the first {len(printed)} failed tasks are shown; `{command}` lists all")
    return job


def print_failures(job: Job, printed: set[int]) -> None:
    """Print the tasks that have failed and are not among the printed ones, up to FAILED_SHOWN_MAX of them in all."""
    failed = (job.counts or {}).get("failed", 0)
    if failed <= len(printed) or len(printed) >= FAILED_SHOWN_MAX:
        return
    for task in job.tasks("failed"):
        if task.index not in printed:
            printed.add(task.index)
            print(task_line(task), flush=True)
        if len(printed) == FAILED_SHOWN_MAX:
            return


def line(job: Job) -> str:
    """The result of a job as a line."""
    return f"{job.id} {exits.describe_end(job)}"


def task_line(task: Task) -> str:
    """The result of a task as a line, with its entry."""
    entry = "" if task.entry is None else f"  {text.line(task.entry)}"
    return f"{task.id} {exits.describe_task(task)}{entry}"


@contextmanager
def progress(job: Job) -> Iterator[Callable[[Job], None] | None]:
    """A bar with counts and the remaining time of an array, if stderr is a terminal. Yields a function that shows its
    present state.
    """
    if not sys.stderr.isatty():
        yield None
        return
    # Its import takes longer than the rest of a command.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console, pace = Console(stderr=True), Pace(time.monotonic(), ended(job))
    bar = Progress(
        BarColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    )
    with bar:
        shown = bar.add_task("", total=(job.counts or {}).get("total", 0))

        def show(now: Job) -> None:
            left_s = pace.left_s(time.monotonic(), ended(now), (now.counts or {}).get("total", 0))
            bar.update(shown, completed=ended(now), description=state_line(now.counts or {}, left_s))

        show(job)
        yield show


def ended(job: Job) -> int:
    """How many tasks of an array have ended."""
    return sum((job.counts or {}).get(status, 0) for status in ("success", "failed", "cancelled"))


class Pace(NamedTuple):
    """When a wait began, and how many tasks had ended by then."""

    begin_s: float
    ended: int

    def left_s(self, now_s: float, ended: int, total: int) -> float | None:
        """The time that the other tasks take at the speed until now; None if nobody can say."""
        passed_s, done = now_s - self.begin_s, ended - self.ended
        return passed_s * (total - ended) / done if done > 0 and passed_s >= PACE_S_MIN else None


def state_line(counts: Mapping[str, int], left_s: float | None = None) -> str:
    """The progress of an array: `4,980 succeeded · 20 failed · 0:42 left`."""
    words = {"success": "succeeded", "failed": "failed", "cancelled": "cancelled", "running": "running"}
    parts = [f"{counts[status]:,} {word}" for status, word in words.items() if counts.get(status)]
    if left_s is None:
        parts += [f"{counts['pending']:,} pending"] if counts.get("pending") else []
    else:
        minutes, seconds = divmod(round(left_s), 60)
        hours, minutes = divmod(minutes, 60)
        parts.append(f"{hours}:{minutes:02}:{seconds:02} left" if hours else f"{minutes}:{seconds:02} left")
    return " · ".join(parts)


@contextmanager
def hint_on_interrupt(left: Callable[[], object]) -> Iterator[None]:
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
