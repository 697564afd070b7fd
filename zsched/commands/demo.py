"""zsched demo: see zsched at work, and leave nothing behind.

Usage:
  zsched demo [options]

Starts a scheduler and two workers on free ports of this host, with all files in a temporary folder. Runs 21 jobs over
REST, prints their results, and stops everything.

Options:
  -h, --help  Show this.

Exit codes: 0 all jobs succeeded; 1 a job or something else failed, and the last lines of the logs are shown;
130 interrupted.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from zsched.client.client import ClientError, Job
from zsched.client.cluster import LOOK_S, Cluster, ClusterError, private, stop_on_signals
from zsched.commands import options
from zsched.model.limits import DEMO_S_MAX
from zsched.model.units import counted

WORKERS: Final = 2
SLOTS: Final = 2
JOBS: Final = (
    ("hello-job", "echo 'Hello World'"),
    *((f"square-{number}", f"sleep 0.2; echo {number} squared is $(({number} * {number}))") for number in range(1, 21)),
)


# Without a terminal, progress is one line per LINE_JOBS jobs.
LINE_JOBS: Final = 7

# Width of the table when stdout is not a terminal.
COLUMNS: Final = 100


@dataclass(frozen=True, slots=True)
class Row:
    """A job's result, as a row of the table."""

    job_id: int
    name: str
    status: str
    worker: str
    seconds: float
    output: str


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    options.parse(__doc__, argv, mixed=True)
    stop_on_signals()
    err = Console(stderr=True, highlight=False)
    with (
        tempfile.TemporaryDirectory(prefix="zsched-demo-") as folder,
        Cluster(private(Path(folder), WORKERS, SLOTS)) as cluster,
    ):
        try:
            rows, seconds = play(cluster, err)
            unclean = stop(cluster)
        except (ClusterError, ClientError) as error:
            stop(cluster)
            print(cluster.tail(), file=sys.stderr)
            print(f"zsched demo: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            stop(cluster)
            raise
        show(rows)
        failed = [row for row in rows if row.status != "success"]
        if failed or unclean:
            print(cluster.tail(), file=sys.stderr)
        for name in unclean:
            print(f"zsched demo: {name} did not end cleanly", file=sys.stderr)
        say(err, f"{len(rows) - len(failed)} of {len(rows)} jobs succeeded, in {seconds:.1f} s on {WORKERS} workers")
        return 1 if failed or unclean else 0


def play(cluster: Cluster, err: Console) -> tuple[list[Row], float]:
    """Start the cluster and run the jobs. Returns their rows, and the seconds from the first submit to the last end."""
    say(err, f"starting a scheduler and {WORKERS} workers")
    cluster.start()
    begin = time.monotonic()
    jobs = [cluster.client.submit(command, name=name) for name, command in JOBS]
    say(err, f"submitted {len(jobs)} jobs")
    follow(jobs, err)
    return [row(job) for job in jobs], time.monotonic() - begin


def follow(jobs: Sequence[Job], err: Console) -> None:
    """Show progress until every job is done. Raises ClusterError when that takes longer than DEMO_S_MAX."""
    deadline = time.monotonic() + DEMO_S_MAX
    columns = (TextColumn("jobs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    done = 0
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        bar = progress.add_task("jobs", total=len(jobs))
        while done < len(jobs):
            before, done = done, sum(job.done or job.refresh().done for job in jobs)
            progress.update(bar, completed=done)
            if not err.is_terminal and done // LINE_JOBS > before // LINE_JOBS:
                say(err, f"{done} of {len(jobs)} jobs are done")
            if time.monotonic() > deadline:
                raise ClusterError(f"{counted(len(jobs) - done, 'job')} not done within {DEMO_S_MAX:.0f} s")
            time.sleep(LOOK_S)


def row(job: Job) -> Row:
    """The row of a job that has ended."""
    start, end = job.run.get("start_time"), job.run.get("end_time")
    duration = datetime.fromisoformat(end) - datetime.fromisoformat(start) if start and end else None
    return Row(
        job_id=job.id,
        name=job.name,
        status=job.status,
        worker=job.run.get("worker_id") or "",
        seconds=duration.total_seconds() if duration else 0.0,
        output=job.logs().strip(),
    )


def show(rows: Sequence[Row]) -> None:
    """Print the table to stdout, with the colours and the width of the terminal if there is one."""
    out = Console(highlight=False)
    if not out.is_terminal:
        out = Console(highlight=False, width=COLUMNS)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("job", "name", "status", "worker", "seconds", "output"):
        table.add_column(name, justify="right" if name in ("job", "seconds") else "left")
    for each in rows:
        style = "green" if each.status == "success" else "red"
        cells = (str(each.job_id), each.name, each.status, each.worker, f"{each.seconds:.2f}", each.output)
        # As Text, since a cell of plain str may hold markup.
        table.add_row(*(Text(cell, style if cell is each.status else "") for cell in cells))
    out.print(table)


def stop(cluster: Cluster) -> list[str]:
    """Stop the cluster, and ignore signals meanwhile: a second Ctrl-C must not leave processes behind."""
    before = [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    try:
        return cluster.stop()
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), before, strict=True):
            signal.signal(number, handler)


def say(err: Console, sentence: str) -> None:
    """Print a line of progress to stderr."""
    err.print(f"zsched demo: {sentence}", markup=False, soft_wrap=True)
