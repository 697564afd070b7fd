"""zsched edit: change a recurring job.

Usage:
  zsched edit [options] <job> [<cmd>...]

Options that are not given stay unchanged. <cmd> is written as for `zsched submit` and replaces the old command; put
options before it. A run that a worker already has is not changed; later runs use the new values. <job> is an ID, or
last.

Options:
  --cron=FIELDS       Cron expression in UTC. Unless it is paused, the job fires next at the next such time.
  --name=NAME         Job name.
  --timeout=DURATION  Stop and fail a run that takes longer.
  --no-timeout        Remove the time limit.
  -q, --quiet         Print only the job ID.
  --json              Print the job as JSON.
  --url=URL           The scheduler: http://…, https://… or unix:/PATH (ZSCHED_URL).
  -h, --help          Show this.

Exit codes: 0 done; 1 the job has no schedule, its schedule has ended, or this is not allowed; 2 wrong usage; 3 there is
no such job; 4 no scheduler answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zsched.client.client import Changes, Client, Job, NotFound
from zsched.commands import exits, options, recurring, selection, table
from zsched.commands.line import command_line


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    arguments = options.parse(__doc__, argv, lead=1)
    chosen = options.single(__doc__, arguments)
    changes = read_changes(arguments)
    options.warn_of_own(__doc__, argv, options.words(arguments, "<cmd>"))
    with Client(options.text(arguments, "--url")) as client:
        number = selection.only(chosen, client)
        try:
            job = Job(client, {"id": number}).edit(**changes)
        except NotFound:
            raise exits.Failure(f"unknown job {number}", exits.NOT_FOUND) from None
    if arguments["--json"]:
        table.document(job.view)
    else:
        change = f" edited, {recurring.of_schedule(job)}{recurring.next_fire(job)}"
        print(f"{number}{'' if arguments['--quiet'] else change}")
    return 0


def read_changes(arguments: Mapping[str, options.Value]) -> Changes:
    """The changes that the options ask for. Wrong usage ends the program."""
    values = {option: options.text(arguments, option) for option in ("--cron", "--name", "--timeout")}
    for option, value in values.items():
        # A script's variable may be unset.
        if value is not None and not value.strip():
            options.fail(__doc__, f"{option} is empty")
    if arguments["--no-timeout"] and values["--timeout"] is not None:
        options.fail(__doc__, "--timeout and --no-timeout exclude each other")
    changes: Changes = {}
    if (words := options.words(arguments, "<cmd>")) != []:
        changes["command"] = command_line(words)
    if (cron := values["--cron"]) is not None:
        changes["schedule"] = cron
    if (name := values["--name"]) is not None:
        changes["name"] = name
    if values["--timeout"] is not None or arguments["--no-timeout"]:
        changes["timeout"] = values["--timeout"]
    if not changes:
        options.fail(__doc__, "nothing to change: give a command, --cron, --name, --timeout or --no-timeout")
    return changes
