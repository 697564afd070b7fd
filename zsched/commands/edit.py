"""zsched edit: change a recurring job, or one that waits for a worker.

Usage:
  zsched edit [--tag=TAG]... [options] <job> [<cmd>...]

Options that are not given stay unchanged. <cmd> is written as for `zsched submit` and replaces the old command; put
options before it. A run that a worker already has is not changed; later runs use the new values. <job> is an ID, or
last.

Options:
  --cron=FIELDS       Cron expression in UTC of a recurring job. Unless it is paused, it fires next at the next such
                      time.
  --name=NAME         Job name.
  --tag=TAG...        Tags instead of the old ones. May be repeated. An empty one removes them all.
  --priority=NUMBER   From -1000 to 1000; jobs with a higher one start first.
  --queue=QUEUE       Queue of the job.
  --timeout=DURATION  Stop and fail a run that takes longer.
  --no-timeout        Remove the time limit.
  --kill-grace=DURATION
                      Time between SIGTERM and SIGKILL when the job is stopped.
  --deadline=WHEN     Start no later: a time, or a duration from now. Not for a recurring job.
  --no-deadline       Remove the deadline.
  --retries=COUNT     Number of retries after a failure.
  --backoff=DURATION  Pause before the first retry; it doubles before each further one.
  --retry-on=FAILURES
                      Retry only these failures, as in `zsched submit`; `all` retries every failure.
  --crash-limit=COUNT
                      Fail the job after this many crashes of its workers, or `never`.
  --reason=TEXT       Why, for the event.
  -q, --quiet         Print only the job ID.
  --json              Print the job as JSON.
  --url=URL           The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help          Show this.

Exit codes: 0 done; 1 the job is running or has ended, its schedule has ended, or this is not allowed; 2 wrong usage;
3 there is no such job; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from zsched.client import template
from zsched.client.client import Changes, Client, Job, NotFound
from zsched.commands import exits, options, recurring, selection, table, turn
from zsched.commands.line import command_line

# Options whose value is that of the field with the same name.
_PLAIN = ("--name", "--queue", "--timeout", "--kill-grace", "--deadline")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, lead=1)
    chosen = options.single(__doc__, arguments)
    changes = read_changes(arguments)
    words = options.words(arguments, "<cmd>")
    options.warn_of_own(__doc__, argv, words)
    with Client(options.text(arguments, "--url")) as client:
        number = selection.only(chosen, client)
        if any(template.PLACE in word for word in words):
            changes["command"] = command_of(client.get(number), words)
        try:
            job = Job(client, {"id": number}).edit(options.text(arguments, "--reason") or "", **changes)
        except NotFound:
            raise exits.Failure(f"unknown job {number}", exits.NOT_FOUND) from None
    if arguments["--json"]:
        table.document(job.view)
    else:
        state = f", {recurring.of_schedule(job)}{recurring.next_fire(job)}" if job.schedule is not None else ""
        print(f"{number}{'' if arguments['--quiet'] else f' edited{state}'}")
    return 0


def command_of(job: Job, words: Sequence[str]) -> str:
    """The command line of words with `{}`, which in an array stands for the entry or the index of each task."""
    if not job.counts:
        return command_line(words)
    try:
        return template.for_words(words) if "entries" in job.view else template.for_indexes(words)
    except ValueError as error:
        options.fail(__doc__, str(error))


def read_changes(arguments: Mapping[str, options.Value]) -> Changes:
    """The changes that the options ask for. Wrong usage ends the program; REST checks the values."""
    values = {option: options.text(arguments, option) for option in (*_PLAIN, "--cron", "--backoff", "--retry-on")}
    options.demand_filled(__doc__, arguments, *values)
    for option in ("timeout", "deadline"):
        if arguments[f"--no-{option}"] and values[f"--{option}"] is not None:
            options.fail(__doc__, f"--{option} and --no-{option} exclude each other")
    changes: dict[str, object] = {
        option.removeprefix("--").replace("-", "_"): values[option] for option in _PLAIN if values[option] is not None
    }
    if (words := options.words(arguments, "<cmd>")) != []:
        changes["command"] = command_line(words)
    if (cron := values["--cron"]) is not None:
        changes["schedule"] = cron
    changes |= {option: None for option in ("timeout", "deadline") if arguments[f"--no-{option}"]}
    if tags := options.words(arguments, "--tag"):
        changes["tags"] = [tag for tag in tags if tag]
    if (failures := values["--retry-on"]) is not None:
        changes["retry_on"] = [] if failures == "all" else failures.split(",")
    if (pause := values["--backoff"]) is not None:
        changes["backoff"] = {"initial": pause}
    changes |= _numbers(arguments)
    if not changes:
        options.fail(__doc__, "nothing to change: give a command or an option such as --timeout; --help lists them")
    # The names of the options are those of the fields.
    return cast("Changes", changes)


def _numbers(arguments: Mapping[str, options.Value]) -> dict[str, object]:
    numbers: dict[str, object] = {}
    if (priority := turn.read_priority(__doc__, options.text(arguments, "--priority"))) is not None:
        numbers["priority"] = priority
    if (retries := options.number(__doc__, arguments, "--retries", least=0)) is not None:
        numbers["retries"] = retries
    if options.text(arguments, "--crash-limit") == "never":
        numbers["crash_limit"] = "never"
    elif (limit := options.number(__doc__, arguments, "--crash-limit", also=", or never")) is not None:
        numbers["crash_limit"] = limit
    return numbers
