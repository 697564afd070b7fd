"""zsched show: show the details of a job or a task, or the jobs of a flow.

Usage:
  zsched show [options] <job>

<job> is an ID, or last; or a task of an array, such as 12.3 or last.3. Of an array, the tasks that failed are listed,
then those that are running. Or it is a flow such as flow:12, whose jobs are shown as a tree with their states: each
below the last of the jobs that it waits for.

Options:
  --status=STATUS  Of an array: list the tasks that are pending, running, success, failed or cancelled.
  --limit=COUNT    Of an array: list at most COUNT tasks (20).
  --json           Print the job or the task as JSON, with its last run; with --status an array of tasks; or the flow
                   with all its jobs.
  --url=URL        The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help       Show this.

Exit codes: 0 done; 2 wrong usage; 3 there is no such job or flow; 4 no scheduler answers.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from zsched.client.client import Client, Job, View
from zsched.client.task import Task
from zsched.commands import exits, options, recurring, selection, table, tree
from zsched.commands.list import STATUSES
from zsched.commands.text import clean
from zsched.commands.waiting import state_line
from zsched.model.limits import JOBS_SHOWN_MAX, TASKS_SHOWN

# The width of the longest name.
_NAME: Final = len("on disconnect")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, mixed=True)
    chosen = options.single_or_flow(__doc__, arguments)
    status = options.choice(__doc__, arguments, "--status", STATUSES)
    limit = options.number(__doc__, arguments, "--limit") or TASKS_SHOWN
    as_json = bool(arguments["--json"])
    if chosen.flows:
        for name in ("--status", "--limit"):
            if arguments[name]:
                options.fail(__doc__, f"{name} is for arrays: name one by its number")
        return show_flow(next(iter(chosen.flows)), arguments)
    with Client(options.text(arguments, "--url")) as client:
        if chosen.tasks:
            (task,) = selection.tasks_of(client, *selection.resolve_tasks(chosen, client))
            show(task_details(task), task.view, as_json=as_json)
            return 0
        job = client.get(selection.only(chosen, client))
        if status is not None and not job.counts:
            options.fail(__doc__, f"--status is for arrays, which job {job.id} is not")
        tasks = list(chosen_tasks(job, status, limit)) if job.counts and (status or not as_json) else []
    if as_json and status is not None:
        table.document([task.view for task in tasks])
        return 0
    show(details(job), job.view, as_json=as_json)
    if not as_json and (tasks or status):
        print()
        list_tasks(job, tasks, status)
    return 0


def show(lines: Iterator[tuple[str, object]], view: View, *, as_json: bool) -> None:
    """Print names and values, or the JSON."""
    if as_json:
        table.document(view)
        return
    for name, value in lines:
        # Further lines of a value are indented.
        print(f"{name:<{_NAME}} " + clean(str(value)).replace("\n", "\n" + " " * (_NAME + 1)))


def chosen_tasks(job: Job, status: str | None, limit: int) -> Iterator[Task]:
    """At most `limit` tasks of an array: those with a status; else those that failed, and then those that run."""
    for wanted in (status,) if status else ("failed", "running"):
        if (job.counts or {}).get(wanted):
            for task in islice(job.tasks(wanted), limit):
                limit -= 1
                yield task


def list_tasks(job: Job, tasks: Sequence[Task], status: str | None) -> None:
    """Print tasks as a table, and how to list more."""
    columns: dict[str, list[object]] = {
        "task": [task.id for task in tasks],
        "status": [exits.describe_task(task) for task in tasks],
        "worker": [task.run.get("worker_id") for task in tasks],
        "attempts": [attempts if (attempts := task.run.get("attempt", 0)) > 1 else None for task in tasks],
        "entry": [task.entry for task in tasks],
    }
    filled = {name: cells for name, cells in columns.items() if any(cell is not None for cell in cells)}
    table.show([*filled], [*zip(*filled.values(), strict=True)])
    there = sum((job.counts or {}).get(wanted, 0) for wanted in ((status,) if status else ("failed", "running")))
    if there > len(tasks):
        exits.say(f"{len(tasks)} of {there:,} tasks are listed; --limit {there} lists all")


def task_details(task: Task) -> Iterator[tuple[str, object]]:
    """The lines of a task: pairs of a name and a value, in order."""
    yield "task", task.id
    if task.entry is not None:
        yield "entry", task.entry
    yield "status", exits.describe_task(task)
    yield from run_details(task.run)


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
    yield "status", exits.describe_end(job) if state == job.status and not job.counts else state
    if job.counts:
        yield "tasks", state_line(job.counts)
    if "why" in view:
        yield "waits", "{detail} ({code})".format(**view["why"])
    for key in (
        *("owner", "tags", "flow", "after", "queue", "labels", "priority", "limits", "unique"),
        *("array", "entries", "max_fails", "schedule", "run_at", "deadline", "timeout", "kill_grace", "signal"),
        *("retries", "backoff", "retry_on"),
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
        ("being removed since", "removing_at", ""),
    ):
        if key in view:
            yield name, table.moment(view[key]) + (f" ({view[why]})" if why in view else "")
    # Of an array, the last run tells little.
    yield from run_details({} if job.counts else run)


def run_details(run: View) -> Iterator[tuple[str, object]]:
    """The lines of a run; none for an empty one."""
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
        case "labels" | "limits":
            return ", ".join(f"{name}={value}" for name, value in job.view[key].items())
        case "artifacts":
            return " ".join(job.view[key])
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
