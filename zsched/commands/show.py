"""zsched show: show the details of a job, or the jobs of a flow.

Usage:
  zsched show [options] <job>

<job> is an ID, or last; or a flow such as flow:12, whose jobs are shown as a tree with their states: each below the
last of the jobs that it waits for.

Options:
  --json      Print the job as JSON, with its last run; or the flow with all its jobs.
  --url=URL   The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help  Show this.

Exit codes: 0 done; 2 wrong usage; 3 there is no such job or flow; 4 no scheduler answers.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from zsched.client.client import Client, Job, View
from zsched.commands import exits, options, recurring, selection, table, tree
from zsched.commands.text import clean
from zsched.model.limits import JOBS_SHOWN_MAX

# The width of the longest name.
_NAME: Final = len("on disconnect")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    chosen = options.single_or_flow(__doc__, arguments)
    if chosen.flows:
        return show_flow(next(iter(chosen.flows)), arguments)
    with Client(options.text(arguments, "--url")) as client:
        job = client.get(selection.only(chosen, client))
    if arguments["--json"]:
        table.document(job.view)
        return 0
    for name, value in details(job):
        # Further lines of a value are indented.
        print(f"{name:<{_NAME}} " + clean(str(value)).replace("\n", "\n" + " " * (_NAME + 1)))
    return 0


def show_flow(flow: int, arguments: Mapping[str, options.Value]) -> int:
    """Print the jobs of a flow as a tree."""
    with Client(options.text(arguments, "--url")) as client:
        view = client.flow(flow)
        jobs = sorted(client.jobs(flow=flow), key=lambda job: job.id)
        if arguments["--json"]:
            table.document({**view, "jobs": [job.view for job in jobs]})
            return 0
        for job in [job for job in jobs if job.status == "failed"][:JOBS_SHOWN_MAX]:
            # A list shows no runs, which have the reason.
            job.refresh()
    print(tree.head(flow, jobs))
    for text in tree.lines(jobs):
        print(text)
    return 0


def details(job: Job) -> Iterator[tuple[str, object]]:
    """The lines of a job: pairs of a name and a value, in order."""
    view, run = job.view, job.run
    yield "job", job.id
    yield "name", job.name
    yield "command", job.command
    state = recurring.state(job)
    yield "status", exits.describe_end(job) if state == job.status else state
    if "why" in view:
        yield "waits", "{detail} ({code})".format(**view["why"])
    for key in (
        *("owner", "tags", "flow", "after", "queue", "priority", "limits", "unique"),
        *("schedule", "run_at", "deadline", "timeout", "kill_grace", "signal", "retries", "backoff", "retry_on"),
        *("on_lost", "on_disconnect", "crash_limit", "user"),
        *("argv", "cwd", "cwd_hint", "umask", "umask_hint", "stdin_bytes"),
    ):
        if key in view:
            yield key.replace("_", " "), _shown(job, key)
    for variable, value in (*view.get("env", {}).items(), *view.get("secret_env", {}).items()):
        yield "variable", f"{variable}={value}"
    yield "submitted", table.moment(view["created_at"])
    for name, key, why in (
        ("next fire", "next_fire_at", ""),
        ("held since", "held_at", "hold_reason"),
        ("cancel", "cancelled_at", "cancel_reason"),
    ):
        if key in view:
            yield name, table.moment(view[key]) + (f" ({view[why]})" if why in view else "")
    if not run:
        return
    yield "run", f"{run['run_id']} ({run['status']}, attempt {run['attempt']}{_counts(run)})"
    if "worker_id" in run:
        yield "worker", run["worker_id"]
    if run["status"] == "running" and run.get("probation"):
        yield "probation", "until it has lived for a second, because it was on a worker that died"
    for name, key in (("due", "due_at"), ("started", "start_time"), ("ended", "end_time")):
        if key in run:
            yield name, table.moment(run[key])
    if "detail" in run:
        yield "detail", run["detail"]


def _shown(job: Job, key: str) -> object:
    match key:
        case "backoff":
            return _pauses(job.view[key])
        case "limits":
            return ", ".join(f"{key}={runs}" for key, runs in job.view[key].items())
        case "retry_on" | "tags":
            return ", ".join(map(str, job.view[key]))
        case "after":
            return _after(job.view[key])
        case "argv":
            return shlex.join(job.view[key])
        case "run_at" | "deadline":
            return table.moment(job.view[key])
        case "schedule":
            return recurring.fields(job)
    return job.view[key]


def _after(entries: Sequence[str]) -> str:
    """What a job waits for; of very many the first ones."""
    more = len(entries) - JOBS_SHOWN_MAX
    return ", ".join(entries[:JOBS_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def _counts(run: View) -> str:
    """What a run's task counts besides attempts, as the end of a list; empty for a task that only ran."""
    from zsched.model.units import counted

    nouns = {"failures": "failure", "crashes": "crash", "returns": "return"}
    return "".join(f", {counted(run[key], noun)}" for key, noun in nouns.items() if key in run)


def _pauses(backoff: View) -> str:
    return "{initial}, times {factor:g} each time, at most {max}".format(**backoff)
