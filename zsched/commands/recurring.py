"""What `zsched pause`, `resume` and `end` share, and the words for the state of a recurring job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from zsched.client.client import Client, Job, NotFound, Refused
from zsched.commands import exits, options, selection, table

# Codes of REST that speak of one job; the other jobs that were named can still be changed.
_OF_ONE_JOB = ("no_schedule", "schedule_ended", "live", "not_owner")


def change(doc: str, argv: Sequence[str], do: Callable[[Job, Mapping[str, options.Value]], str]) -> int:
    """Run a command that changes schedules; returns its exit code. `do` changes a job and returns what became of it."""
    found = options.parse(doc, argv, mixed=True)
    chosen = options.selected(doc, found)
    if chosen.every:
        options.fail(doc, "all: name the jobs by their numbers")
    changed: list[Job] = []
    code = 0
    with Client(options.text(found, "--url")) as client:
        for number in selection.named(chosen, client):
            job = Job(client, {"id": number})
            try:
                outcome = do(job, found)
            except NotFound:
                exits.say(f"there is no job {number}")
                code = exits.NOT_FOUND
            except Refused as error:
                if error.code not in _OF_ONE_JOB:
                    raise
                exits.say(str(error))
                code = code or exits.FAILED
            else:
                changed.append(job)
                if not found["--json"]:
                    print(number if found["--quiet"] else f"{number} {outcome}")
    if found["--json"]:
        table.document([job.view for job in changed])
    return code


def state(job: Job) -> str:
    """The status of a job. While nothing of a recurring job is live, that of its schedule: scheduled, paused, ended."""
    # Releases before this one don't say whether it is live.
    if job.schedule is None or job.view.get("live") is not False:
        return job.status
    return of_schedule(job)


def of_schedule(job: Job) -> str:
    """The status of a recurring job's schedule."""
    if "ended_at" in job.view:
        return "ended"
    return "paused" if "paused_at" in job.view else "scheduled"


def fields(job: Job) -> str:
    """The cron fields of a recurring job, and since when they don't count."""
    for key, words in (("ended_at", "ended"), ("paused_at", "paused since")):
        if key in job.view:
            return f"{job.schedule}, {words} {table.moment(job.view[key])}"
    return str(job.schedule)


def next_fire(job: Job) -> str:
    """When a scheduled job fires next, for a line about it; empty when it does not."""
    at = job.view.get("next_fire_at")
    return f", next fire {table.moment(at)}" if at else ""
