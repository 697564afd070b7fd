"""The common part of `zsched pause`, `resume` and `end`, and the displayed state of a recurring job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from zsched.client.client import Client, Job, NotFound, Refused
from zsched.commands import exits, options, selection, table

# Error codes of REST that concern one job only: the command goes on with the others.
_OF_ONE_JOB = ("no_schedule", "schedule_ended", "live", "not_owner")


def change(doc: str, argv: Sequence[str], do: Callable[[Job, Mapping[str, options.Value]], str]) -> int:
    """Run a command that changes schedules; returns its exit code. `do` changes a job and returns its new state."""
    arguments = options.parse(doc, argv, mixed=True)
    chosen = options.selected(doc, arguments)
    if chosen.every:
        options.fail(doc, "all: name the jobs by their numbers")
    changed: list[Job] = []
    code = 0
    with Client(options.text(arguments, "--url")) as client:
        for number in selection.resolve_last(chosen, client):
            job = Job(client, {"id": number})
            try:
                outcome = do(job, arguments)
            except NotFound:
                exits.say(f"unknown job {number}")
                code = exits.NOT_FOUND
            except Refused as error:
                if error.code not in _OF_ONE_JOB:
                    raise
                exits.say(str(error))
                code = code or exits.FAILED
            else:
                changed.append(job)
                if not arguments["--json"]:
                    print(number if arguments["--quiet"] else f"{number} {outcome}")
    if arguments["--json"]:
        table.document([job.view for job in changed])
    return code


def state(job: Job) -> str:
    """The status of a job; for a recurring job without a live run that of its schedule: scheduled, paused or ended."""
    # Older schedulers don't send `live`.
    if job.schedule is None or job.view.get("live") is not False:
        return job.status
    return of_schedule(job)


def of_schedule(job: Job) -> str:
    """The status of a recurring job's schedule."""
    if "ended_at" in job.view:
        return "ended"
    return "paused" if "paused_at" in job.view else "scheduled"


def fields(job: Job) -> str:
    """The cron fields of a recurring job, and since when it is paused or ended."""
    for key, words in (("ended_at", "ended"), ("paused_at", "paused since")):
        if key in job.view:
            return f"{job.schedule}, {words} {table.moment(job.view[key])}"
    return str(job.schedule)


def next_fire(job: Job) -> str:
    """The next fire of a job as the end of a line; empty if there is none."""
    at = job.view.get("next_fire_at")
    return f", next fire {table.moment(at)}" if at else ""
