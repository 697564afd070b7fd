"""zsched show: show the details of a job.

Usage:
  zsched show [options] <job>

<job> is an ID, or last.

Options:
  --json      Print the job as JSON, with its last run.
  --url=URL   The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help  Show this.

Exit codes: 0 done; 2 wrong usage; 3 there is no such job; 4 no scheduler answers.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from zsched.client.client import Client, Job, View
from zsched.commands import exits, options, recurring, selection, table
from zsched.commands.text import clean

# The width of the longest name.
_NAME: Final = len("on disconnect")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    chosen = options.single(__doc__, arguments)
    with Client(options.text(arguments, "--url")) as client:
        job = client.get(selection.only(chosen, client))
    if arguments["--json"]:
        table.document(job.view)
        return 0
    for name, value in details(job):
        # Further lines of a value are indented.
        print(f"{name:<{_NAME}} " + clean(str(value)).replace("\n", "\n" + " " * (_NAME + 1)))
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
        *("owner", "queue", "priority", "limits", "unique"),
        *("schedule", "run_at", "deadline", "timeout", "kill_grace", "signal", "retries", "backoff", "retry_on"),
        *("on_lost", "on_disconnect", "crash_limit", "user"),
        *("argv", "cwd", "cwd_hint", "umask", "umask_hint", "stdin_bytes", "files_bytes", "artifacts"),
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
        case "artifacts":
            return " ".join(job.view[key])
        case "retry_on":
            return ", ".join(map(str, job.view[key]))
        case "argv":
            return shlex.join(job.view[key])
        case "run_at" | "deadline":
            return table.moment(job.view[key])
        case "schedule":
            return recurring.fields(job)
    return job.view[key]


def _counts(run: View) -> str:
    """What a run's task counts besides attempts, as the end of a list; empty for a task that only ran."""
    from zsched.model.units import counted

    nouns = {"failures": "failure", "crashes": "crash", "returns": "return"}
    return "".join(f", {counted(run[key], noun)}" for key, noun in nouns.items() if key in run)


def _pauses(backoff: View) -> str:
    return "{initial}, times {factor:g} each time, at most {max}".format(**backoff)
